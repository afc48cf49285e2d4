import type { Registry } from "prom-client";
import type { EventJson, StockJson } from "../shop/event-json.ts";
import type { Alarm } from "../shop/fence.ts";
import type { LogEntry } from "../shop/log-entry.ts";
import type { Opening, ShopObserver } from "../shop/shop-observer.ts";
import { secondsBuckets } from "./buckets.ts";
import { type Count, createCounter, createHistogram, type Distribution } from "./series.ts";

/** Redis answers within milliseconds, or something is wrong. */
const scriptBuckets = [0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1, 5];
const commitBuckets = [1, 2, 5, 10, 20, 50, 100, 200, 350, 500];
/** The sweeper looks every second. */
const lagBuckets = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 3600];
const rebuildBuckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

const alarms: readonly Alarm[] = ["commits_missing", "poison_commit", "redis_refuses"];
const stores = ["Redis", "Postgres"] as const;
/** How much of a shop was loaded from Postgres. */
const extents = { "caught up": "tail", rebuilt: "all", "first opened": "first" } as const;

/** The call of a commit that nobody called for, as `lua/include/expire.lua` writes it. */
const expiryCall = '{"rpc":"ExpireHolds"';

/** Counts what shops do. `scriptNames`: all that there are, so that each has its series before it first runs. */
export function createShopMetrics(registry: Registry, scriptNames: readonly string[]): ShopObserver {
  const histogram = (name: string, help: string, buckets: readonly number[]) =>
    createHistogram({ registry, name, help, buckets });
  const scripts = histogram(
    "holdfast_redis_script_seconds",
    "How long Redis took to answer the script of a call, the way there and back included.",
    scriptBuckets,
  );
  const byScript = new Map<string, Distribution>(scriptNames.map((script) => [script, scripts({ script })]));
  const pings = histogram(
    "holdfast_store_ping_seconds",
    "How long a store took to answer whether it is there; it is asked four times a second.",
    secondsBuckets,
  );
  const byStore = new Map<string, Distribution>(stores.map((store) => [store, pings({ store })]));
  const fences = createCounter({
    registry,
    name: "holdfast_fences_total",
    help: "How often a shop was fenced, by why.",
  });
  const byAlarm = new Map<Alarm, Count>(alarms.map((alarm) => [alarm, fences({ alarm })]));
  return {
    scriptRan: (name, ms) => byScript.get(name)?.observe(ms / 1000),
    storeAnswered: (store, ms) => byStore.get(store)?.observe(ms / 1000),
    fenced: (alarm) => {
      (byAlarm.get(alarm) as Count).count += 1;
    },
    opened: createOpeningMetrics(registry),
    flushed: createFlushMetrics(registry),
  };
}

function createOpeningMetrics(registry: Registry): ShopObserver["opened"] {
  const counter = createCounter({
    registry,
    name: "holdfast_rebuilds_total",
    help: "How often a shop's live state was loaded from Postgres: all of it, its tail, or for the first time.",
  });
  const rebuilds = new Map<Opening, Count>();
  for (const [opening, extent] of Object.entries(extents)) {
    rebuilds.set(opening as Opening, counter({ extent }));
  }
  const seconds = createHistogram({
    registry,
    name: "holdfast_rebuild_seconds",
    help: "How long that took; the calls of the shop wait meanwhile.",
    buckets: rebuildBuckets,
  })();
  return (opening, ms) => {
    const rebuild = rebuilds.get(opening);
    if (rebuild !== undefined) {
      rebuild.count += 1;
      seconds.observe(ms / 1000);
    }
  };
}

function createFlushMetrics(registry: Registry): ShopObserver["flushed"] {
  const commits = createHistogram({
    registry,
    name: "holdfast_flush_commits",
    help: "Commits of one shop that one statement made durable.",
    buckets: commitBuckets,
  })();
  const seconds = createHistogram({
    registry,
    name: "holdfast_flush_seconds",
    help: "How long that statement took, its wait for the connection included.",
    buckets: secondsBuckets,
  })();
  const negative = createCounter({
    registry,
    name: "holdfast_negative_stock_total",
    help: "Stock levels below zero that were recorded. More than 0: units were sold that are not there.",
  })();
  const countExpiries = createExpiryMetrics(registry);
  return (entries, levels, ms) => {
    commits.observe(entries.length);
    seconds.observe(ms / 1000);
    for (const level of levels) {
      negative.count += isNegative(level) ? 1 : 0;
    }
    for (const entry of entries) {
      if (entry.call.startsWith(expiryCall)) {
        countExpiries(entry);
      }
    }
  };
}

function isNegative({ available_count, held_count, sold_count }: StockJson): boolean {
  return available_count < 0 || held_count < 0 || sold_count < 0;
}

function createExpiryMetrics(registry: Registry): (entry: LogEntry) => void {
  const counter = createCounter({
    registry,
    name: "holdfast_holds_expired_total",
    help: "Holds, and unpaid orders, whose time was over.",
  });
  const [holds, orders] = [counter({ of: "hold" }), counter({ of: "order" })];
  const lag = createHistogram({
    registry,
    name: "holdfast_hold_expiry_lag_seconds",
    help: "How long after their time holds were ended. Nobody is refused meanwhile for want of what is due back.",
    buckets: lagBuckets,
  })();
  return ({ events, timeMs }) => {
    for (const { hold_expired } of JSON.parse(events) as EventJson[]) {
      if (hold_expired === undefined) {
        orders.count += 1; // a cancelled order does not say until when it was waited for
      } else {
        holds.count += 1;
        lag.observe((timeMs - hold_expired.hold.expire_time) / 1000);
      }
    }
  };
}
