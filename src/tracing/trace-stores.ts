import type { StoreObserver } from "../store.ts";
import type { Tracing } from "./tracing.ts";

/** What stores and shops are observed by, with spans where there is tracing. */
export function traceStores(observer: StoreObserver, tracing: Tracing | undefined): StoreObserver {
  if (tracing === undefined) {
    return observer;
  }
  const { shops, onQuery } = observer;
  return {
    ...observer,
    shops: {
      ...shops,
      flushed: (entries, levels, ms) => {
        shops.flushed(entries, levels, ms);
        tracing.flushed(entries, ms);
      },
    },
    onQuery: (ms, sql) => {
      onQuery?.(ms, sql);
      tracing.queried(ms, sql);
    },
    wrapRedis: tracing.traceScripts,
  };
}
