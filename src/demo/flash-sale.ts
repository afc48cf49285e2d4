import type { PlaceOrderResponse } from "../../gen/holdfast/v1/order_service_pb.js";
import { AdjustReason, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { type HoldfastClient, isUndecided, refusalOf } from "../client/index.ts";
import { makeId } from "../shop/ids.ts";
import { inParallel } from "./in-parallel.ts";
import { countMembers, isImpatient, memberOf, priceMinor, type SalePlan, walletOf } from "./plan.ts";

/** Calls that are under way at the same time. */
export const inFlightCount = 256;
/** HTTP/2 connections they share. */
export const connectionCount = 8;
/** The one product. */
export const sku = "console";

/** A sale on its way; the progress line reads it while it changes. */
export interface SaleProgress {
  /** Members whose wallet is ready. */
  readyCount: number;
  /** Buyers who have their answer. */
  answeredCount: number;
  soldCount: number;
  /** Calls that were repeated because they had no answer. */
  repeatedCount: number;
}

/** What both halves of a sale need. */
export interface SaleOptions {
  readonly plan: SalePlan;
  readonly shopId: string;
  readonly client: HoldfastClient;
  readonly progress: SaleProgress;
  /** Aborted when the demo is interrupted; ends all calls too. */
  readonly signal: AbortSignal;
}

/** Makes the shop, its product and its stock, and the members with their wallets; returns the last commit's position. */
export async function setUpSale(options: SaleOptions): Promise<number> {
  const { plan, shopId, client, progress } = options;
  await client.admin.createShop({ shopId, currencyCode: "USD" });
  await client.inventory.putProduct({ shopId, sku, title: "Game console", priceMinor: BigInt(priceMinor) });
  if (plan.stockCount > 0) {
    const deltaCount = BigInt(plan.stockCount);
    await client.inventory.adjustStock({ shopId, sku, deltaCount, reason: AdjustReason.INITIAL });
  }
  let last = 0n;
  await inParallel(countMembers(plan), inFlightCount, async (member) => {
    const userId = userIdOf(member);
    await client.users.createUser({ shopId, userId });
    const deposit = { shopId, userId, amountMinor: BigInt(walletOf(member)), reference: "demo" };
    const { commit } = await client.users.depositFunds(deposit);
    last = commit !== undefined && commit.position > last ? commit.position : last;
    progress.readyCount += 1;
  });
  return Number(last);
}

/** An order as its buyer was told of it. */
export interface ToldOrder {
  readonly orderId: string;
  readonly unitCount: number;
  /** Charged to the wallet; 0 for a guest. */
  readonly chargedMinor: number;
  readonly position: number;
}

/** What the buyers were told. */
export interface SaleResult {
  readonly orders: readonly ToldOrder[];
  /** Refused buyers by reason. */
  readonly refusals: ReadonlyMap<string, number>;
  /** Buyers who never got to know what became of their order. */
  readonly unknownCount: number;
  /** Impatient buyers: sent everything twice. */
  readonly impatientCount: number;
  /** Impatient buyers whose two answers contradict each other. */
  readonly contradictedCount: number;
  /** Calls that were repeated because they had no answer. */
  readonly repeatedCount: number;
  /** Answers, two for impatient buyers. */
  readonly answerCount: number;
  readonly durationMs: number;
  /** From sending the order until its answer, over repetitions. */
  readonly latenciesMs: readonly number[];
}

/** Lets every buyer order one unit, 256 at a time. */
export async function runSale(options: SaleOptions): Promise<SaleResult> {
  const { plan, progress, signal } = options;
  const orders: ToldOrder[] = [];
  const refusals = new Map<string, number>();
  const latenciesMs: number[] = [];
  const counts = { unknownCount: 0, impatientCount: 0, contradictedCount: 0 };
  const repeatedBefore = progress.repeatedCount;
  const order = createBuyer(options, latenciesMs);
  const startedMs = performance.now();
  await inParallel(plan.buyerCount, inFlightCount, async (buyer) => {
    const answers = await order(buyer);
    const [answer] = answers;
    counts.impatientCount += answers.length - 1;
    counts.contradictedCount += answers.every((each) => isSameAnswer(each, answer)) ? 0 : 1;
    if (answer.kind === "sold") {
      orders.push(answer.order);
      progress.soldCount += answer.order.unitCount;
    } else if (answer.kind === "refused") {
      refusals.set(answer.reason, (refusals.get(answer.reason) ?? 0) + 1);
    } else {
      counts.unknownCount += 1;
    }
    progress.answeredCount += 1;
  });
  signal.throwIfAborted();
  const durationMs = performance.now() - startedMs;
  const repeatedCount = progress.repeatedCount - repeatedBefore;
  return { orders, refusals, ...counts, repeatedCount, answerCount: latenciesMs.length, durationMs, latenciesMs };
}

type Answer =
  | { readonly kind: "sold"; readonly order: ToldOrder }
  | { readonly kind: "refused"; readonly reason: string }
  | { readonly kind: "unknown" };

function createBuyer({ plan, shopId, client, signal }: SaleOptions, latenciesMs: number[]) {
  const placeOrder = async (buyer: number, requestId: string): Promise<Answer> => {
    const request = { shopId, requestId, lines: [{ sku, quantity: 1 }], ...paymentOf(memberOf(plan, buyer)) };
    const sentMs = performance.now();
    try {
      return { kind: "sold", order: toldOrder(await client.orders.placeOrder(request)) };
    } catch (error) {
      signal.throwIfAborted();
      const refusal = isUndecided(error) ? undefined : refusalOf(error);
      return refusal === undefined ? { kind: "unknown" } : { kind: "refused", reason: refusal.reason };
    } finally {
      latenciesMs.push(performance.now() - sentMs);
    }
  };
  return async (buyer: number): Promise<readonly [Answer, ...Answer[]]> => {
    const requestId = makeId();
    if (isImpatient(buyer)) {
      return Promise.all([placeOrder(buyer, requestId), placeOrder(buyer, requestId)]);
    }
    return [await placeOrder(buyer, requestId)];
  };
}

function paymentOf(member: number | undefined) {
  return member === undefined
    ? { paymentMethod: PaymentMethod.NONE }
    : { paymentMethod: PaymentMethod.WALLET, userId: userIdOf(member) };
}

function userIdOf(member: number): string {
  return `member-${member + 1}`;
}

function toldOrder({ order, commit }: PlaceOrderResponse): ToldOrder {
  return {
    orderId: order?.orderId ?? "",
    unitCount: Number(order?.itemCount),
    chargedMinor: order?.paymentMethod === PaymentMethod.WALLET ? Number(order.amountMinor) : 0,
    position: Number(commit?.position),
  };
}

/** Two answers to one request id: the same order, or twice none. */
function isSameAnswer(left: Answer, right: Answer): boolean {
  if (left.kind === "sold" && right.kind === "sold") {
    return left.order.orderId === right.order.orderId && left.order.position === right.order.position;
  }
  return left.kind === right.kind;
}
