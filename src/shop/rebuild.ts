import type { Kysely } from "kysely";
import type { ShopHead } from "../postgres/flush-statement.ts";
import type { Database } from "../postgres/schema.ts";
import { findShop } from "../postgres/shops.ts";
import {
  endedHoldSteps,
  headStep,
  holdSteps,
  limitSteps,
  logSteps,
  orderSteps,
  recentOrderSteps,
  requestSteps,
  type Step,
  statsSteps,
  stockSteps,
  subscriptionSteps,
  tierSteps,
  userSteps,
} from "./rebuild-steps.ts";

/** What decides how much a rebuild brings along. */
export interface RebuildOptions {
  readonly memoryCount: number;
  readonly marginCommits: number;
  /** Whether the log was cleared and its newest entries have to be written. */
  readonly writeLog: boolean;
}

/**
 * Everything Redis needs of a shop, read from Postgres in the transaction that holds the shop's row lock, in steps that
 * each fit one short script. The last step is `head`.
 */
export async function* rebuildSteps(
  trx: Kysely<Database>,
  shopId: string,
  head: ShopHead,
  options: RebuildOptions,
): AsyncGenerator<Step> {
  yield* stockSteps(trx, shopId);
  yield* holdSteps(trx, shopId);
  yield* orderSteps(trx, shopId);
  yield* tierSteps(trx, shopId);
  yield* userSteps(trx, shopId);
  yield* subscriptionSteps(trx, shopId);
  yield* statsSteps(trx, shopId);
  yield* limitSteps(trx, shopId);
  const horizon = Math.max(0, head.position - options.memoryCount);
  yield* requestSteps(trx, shopId, horizon);
  yield* recentOrderSteps(trx, shopId, horizon);
  yield* endedHoldSteps(trx, shopId, horizon);
  if (options.writeLog) {
    yield* logSteps(trx, shopId, Math.max(1, head.position - options.marginCommits));
  }
  yield await headStep(trx, shopId, head, horizon);
}

/** What a rebuild has to bring, as far as counters tell: things by the step that brings them. */
export type Extent = Readonly<Record<string, number>>;

/** What {@link rebuildSteps} brings. Ended holds and commits without a request id count too. */
export async function measureRebuild(
  trx: Kysely<Database>,
  shopId: string,
  head: ShopHead,
  { memoryCount, marginCommits, writeLog }: RebuildOptions,
): Promise<Extent> {
  const shop = await findShop(trx, shopId);
  return {
    stock: shop?.product_count ?? 0,
    holds: shop?.open_hold_count ?? 0,
    orders: shop?.open_order_count ?? 0,
    users: shop?.user_count ?? 0,
    recent: Math.min(head.position, memoryCount),
    log: writeLog ? Math.min(head.position, marginCommits + 1) : 0,
  };
}
