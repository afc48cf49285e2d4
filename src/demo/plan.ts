import { StartError } from "../start-error.ts";
import { parseTarget } from "../target.ts";

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
/** What a member's wallet is filled with, in cents: one unit, and nearly a second one. */
export const fullWalletMinor = 90_00;
/** What the wallet of every twentieth member is filled with, in cents: too little for one unit. */
export const smallWalletMinor = 20_00;

const maxBuyerCount = 1_000_000;
const maxStockCount = 1_000_000_000;

/** Reads the options. Throws a StartError for a value that makes no sale. */
export function parsePlan({ buyers = "500", stock = "100", target }: DemoValues): SalePlan {
  return {
    buyerCount: parseCount("--buyers", buyers, 1, maxBuyerCount),
    stockCount: parseCount("--stock", stock, 0, maxStockCount),
    target: target === undefined ? undefined : parseTarget(target),
  };
}

function parseCount(option: string, text: string, min: number, max: number): number {
  const count = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (count >= min && count <= max) {
    return count;
  }
  throw new StartError(`${option} is ${JSON.stringify(text)}, accepted is a whole number from ${min} to ${max}`);
}

/** Members at most: making one is two commits, and they should not take longer than the sale. */
const maxMemberCount = 2000;

/** Buyers who have a user and pay from its wallet; the others are guests who pay elsewhere. */
export function countMembers({ buyerCount }: SalePlan): number {
  return Math.min(buyerCount, maxMemberCount);
}

/** Which member a buyer is, both counted from 0; undefined for a guest. Members are spread evenly over the buyers. */
export function memberOf(plan: SalePlan, buyer: number): number | undefined {
  const member = Math.ceil((buyer * countMembers(plan)) / plan.buyerCount);
  return Math.floor((member * plan.buyerCount) / countMembers(plan)) === buyer ? member : undefined;
}

/** Whether a member, counted from 0, has too little money. */
export function isPoor(member: number): boolean {
  return member % 20 === 19;
}

/** Whether a buyer, counted from 0, is impatient: sends the order twice at the same moment, with one request id. */
export function isImpatient(buyer: number): boolean {
  return buyer % 10 === 4;
}

/** What a member's wallet is filled with before the sale, in cents. */
export function walletOf(member: number): number {
  return isPoor(member) ? smallWalletMinor : fullWalletMinor;
}

/** What must come out, known beforehand: stock and money are all that can end the sale. */
export interface Expectation {
  readonly soldCount: number;
  readonly depositedMinor: number;
}

/** Works out what must come out of a sale. */
export function expect(plan: SalePlan): Expectation {
  const memberCount = countMembers(plan);
  const poorCount = Math.floor(memberCount / 20);
  return {
    soldCount: Math.min(plan.stockCount, plan.buyerCount - poorCount),
    depositedMinor: poorCount * smallWalletMinor + (memberCount - poorCount) * fullWalletMinor,
  };
}
