import { isPostgresBusy, isPostgresDown } from "../postgres/errors.ts";
import type { Refusal } from "../refusal.ts";
import { RedisUnavailable } from "./redis.ts";
import { StoreUnavailable, unavailable } from "./store-unavailable.ts";

/** How long a call whose outcome is unknown is repeated before the caller has to do it, in milliseconds. */
const unknownOutcomeMs = 3000;

/** Repeats what Redis did not answer. The request id makes a repeat harmless, so the caller need not see a lost reply. */
export class Tries {
  readonly #requestId: string;
  #unknownSinceMs: number | undefined;
  #count = 0;

  constructor(requestId: string) {
    this.#requestId = requestId;
  }

  /** What `run` gives; undefined = try again; throws SHOP_UNAVAILABLE when the caller has to. */
  async attempt<Value>(run: () => Promise<Value>): Promise<Value | undefined> {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof RedisUnavailable)) {
        throw isPostgresDown(error) || isPostgresBusy(error) ? this.#unavailable("Postgres") : error;
      }
      if (error.outcome === "unknown") {
        this.#unknownSinceMs ??= performance.now();
      }
      if (this.#unknownSinceMs === undefined || performance.now() - this.#unknownSinceMs > unknownOutcomeMs) {
        throw this.#unavailable("Redis", error.errorCode);
      }
      this.#count += 1;
      await new Promise((resolve) => setTimeout(resolve, Math.min(5 * 2 ** this.#count, 200)));
      return undefined;
    }
  }

  #unavailable(store: "Postgres" | "Redis", errorCode?: string): Refusal {
    if (this.#unknownSinceMs === undefined) {
      return unavailable(store, errorCode);
    }
    const metadata = this.#requestId === "" ? {} : { request_id: this.#requestId };
    return new StoreUnavailable(store, "repeat with the same request id to learn the outcome", errorCode, metadata);
  }
}
