import { StartError } from "../start-error.ts";

/** What the flash sale consists of. */
export interface SalePlan {
  readonly buyerCount: number;
  readonly stockCount: number;
  /** `host:port` of a Holdfast that runs already; undefined: the demo starts its own. */
  readonly target: string | undefined;
}

/** The command's options as they were typed. */
export interface DemoValues {
  readonly buyers?: string;
  readonly stock?: string;
  readonly target?: string;
}

/** Price of the one product, in cents. */
export const priceMinor = 49_00;
/** What a wallet is filled with, in cents: one unit, and nearly a second one. */
export const fullWalletMinor = 90_00;
/** What the wallet of every twentieth buyer is filled with, in cents: too little for one unit. */
export const smallWalletMinor = 20_00;

const maxBuyerCount = 1_000_000;
const maxStockCount = 1_000_000_000;

/** Reads the options. Throws a StartError for a value that makes no sale. */
export function parsePlan({ buyers = "500", stock = "100", target }: DemoValues): SalePlan {
  if (target !== undefined && !/^[^\s:/]+:\d{1,5}$|^\[[0-9A-Fa-f:.]+\]:\d{1,5}$/.test(target)) {
    throw new StartError(`--target is ${JSON.stringify(target)}, accepted is host:port, such as 127.0.0.1:50051`);
  }
  return {
    buyerCount: parseCount("--buyers", buyers, 1, maxBuyerCount),
    stockCount: parseCount("--stock", stock, 0, maxStockCount),
    target,
  };
}

function parseCount(option: string, text: string, min: number, max: number): number {
  const count = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (count >= min && count <= max) {
    return count;
  }
  throw new StartError(`${option} is ${JSON.stringify(text)}, accepted is a whole number from ${min} to ${max}`);
}

/** Whether a buyer, counted from 0, has too little money. */
export function isPoor(buyer: number): boolean {
  return buyer % 20 === 19;
}

/** Whether a buyer, counted from 0, is impatient: sends the order twice at the same moment, with one request id. */
export function isImpatient(buyer: number): boolean {
  return buyer % 10 === 4;
}

/** What a buyer's wallet is filled with before the sale, in cents. */
export function walletOf(buyer: number): number {
  return isPoor(buyer) ? smallWalletMinor : fullWalletMinor;
}

/** What must come out, known beforehand: stock and money are all that can end the sale. */
export interface Expectation {
  readonly soldCount: number;
  readonly depositedMinor: number;
}

/** Works out what must come out of a sale. */
export function expect({ buyerCount, stockCount }: SalePlan): Expectation {
  const poorCount = Math.floor(buyerCount / 20);
  const richCount = buyerCount - poorCount;
  return {
    soldCount: Math.min(stockCount, richCount),
    depositedMinor: poorCount * smallWalletMinor + richCount * fullWalletMinor,
  };
}
