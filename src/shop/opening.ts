import { Refusal } from "../refusal.ts";
import type { Caller } from "./waiters.ts";

/**
 * Callers of a shop that is being opened. Who has time until its estimated end waits; the others hear at once when to come
 * back, and so do those whose time turns out too short while they wait.
 */
export class OpeningCallers {
  readonly #waiting = new Set<{ readonly caller: Caller; readonly refuse: (refusal: Refusal) => void }>();
  /** When the opening will be over, in ms since the epoch; undefined = nobody knows, which a short one does not outlive. */
  #readyAtMs: number | undefined;

  /** What an opening gives, or a refusal as soon as the caller's deadline is before its estimated end. */
  async wait<Value>(opening: Promise<Value>, caller: Caller): Promise<Value> {
    const { promise: refused, reject } = Promise.withResolvers<never>();
    const entry = { caller, refuse: reject };
    this.#waiting.add(entry);
    this.#refuseLate();
    return await Promise.race([opening, refused]).finally(() => this.#waiting.delete(entry));
  }

  /** How long it takes from now on, in milliseconds. Returns the refusal of whoever has less time, and until when that is. */
  estimate(restMs: number): { readonly readyAtMs: number; readonly refusal: Refusal } {
    this.#readyAtMs = Date.now() + restMs;
    this.#refuseLate();
    return { readyAtMs: this.#readyAtMs, refusal: rebuilding(restMs) };
  }

  /** The opening is over, one way or the other. */
  end(): void {
    this.#readyAtMs = undefined;
  }

  #refuseLate(): void {
    const readyAtMs = this.#readyAtMs;
    if (readyAtMs === undefined) {
      return;
    }
    for (const { caller, refuse } of this.#waiting) {
      if (caller.deadlineMs < readyAtMs) {
        refuse(rebuilding(readyAtMs - Date.now()));
      }
    }
  }
}

/** Bounds of what callers are told to wait, in milliseconds. */
const [leastRetryMs, mostRetryMs] = [100, 60_000];

function rebuilding(restMs: number): Refusal {
  const retryMs = Math.min(mostRetryMs, Math.max(leastRetryMs, Math.ceil(restMs)));
  return new Refusal(
    "SHOP_UNAVAILABLE",
    "the shop is being rebuilt from Postgres; repeat a mutation with its request id",
    { retryMs },
  );
}
