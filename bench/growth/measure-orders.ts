import { readCpuTimeUs } from "../cpu-time.ts";
import type { LoadResult } from "../load.ts";
import type { OrderLoad } from "./order-load.ts";
import type { Testbed } from "./testbed.ts";

/** What callers got, and what it cost. */
export interface OrderRates {
  readonly doneCount: number;
  /** Refused, given up or failed. */
  readonly otherCount: number;
  /** Orders per second. */
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU time of each process tree per order, in microseconds; without entries where there is no /proc. */
  readonly cpuUs: Readonly<Record<string, number>>;
}

/** 256 orders in flight. */
export const closedLoop = { connectionCount: 8, inFlightCount: 32 };
/** The most that are in flight when orders are begun at a given rate. */
const openLoop = { connectionCount: 8, inFlightCount: 100 };

/** Which orders, by whom, and for how long; `perSecond` begins so many per second, otherwise 256 are always in flight. */
export type OrderTask = Pick<OrderLoad, "shopIds" | "skus" | "userIds" | "durationMs" | "perSecond" | "authorization">;

/** Puts shops under load, and compares the orders that callers were told of with what PostgreSQL counts. */
export async function measureOrders(testbed: Testbed, task: OrderTask): Promise<OrderRates> {
  const before = await countOrders(testbed, task.shopIds);
  const cpuBefore = readCpuTimes(testbed);
  const shape = task.perSecond === undefined ? closedLoop : openLoop;
  const result = await testbed.load.ask<LoadResult>({ port: testbed.port, ...shape, ...task } satisfies OrderLoad);
  const cpuAfter = readCpuTimes(testbed);
  const soldCount = (await countOrders(testbed, task.shopIds)) - before;
  const { doneCount, refusedCount, busyCount, failedCount, p50Ms, p99Ms } = result;
  if (soldCount < doneCount || soldCount > doneCount + failedCount) {
    throw new Error(`callers were told of ${doneCount} orders, and ${soldCount} were written`);
  }
  const otherCount = refusedCount + busyCount + failedCount;
  if (doneCount <= otherCount) {
    throw new Error(`only ${doneCount} of ${doneCount + otherCount} orders succeeded`);
  }
  const cpuUs = Object.entries(cpuAfter).map(([name, us]) => [name, (us - (cpuBefore[name] ?? us)) / doneCount]);
  const perSecond = doneCount / (result.elapsedMs / 1000);
  return { doneCount, otherCount, perSecond, p50Ms, p99Ms, cpuUs: Object.fromEntries(cpuUs) };
}

/** As every flush counts them. */
async function countOrders({ database }: Testbed, shopIds: readonly string[]): Promise<number> {
  const { rows } = await database.query<{ count: string | null }>(
    "select sum(order_count) as count from shops where shop_id = any($1)",
    [shopIds],
  );
  return Number(rows[0]?.count);
}

function readCpuTimes({ pids }: Testbed): Record<string, number> {
  return Object.fromEntries(
    Object.entries(pids).flatMap(([name, pid]) => {
      const us = readCpuTimeUs(pid);
      return us === undefined ? [] : [[name, us]];
    }),
  );
}
