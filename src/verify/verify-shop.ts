import type { Kysely } from "kysely";
import { noteVerification } from "../postgres/looks.ts";
import type { Database } from "../postgres/schema.ts";
import { Refusal } from "../refusal.ts";
import type { Scripts } from "../shop/scripts.ts";
import type { Shop } from "../shop/shop.ts";
import type { Caller } from "../shop/waiters.ts";
import type { Discrepancy } from "./discrepancy.ts";
import { EpochChanged } from "./looks.ts";
import { createModel } from "./model.ts";
import { verifyPostgres } from "./postgres-side.ts";
import { verifyRedis } from "./redis-side.ts";
import { Run } from "./run.ts";

/** What a verification needs. */
export interface VerifyOptions {
  readonly shop: Pick<Shop, "id" | "read">;
  readonly db: Kysely<Database>;
  readonly scripts: Scripts;
  /** How long a request id is kept, in milliseconds. */
  readonly requestRetentionMs: number;
  /** Who asked; when the call ends, so does the work. */
  readonly caller: Caller;
  /**
   * Rests so many times as long as each page of the past and each look at Redis took, up to 250 ms. Default 0: somebody waits for the
   * outcome.
   */
  readonly pageRestShare?: number;
}

/** How far a verification is, and what it found since the last message. */
export interface Progress {
  readonly checkedCount: number;
  readonly discrepancies: readonly Discrepancy[];
  readonly done: boolean;
}

/** How often the caller hears how far it is, in milliseconds. */
const progressMs = 1000;

/** Discrepancies in one message at most. */
const messageCount = 100;

/** How often the live state is looked at from the start because the shop got another epoch in the middle. */
const maxRestarts = 10;

/**
 * Recomputes a shop from its event log and compares both stores with the result, while the shop sells. Memory: about
 * 300 MB per 1,000,000 commits, most of it for orders and holds.
 */
export async function* verifyShop(options: VerifyOptions): AsyncGenerator<Progress> {
  const found: Discrepancy[] = [];
  const state = { ended: false, abandoned: false, wake: () => {} };
  const run = new Run(
    options.db,
    createModel(options.shop.id),
    (discrepancy) => {
      found.push(discrepancy);
      state.wake();
    },
    () => {
      options.caller.throwIfEnded();
      if (state.abandoned) {
        throw new Error("nobody listens to this verification any more");
      }
    },
    options.pageRestShare,
  );
  const outcome = verify(run, options)
    .then(
      () => undefined,
      (error: unknown) => ({ error }),
    )
    .finally(() => {
      state.ended = true;
      state.wake();
    });
  try {
    while (!state.ended || found.length > 0) {
      if (found.length === 0) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, progressMs);
          state.wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      if (found.length > 0 || !state.ended) {
        yield { checkedCount: run.checkedCount, discrepancies: found.splice(0, messageCount), done: false };
      }
    }
    const failure = await outcome;
    if (failure !== undefined) {
      throw failure.error;
    }
    yield { checkedCount: run.checkedCount, discrepancies: [], done: true };
  } finally {
    state.abandoned = true;
    await outcome;
  }
}

async function verify(run: Run, options: VerifyOptions): Promise<void> {
  await verifyPostgres(run, options);
  for (let attempt = 0; attempt < maxRestarts; attempt += 1) {
    try {
      await verifyRedis(run, options);
      await noteVerification(options.db, options.shop.id);
      return;
    } catch (error) {
      if (!(error instanceof EpochChanged)) {
        throw error;
      }
    }
  }
  throw new Refusal("SHOP_UNAVAILABLE", "the shop was opened anew again and again", { retryMs: 1000 });
}
