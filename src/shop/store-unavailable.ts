import { Refusal } from "../refusal.ts";

/** A call is refused because a store is away. */
export class StoreUnavailable extends Refusal {
  readonly store: "Postgres" | "Redis";

  constructor(store: "Postgres" | "Redis", advice: string, metadata: Readonly<Record<string, string>> = {}) {
    super("SHOP_UNAVAILABLE", `${store} does not answer; ${advice}`, { retryMs: 1000, metadata });
    this.store = store;
  }
}

/** Tells a caller, before anything was done, that a store is away. */
export function unavailable(store: "Postgres" | "Redis"): StoreUnavailable {
  return new StoreUnavailable(store, "nothing was changed");
}
