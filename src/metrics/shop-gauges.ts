import type { Registry } from "prom-client";
import type { PoolCounts } from "../postgres/connection.ts";
import type { Shop } from "../shop/shop.ts";
import type { Shops } from "../shop/shops.ts";
import { createGauge, type GaugeOptions } from "./gauge.ts";

/** Shows how the shops of this process stand, whenever somebody looks. Nothing here asks a store. */
export function createShopGauges(registry: Registry, shops: Shops): void {
  const gauge = (name: string, help: string, read: GaugeOptions["read"], label?: string): void =>
    createGauge({ registry, name, help, read, ...(label === undefined ? {} : { label }) });
  const of = (value: (shop: Shop) => number): number[] => Array.from(shops.served, value);
  const waiting = (): number[] => of(({ backlog }) => backlog.count);

  gauge("holdfast_shops", "Shops that this process has served since its start.", () => of(() => 1).length);
  gauge("holdfast_unflushed_commits", "Commits that wait for Postgres, of all shops.", () => sum(waiting()));
  gauge(
    "holdfast_unflushed_commits_worst_shop",
    "Commits that wait for Postgres, of the shop with the most of them.",
    () => most(waiting()),
  );
  gauge(
    "holdfast_unflushed_commits_limit",
    "Commits of a shop that wait for Postgres at which it takes no more: HOLDFAST_MAX_BACKLOG_COMMITS.",
    () => shops.maxBacklogCommits,
  );
  gauge(
    "holdfast_unflushed_seconds",
    "How long commits have waited without any of their shop becoming durable, of the shop where that is longest.",
    () => most(of(({ backlog }) => backlog.stalledMs)) / 1000,
  );
  gauge("holdfast_waiting_calls", "Calls that wait until Postgres has what they saw.", () =>
    sum(of(({ waitingCallCount }) => waitingCallCount)),
  );
  gauge(
    "holdfast_fenced_shops",
    "Shops that stand still until an operator has looked.",
    () => countFenced(shops),
    "alarm",
  );
  gauge("holdfast_store_up", "1 while a store answers this process.", () => upStores(shops), "store");
  gauge("holdfast_watchers", "Watches that are open.", () => sum(Array.from(shops.hubs, (hub) => hub.watcherCount)));
  gauge("holdfast_watcher_lag_commits", "Durable commits that the slowest watch was not sent yet.", () =>
    most(Array.from(shops.hubs, (hub) => hub.lagCount)),
  );
}

/** Shows how the connections of a pool stand. */
export function createPoolGauges(registry: Registry, pool: PoolCounts): void {
  createGauge({
    registry,
    name: "holdfast_postgres_pool_connections",
    help: "Connections of the pool for reads and rebuilds.",
    read: () => ({ busy: pool.totalCount - pool.idleCount, idle: pool.idleCount }),
    label: "state",
  });
  createGauge({
    registry,
    name: "holdfast_postgres_pool_waiting",
    help: "Who waits for a free connection of the pool.",
    read: () => pool.waitingCount,
  });
}

function countFenced({ served }: Shops): Record<string, number> {
  const counts = { commits_missing: 0, poison_commit: 0, redis_refuses: 0 };
  for (const { fence } of served) {
    const { alarm } = fence;
    if (alarm !== undefined) {
      counts[alarm] += 1;
    }
  }
  return counts;
}

function upStores({ isUp }: Shops): Record<string, number> {
  return { Redis: Number(isUp("Redis")), Postgres: Number(isUp("Postgres")) };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function most(values: readonly number[]): number {
  return values.reduce((found, value) => Math.max(found, value), 0);
}
