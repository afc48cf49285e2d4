import type { SaleResult } from "./flash-sale.ts";
import { countMembers, type Expectation, expect, type SalePlan } from "./plan.ts";
import type { ApiRecords } from "./read-api.ts";
import type { StoreRecords } from "./read-stores.ts";

/** The same number from several sources, which must agree. */
export interface Check {
  readonly name: string;
  /** A first source `none` says that there must be none of all the others. */
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
export function auditStores(witnesses: Witnesses, { postgres, redis }: StoreRecords): Check[] {
  const { expected, told } = summarise(witnesses);
  return [
    ...auditCallers(witnesses),
    check("units sold", {
      told: told.units,
      orders: postgres.orderedUnits,
      stock: postgres.soldCount,
      "Redis' stock": redis.soldCount,
      watched: witnesses.watcher.unitCount,
      expected: expected.soldCount,
    }),
    check("units left", {
      expected: witnesses.plan.stockCount - expected.soldCount,
      stock: postgres.availableCount,
      "Redis' stock": redis.availableCount,
    }),
    check("units held", { expected: 0, stock: postgres.heldCount, "Redis' stock": redis.heldCount }),
    auditOrders(witnesses, postgres.orderIds),
    check("cents paid in", { expected: expected.depositedMinor, ledger: postgres.depositedMinor }),
    check("cents left", {
      "paid in less told": expected.depositedMinor - told.chargedMinor,
      ledger: postgres.depositedMinor - postgres.revenueMinor,
      wallets: postgres.walletsMinor,
      "Redis' wallets": redis.walletsMinor,
    }),
    check("ledger faults", {
      none: 0,
      "in unbalanced commits": postgres.unbalancedCommitCount,
      "wallets unlike their entries": postgres.wrongWalletCount,
      "wallets below zero": postgres.overdrawnWalletCount,
    }),
    check("commits", { log: postgres.commitCount, head: postgres.headPosition, "Redis' head": redis.headPosition }),
  ];
}

/** Compares what callers and watcher were told with what the API answers. */
export function auditApi(witnesses: Witnesses, { stock, log, shop }: ApiRecords): Check[] {
  const { expected, told } = summarise(witnesses);
  const { plan, watcher } = witnesses;
  return [
    ...auditCallers(witnesses),
    check("units sold", {
      told: told.units,
      GetStock: stock.soldCount,
      ListEvents: log.orderedUnits,
      watched: watcher.unitCount,
      expected: expected.soldCount,
    }),
    check("units left", { expected: plan.stockCount - expected.soldCount, GetStock: stock.availableCount }),
    check("units held", { expected: 0, GetStock: stock.heldCount }),
    auditOrders(witnesses, log.orderIds),
    check("cents paid in", { expected: expected.depositedMinor, ListEvents: log.depositedMinor }),
    check("cents left", {
      "paid in less told": expected.depositedMinor - told.chargedMinor,
      ListEvents: log.walletsMinor,
    }),
    check("members", { expected: countMembers(plan), GetShop: shop.userCount }),
    check("commits", {
      ListEvents: log.commitCount,
      "GetShop's head": shop.headPosition,
      durable: shop.durablePosition,
    }),
  ];
}

interface Summary {
  readonly expected: Expectation;
  readonly told: { readonly units: number; readonly chargedMinor: number };
}

function summarise({ plan, result }: Witnesses): Summary {
  const units = result.orders.reduce((sum, { unitCount }) => sum + unitCount, 0);
  const chargedMinor = result.orders.reduce((sum, order) => sum + order.chargedMinor, 0);
  return { expected: expect(plan), told: { units, chargedMinor } };
}

/** What the callers and the watcher prove by themselves. */
function auditCallers({ plan, result, watcher }: Witnesses): Check[] {
  const refusedCount = [...result.refusals.values()].reduce((sum, count) => sum + count, 0);
  return [
    check("buyers answered", { expected: plan.buyerCount, "sold or refused": result.orders.length + refusedCount }),
    check("answers amiss", {
      none: 0,
      unanswered: result.unknownCount,
      contradicted: result.contradictedCount,
      "events out of order": watcher.disorderCount,
    }),
  ];
}

/** Order by order: what a buyer was told is recorded, and nothing else is. */
function auditOrders({ result, watcher }: Witnesses, recorded: readonly string[]): Check {
  const recordedIds = new Set(recorded);
  const toldIds = new Set(result.orders.map(({ orderId }) => orderId));
  const common = [...toldIds].filter((orderId) => recordedIds.has(orderId));
  return check("orders", {
    told: result.orders.length,
    recorded: recorded.length,
    "told and recorded": common.length,
    watched: watcher.orderCount,
  });
}

function check(name: string, values: Readonly<Record<string, number>>): Check {
  return { name, values: Object.entries(values) };
}
