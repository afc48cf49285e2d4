import { around } from "../crash-point.ts";
import type { ShopKeys } from "./keys.ts";
import type { ScriptRunner } from "./redis.ts";
import type { Scripts } from "./scripts.ts";

/**
 * Sends the numbered steps of one rebuild to `lua/load.lua` and `lua/forget.lua`. A few are on their way at once, so that Redis never waits for
 * the next one; the script itself refuses a step whose predecessor did not run.
 */
export interface Loader {
  /** Sends a step; waits when too many are on their way. Throws what an earlier step failed with. `restMs`: for those who wait. */
  load(step: string, values: readonly (string | number)[], restMs?: number): Promise<void>;
  /** Sends a step to `lua/forget.lua`, in the same row. */
  forget(kind: string, ids: readonly string[]): Promise<void>;
  /** Waits until every step has run. */
  settle(): Promise<void>;
  readonly stepCount: number;
}

/** Steps on their way: one that runs, one that waits for it, in pieces that keep every other call's wait short. */
const maxInFlight = 2;

/** Creates the loader of one rebuild; `superseded` makes what is thrown when somebody else took over. */
export function createLoader(
  { redis, scripts, keys }: { redis: ScriptRunner; scripts: Scripts; keys: ShopKeys },
  token: string,
  superseded: () => Error,
): Loader {
  const inFlight: Promise<void>[] = [];
  let stepCount = 0;
  const send = async (name: "load" | "forget", args: readonly (string | number)[]): Promise<void> => {
    if ((await redis.aside(scripts[name], keys, args)) !== 1) {
      throw superseded();
    }
  };
  const follow = async (sent: Promise<void>): Promise<void> => {
    sent.catch(() => {}); // whoever waits for it below hears of it; after a failure nobody waits for those behind
    stepCount += 1;
    inFlight.push(sent);
    if (inFlight.length > maxInFlight) {
      await inFlight.shift();
    }
  };
  return {
    load: (step, values, restMs = -1) => {
      const args = [token, stepCount, Math.round(restMs), step, ...values];
      return follow(around("rebuild: load", () => send("load", args)));
    },
    forget: (kind, ids) => {
      const args = [token, stepCount, kind, ...ids];
      return follow(around("rebuild: forget", () => send("forget", args)));
    },
    settle: async () => {
      while (inFlight.length > 0) {
        await inFlight.shift();
      }
    },
    get stepCount() {
      return stepCount;
    },
  };
}

/** Things that are made ahead of their turn. A page of users is three steps: two pages, so that neither store waits for the other. */
const aheadCount = 6;

/** Yields what a generator yields, and has it at work on the next things meanwhile. */
export async function* ahead<Value>(values: AsyncGenerator<Value>): AsyncGenerator<Value> {
  const waiting: Promise<IteratorResult<Value>>[] = [];
  try {
    for (;;) {
      while (waiting.length <= aheadCount) {
        const next = values.next();
        next.catch(() => {}); // it is heard when it is its turn
        waiting.push(next);
      }
      const { done, value } = (await waiting.shift()) as IteratorResult<Value>;
      if (done === true) {
        return;
      }
      yield value;
    }
  } finally {
    // Nobody may use the transaction any more while this still reads in it.
    await Promise.allSettled(waiting);
  }
}
