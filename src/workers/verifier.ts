import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { VerifyObserver } from "../metrics/verify-metrics.ts";
import { findVerifiableShop } from "../postgres/looks.ts";
import { Refusal } from "../refusal.ts";
import { isStoreAway } from "../shop/outage.ts";
import type { Shops } from "../shop/shops.ts";
import type { Caller } from "../shop/waiters.ts";
import type { Discrepancy } from "../verify/discrepancy.ts";
import { verifyShop } from "../verify/verify-shop.ts";

/**
 * Verifies shops on the side, one after the other and again and again, so that an operator hears of a difference between the
 * stores before a buyer does. What it may cost is bounded: shops with a long history are left out, since a verification reads
 * all of it, and after each page of the log, each look at Redis and each shop it rests for 4 times as long as that took. One that was not
 * as its log says is looked at again until it is, however long its history has become: otherwise nobody would take the
 * difference back.
 */
export interface Verifier {
  /** Ends the verification under way. */
  stop(): Promise<void>;
}

/** What a verifier needs. */
export interface VerifierOptions {
  readonly shops: Shops;
  /** HOLDFAST_VERIFY_SECONDS, in milliseconds: from one round through all shops to the next, or later. 0 = none is verified. */
  readonly periodMs: number;
  /** HOLDFAST_VERIFY_MAX_COMMITS: shops with more are left out, unless something was found in them. */
  readonly maxCommits: number;
  /** Rests are so many times as long as what was done before them, see `VerifyOptions`, and after a shop at least. Default 4: it takes at most a fifth of one core. */
  readonly restShare?: number;
  readonly observer: VerifyObserver;
  readonly logger: Logger;
}

/** After a verification that failed, in milliseconds: a store that is away is not asked without a pause. */
const leastRestMs = 1000;
/** What the log shows of a shop's discrepancies; `holdfast verify` shows all. */
const loggedCount = 10;

/** Starts to verify, at a moment of its own, so that servers which start together do not verify together. */
export function startVerifier(options: VerifierOptions): Verifier {
  const { shops, periodMs, maxCommits, restShare = 4, observer, logger } = options;
  const ending = new AbortController();
  const caller = callerUntil(ending.signal);
  /** Shops in which the last verification found something. */
  const drifting = new Set<string>();
  let after = "";

  const verify = async (shopId: string): Promise<void> => {
    const { db, scripts, requestRetentionMs } = shops;
    const beganAtMs = performance.now();
    const found: Discrepancy[] = [];
    const shop = shops.get(shopId);
    const options = { shop, db, scripts, requestRetentionMs, caller, pageRestShare: restShare };
    for await (const { discrepancies } of verifyShop(options)) {
      found.push(...discrepancies);
    }
    observer.verified(shopId, found.length, performance.now() - beganAtMs);
    drifting.delete(shopId);
    if (found.length > 0) {
      drifting.add(shopId);
      const about = {
        alarm: "drift",
        shop: shopId,
        count: found.length,
        first: found.slice(0, loggedCount).map(nameOf),
      };
      logger.error(about, "the stores are not as the event log says: see `holdfast verify`");
    }
  };

  /** False: there is no further one, the round is over. */
  const verifyNext = async (): Promise<boolean> => {
    const { shopId, skippedCount, skippedSeconds } = await findVerifiableShop(shops.db, after, maxCommits, [
      ...drifting,
    ]);
    observer.skipped(skippedCount, skippedSeconds);
    after = shopId ?? "";
    if (shopId !== null) {
      await verify(shopId);
    }
    return shopId !== null;
  };

  /** How long to rest after the next shop, in milliseconds. */
  const step = async (roundAtMs: number): Promise<{ readonly restMs: number; readonly isRoundOver: boolean }> => {
    const beganAtMs = performance.now();
    try {
      const isRoundOver = !(await verifyNext());
      const nowMs = performance.now();
      return { restMs: isRoundOver ? roundAtMs + periodMs - nowMs : restShare * (nowMs - beganAtMs), isRoundOver };
    } catch (error) {
      if (!ending.signal.aborted) {
        observer.failed();
        logger[isExpected(error) ? "debug" : "warn"]({ err: error, after }, "a shop could not be verified");
      }
      return { restMs: Math.max(leastRestMs, restShare * (performance.now() - beganAtMs)), isRoundOver: false };
    }
  };

  const work = async (): Promise<void> => {
    let restMs = Math.random() * periodMs;
    let roundAtMs = performance.now() + restMs;
    while (await rested(restMs, ending.signal)) {
      const { isRoundOver, ...rest } = await step(roundAtMs);
      restMs = Math.max(0, rest.restMs);
      roundAtMs = isRoundOver ? performance.now() + restMs : roundAtMs;
    }
  };
  const working = periodMs === 0 ? Promise.resolve() : work();

  return {
    stop: async () => {
      ending.abort();
      await working;
    },
  };
}

/** Kind, store and subject: what was expected and found may be somebody's data, and the log is not the place for it. */
function nameOf({ kind, store, subject, position }: Discrepancy): string {
  return `${store} ${kind} ${subject} at ${position}`;
}

function isExpected(error: unknown): boolean {
  return error instanceof Refusal || isStoreAway(error);
}

/** False: the end came meanwhile. */
function rested(ms: number, ending: AbortSignal): Promise<boolean> {
  return sleep(ms, true, { signal: ending, ref: false }).catch(() => false);
}

function callerUntil(ending: AbortSignal): Caller {
  return {
    get ended() {
      return ending.aborted;
    },
    deadlineMs: Number.POSITIVE_INFINITY,
    throwIfEnded: () => ending.throwIfAborted(),
  };
}
