import type { Kysely } from "kysely";
import type { ShopHead } from "../postgres/flush-statement.ts";
import type { Database } from "../postgres/schema.ts";
import type { LostTail } from "./lost-tail.ts";
import {
  catchUpStep,
  endedHoldSteps,
  holdSteps,
  knownOrderSteps,
  limitSteps,
  logSteps,
  orderSteps,
  requestSteps,
  type Step,
  stockSteps,
  subscriptionSteps,
  tierCountSteps,
  tierSteps,
  totalSteps,
  userSteps,
} from "./rebuild-steps.ts";
import type { Touched } from "./touched.ts";

/**
 * The fast way back after Redis lost its newest commits, or went on without Postgres: its state is that after its own last
 * commit, so only what the lost and the divergent commits touched differs from Postgres. That is forgotten first, all of it,
 * and then brought from Postgres the same way as in a full rebuild.
 */
export interface Reload {
  readonly tail: LostTail;
  readonly touched: Touched;
}

/** A step that takes things out. */
export interface ForgetStep {
  /** Its kind in `lua/forget.lua`. */
  readonly kind: string;
  readonly ids: readonly string[];
}

/** Things that one script takes out; each costs it 2 to 20 us. */
const forgottenIds = 300;

/** What Redis has to forget. */
export function* forgetSteps({ tail, touched }: Reload): Generator<ForgetStep> {
  const { skus, holds, orders, users, tiers, limits, requests } = touched;
  for (const [kind, ids] of Object.entries({ skus, holds, orders, users, tiers, limits, requests })) {
    for (let from = 0; from < ids.length; from += forgottenIds) {
      yield { kind, ids: ids.slice(from, from + forgottenIds) };
    }
  }
  // A stream's ids never go back: where Redis had commits of its own, the log is written anew.
  if (tail.divergent.length > 0) {
    yield { kind: "log", ids: [] };
  }
}

/** What Postgres has of it, read in the transaction that holds the shop's row lock. The last step is `catch_up`. */
export async function* reloadSteps(
  trx: Kysely<Database>,
  shopId: string,
  head: ShopHead,
  { tail, touched }: Reload,
  marginCommits: number,
): AsyncGenerator<Step> {
  const { skus, holds, orders, users, tiers, buyers } = touched;
  yield* stockSteps(trx, shopId, skus);
  yield* holdSteps(trx, shopId, holds);
  yield* orderSteps(trx, shopId, orders);
  yield* tierSteps(trx, shopId, tiers);
  yield* userSteps(trx, shopId, users);
  yield* subscriptionSteps(trx, shopId, users);
  yield* totalSteps(trx, shopId);
  yield* tierCountSteps(trx, shopId, users);
  yield* limitSteps(trx, shopId, buyers);
  yield* requestSteps(trx, shopId, tail.commonPosition);
  yield* knownOrderSteps(trx, shopId, orders);
  yield* endedHoldSteps(trx, shopId, 0, holds);
  const isKept = tail.divergent.length === 0;
  yield* logSteps(trx, shopId, isKept ? tail.commonPosition + 1 : Math.max(1, head.position - marginCommits));
  yield await catchUpStep(trx, shopId, head);
}
