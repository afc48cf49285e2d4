import type { SaleResult } from "./flash-sale.ts";
import { type Expectation, expect, type SalePlan } from "./plan.ts";
import type { ApiRecords } from "./read-api.ts";
import type { StoreRecords } from "./read-stores.ts";

/** The same number from several sources, which must agree. */
export interface Check {
  readonly name: string;
  readonly values: readonly (readonly [source: string, value: number])[];
}

/** Whether all sources of a check agree. */
export function agrees({ values }: Check): boolean {
  return values.every(([, value]) => value === values[0]?.[1]);
}

/** What was seen of the sale without looking into the records. */
export interface Witnesses {
  readonly plan: SalePlan;
  readonly result: SaleResult;
  readonly watcher: { readonly orderCount: number; readonly unitCount: number; readonly disorderCount: number };
}

/** Compares what callers and watcher were told with both stores. */
export function auditStores(witnesses: Witnesses, records: StoreRecords): Check[] {
  const { expected, told } = summarise(witnesses);
  const { postgres, redis } = records;
  const left = witnesses.plan.stockCount - told.units;
  return [
    ...auditCallers(witnesses),
    check("units sold", {
      "callers were told": told.units,
      "in PostgreSQL's orders": postgres.orderedUnits,
      "in PostgreSQL's stock": postgres.soldCount,
      "in Redis' stock": redis.soldCount,
      "by the watcher": witnesses.watcher.unitCount,
      expected: expected.soldCount,
    }),
    check("units left", {
      "stock less sold": left,
      "in PostgreSQL": postgres.availableCount,
      "in Redis": redis.availableCount,
    }),
    check("units held", { "in PostgreSQL": postgres.heldCount, "in Redis": redis.heldCount, expected: 0 }),
    ...auditOrders(witnesses, postgres.orderIds),
    check("cents paid in", { "by the buyers": expected.depositedMinor, "in the ledger": postgres.depositedMinor }),
    check("cents paid in less spent", {
      "by what callers were told": expected.depositedMinor - told.amountMinor,
      "in PostgreSQL's wallets": postgres.walletsMinor,
      "in Redis' wallets": redis.walletsMinor,
      "in the ledger": postgres.depositedMinor - postgres.revenueMinor,
    }),
    check("ledger faults", {
      "commits that do not sum to zero": postgres.unbalancedCommitCount,
      "wallets unlike their entries": postgres.wrongWalletCount,
      "wallets below zero": postgres.overdrawnWalletCount,
      expected: 0,
    }),
    check("commits", {
      "in the log": postgres.commitCount,
      "head in PostgreSQL": postgres.headPosition,
      "head in Redis": redis.headPosition,
    }),
  ];
}

/** Compares what callers and watcher were told with what the API answers. */
export function auditApi(witnesses: Witnesses, records: ApiRecords): Check[] {
  const { expected, told } = summarise(witnesses);
  const { stock, log, shop } = records;
  return [
    ...auditCallers(witnesses),
    check("units sold", {
      "callers were told": told.units,
      "by GetStock": stock.soldCount,
      "by ListEvents": log.orderedUnits,
      "by the watcher": witnesses.watcher.unitCount,
      expected: expected.soldCount,
    }),
    check("units left", {
      "stock less sold": witnesses.plan.stockCount - told.units,
      "by GetStock": stock.availableCount,
    }),
    check("units held", { "by GetStock": stock.heldCount, expected: 0 }),
    ...auditOrders(witnesses, log.orderIds),
    check("cents paid in", { "by the buyers": expected.depositedMinor, "by ListEvents": log.depositedMinor }),
    check("cents paid in less spent", {
      "by what callers were told": expected.depositedMinor - told.amountMinor,
      "in the wallets, by ListEvents": log.walletsMinor,
    }),
    check("buyers", { expected: witnesses.plan.buyerCount, "by GetShop": shop.userCount }),
    check("commits", {
      "by ListEvents": log.commitCount,
      "head, by GetShop": shop.headPosition,
      "durable, by GetShop": shop.durablePosition,
    }),
  ];
}

interface Summary {
  readonly expected: Expectation;
  readonly told: { readonly units: number; readonly amountMinor: number };
}

function summarise({ plan, result }: Witnesses): Summary {
  const units = result.orders.reduce((sum, { unitCount }) => sum + unitCount, 0);
  const amountMinor = result.orders.reduce((sum, order) => sum + order.amountMinor, 0);
  return { expected: expect(plan), told: { units, amountMinor } };
}

/** What the callers and the watcher prove by themselves. */
function auditCallers({ plan, result, watcher }: Witnesses): Check[] {
  const refusedCount = [...result.refusals.values()].reduce((sum, count) => sum + count, 0);
  return [
    check(
      "buyers answered",
      { sold: result.orders.length + refusedCount, expected: plan.buyerCount },
      "sold or refused",
    ),
    check("answers amiss", {
      "buyers without an answer": result.unknownCount,
      "contradictions between two answers": result.contradictedCount,
      "events out of order": watcher.disorderCount,
      expected: 0,
    }),
  ];
}

/** Order by order: what a buyer was told is recorded, and nothing else is. */
function auditOrders({ result, watcher }: Witnesses, recorded: readonly string[]): Check[] {
  const toldIds = new Set(result.orders.map(({ orderId }) => orderId));
  const recordedIds = new Set(recorded);
  return [
    check("orders", {
      "callers were told": result.orders.length,
      recorded: recorded.length,
      "by the watcher": watcher.orderCount,
      "ids told and recorded": [...toldIds].filter((orderId) => recordedIds.has(orderId)).length,
    }),
  ];
}

function check(name: string, values: Readonly<Record<string, number>>, firstSource?: string): Check {
  const entries = Object.entries(values);
  return {
    name,
    values: entries.map(([source, value], index) => [index === 0 ? (firstSource ?? source) : source, value]),
  };
}
