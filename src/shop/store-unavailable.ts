import { Refusal } from "../refusal.ts";

/** A call is refused because a store is away, or refuses what the call needs. */
export class StoreUnavailable extends Refusal {
  readonly store: "Postgres" | "Redis";

  /** `errorCode`: what the store answered, such as Redis' OOM, when it is full; undefined when it did not. */
  constructor(
    store: "Postgres" | "Redis",
    advice: string,
    errorCode?: string,
    metadata: Readonly<Record<string, string>> = {},
  ) {
    const what = errorCode === undefined ? "does not answer" : `refuses it with ${errorCode}`;
    const all = errorCode === undefined ? metadata : { ...metadata, store_error: errorCode };
    super("SHOP_UNAVAILABLE", `${store} ${what}; ${advice}`, { retryMs: 1000, metadata: all });
    this.store = store;
  }
}

/** Tells a caller, before anything was done, that a store is away. */
export function unavailable(store: "Postgres" | "Redis", errorCode?: string): StoreUnavailable {
  return new StoreUnavailable(store, "nothing was changed", errorCode);
}
