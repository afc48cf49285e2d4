import { setTimeout as sleep } from "node:timers/promises";
import type { Child } from "./child.ts";
import { type Contestant, createOrderRequest, path } from "./contestants.ts";
import { readCpuTimeUs } from "./cpu-time.ts";
import type { LoadRequest, LoadResult } from "./load-process.ts";
import type { BenchStores } from "./stores.ts";

/** How the load is made. */
export interface Shape {
  readonly title: string;
  readonly connectionCount: number;
  /** Calls in flight on each connection. */
  readonly inFlightCount: number;
}

/** Many callers: the throughput that a server has. */
export const many: Shape = { title: "8 connections x 32 in flight", connectionCount: 8, inFlightCount: 32 };
/** One caller alone: what a call takes. */
export const alone: Shape = { title: "one caller alone", connectionCount: 1, inFlightCount: 1 };

/** What one round of one contestant gave. */
export interface Measurement {
  readonly contestant: string;
  readonly shape: string;
  readonly successCount: number;
  readonly failureCount: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU time per successful call, in microseconds, of each process tree; without entries where there is no /proc. */
  readonly cpuUs: Readonly<Record<string, number>>;
}

/** Who takes part in a measurement besides the contestant. */
export interface Bystanders {
  readonly load: Child;
  readonly stores: BenchStores;
}

const settleMs = 150;

/** Puts one contestant under load and counts what it cost. */
export async function measure(
  { load, stores }: Bystanders,
  contestant: Contestant,
  shape: Shape,
  durationMs: number,
): Promise<Measurement> {
  const { connectionCount, inFlightCount } = shape;
  // What the one before has left to do, such as closing its connections, is not this one's.
  await sleep(settleMs);
  const pids = { server: contestant.pid, load: load.pid, redis: stores.redisPid, postgres: stores.postgresPid };
  const before = readCpuTimes(pids);
  const request = { port: contestant.port, path, connectionCount, inFlightCount, durationMs, ...createOrderRequest() };
  const result = await load.ask<LoadResult>(request satisfies LoadRequest);
  const after = readCpuTimes(pids);
  const { successCount, failureCount, elapsedMs, p50Ms, p99Ms } = result;
  return {
    contestant: contestant.name,
    shape: shape.title,
    successCount,
    failureCount,
    perSecond: (successCount / elapsedMs) * 1000,
    p50Ms,
    p99Ms,
    cpuUs: Object.fromEntries(
      Object.entries(after).map(([name, us]) => [name, (us - (before[name] ?? us)) / Math.max(1, successCount)]),
    ),
  };
}

function readCpuTimes(pids: Readonly<Record<string, number>>): Record<string, number> {
  const times = Object.entries(pids).map(([name, pid]) => [name, readCpuTimeUs(pid)] as const);
  return Object.fromEntries(times.filter((entry): entry is [string, number] => entry[1] !== undefined));
}
