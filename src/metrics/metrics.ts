import { Registry } from "prom-client";
import type { CallObserver } from "../server/call-observer.ts";
import type { Endpoint } from "../server/dispatcher.ts";
import { scriptNames } from "../shop/scripts.ts";
import type { Shops } from "../shop/shops.ts";
import type { StoreObserver } from "../store.ts";
import { secondsBuckets } from "./buckets.ts";
import { createCallMetrics } from "./call-metrics.ts";
import { createPaymentMetrics, type PaymentObserver } from "./payment-metrics.ts";
import { openProcessRegistry } from "./process-registry.ts";
import { createHistogram } from "./series.ts";
import { createPoolGauges, createShopGauges } from "./shop-gauges.ts";
import { createShopMetrics } from "./shop-metrics.ts";
import { createVerifyMetrics, type VerifyObserver } from "./verify-metrics.ts";

/** The metrics of one server, by who counts. docs/monitoring.md describes each. */
export interface Metrics {
  /** Ours; those of the process are not in it. */
  readonly registry: Registry;
  readonly store: StoreObserver;
  readonly payments: PaymentObserver;
  readonly verify: VerifyObserver;
  /** Makes the one that counts calls. */
  observeCalls(endpoints: Iterable<Endpoint>): CallObserver;
  /** Shows how these shops stand, from now on. */
  showShops(shops: Shops): void;
  /** All of them, those of the process too, in Prometheus' text format. */
  render(): Promise<string>;
}

/** Makes the metrics of a server. `process`: its number where several serve behind the same doors. */
export function createMetrics(process?: number): Metrics {
  const registry = new Registry();
  const processRegistry = openProcessRegistry();
  const queries = createHistogram({
    registry,
    name: "holdfast_postgres_query_seconds",
    help: "How long the queries of the pool took: reads and rebuilds, not flushes.",
    buckets: secondsBuckets,
  })();
  return {
    registry,
    store: {
      shops: createShopMetrics(registry, scriptNames()),
      onQuery: (ms) => queries.observe(ms / 1000),
      onPool: (pool) => createPoolGauges(registry, pool),
    },
    payments: createPaymentMetrics(registry),
    verify: createVerifyMetrics(registry),
    observeCalls: (endpoints) => createCallMetrics(registry, endpoints),
    showShops: (shops) => createShopGauges(registry, shops),
    render: () => {
      const all = Registry.merge([registry, processRegistry]);
      all.setDefaultLabels(process === undefined ? {} : { process: String(process) });
      return all.metrics();
    },
  };
}
