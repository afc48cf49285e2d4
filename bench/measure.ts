import { setTimeout as sleep } from "node:timers/promises";
import { type ContestantName, cards } from "./cards.ts";
import type { Child } from "./child.ts";
import type { Contestant } from "./contestant.ts";
import { readCpuTimeUs } from "./cpu-time.ts";
import type { Generator, Load, LoadResult } from "./load.ts";
import type { BenchStores } from "./stores.ts";
import { type WorkloadName, workloads } from "./workloads.ts";

/** How the load is made. */
export interface Shape {
  readonly title: string;
  readonly connectionCount: number;
  /** Purchases in flight on each connection; in an open loop the most that may be. */
  readonly inFlightCount: number;
  /** Open loop: this share of the most that the contestant has shown. */
  readonly share?: number;
}

/** By name: all that a server can do; an open loop at half of that and at four fifths; what one caller alone sees. */
export const shapes = {
  most: { title: "8 connections x 32 in flight", connectionCount: 8, inFlightCount: 32 },
  half: { title: "open loop at 50 %", connectionCount: 8, inFlightCount: 100, share: 0.5 },
  high: { title: "open loop at 80 %", connectionCount: 8, inFlightCount: 100, share: 0.8 },
  alone: { title: "one caller alone", connectionCount: 1, inFlightCount: 1 },
} satisfies Record<string, Shape>;

/** The name of one. */
export type ShapeName = keyof typeof shapes;

/** What one contestant did under one load. */
export interface Measurement {
  readonly contestant: ContestantName;
  readonly workload: WorkloadName;
  readonly shape: ShapeName;
  readonly generator: Generator;
  /** Counted from 0. */
  readonly round: number;
  /** Purchases that succeeded. */
  readonly doneCount: number;
  /** Refused because of the shop's state. */
  readonly refusedCount: number;
  /** Given up: to be tried again. */
  readonly busyCount: number;
  readonly failedCount: number;
  /** Purchases per second that succeeded. */
  readonly perSecond: number;
  /** Purchases per second that succeeded or were refused. */
  readonly answeredPerSecond: number;
  /** What the open loop asked for. */
  readonly targetPerSecond?: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  /** CPU time of each process tree per order or refusal, in microseconds; without entries where there is no /proc. */
  readonly cpuUs: Readonly<Record<string, number>>;
}

/** Who takes part in a measurement besides the contestant. */
export interface Bystanders {
  readonly load: Child;
  readonly stores: BenchStores;
  /** Whether h2load is there. */
  readonly hasH2load: boolean;
}

/** What is to be measured. */
export interface Task {
  readonly workload: WorkloadName;
  readonly shape: ShapeName;
  readonly round: number;
  readonly durationMs: number;
  /** Of an open loop. */
  readonly perSecond?: number;
  /** Most purchases to be made. */
  readonly purchaseCount?: number;
}

const restMs = 100;

/** Puts one contestant under load, counts what it cost, and checks what it told its callers against its stock. */
export async function measure(
  { load, stores, hasH2load }: Bystanders,
  contestant: Contestant,
  { workload, shape, round, durationMs, perSecond, purchaseCount }: Task,
): Promise<Measurement> {
  const { connectionCount, inFlightCount } = shapes[shape];
  // What the one before has left to do, such as closing its connections, is not this one's.
  await sleep(restMs);
  const generator = hasH2load && isForH2load(contestant.name, workload) ? "h2load" : "own";
  const pids = { server: contestant.pid, redis: contestant.redisPid, postgres: stores.postgresPid, load: load.pid };
  const { port } = contestant;
  const how = { connectionCount, inFlightCount, perSecond, durationMs, purchaseCount };
  const request = { generator, port, workload, ...how } as const;
  const soldBefore = await contestant.countSold();
  const before = readCpuTimes(pids);
  const result = await load.ask<LoadResult>({ ...request, folder: stores.folder } satisfies Load);
  await contestant.settle();
  const after = readCpuTimes(pids);
  const soldAfter = await contestant.countSold();
  const soldCount = soldBefore === undefined ? undefined : (soldAfter as number) - soldBefore;
  const counts = compare(contestant.name, request, result, soldCount);
  const seconds = result.elapsedMs / 1000;
  // Also the orders of calls that h2load left behind were paid for.
  const orderCount = Math.max(counts.doneCount, (soldCount ?? 0) / workloads[workload].unitCount);
  const answerCount = Math.max(1, orderCount + counts.refusedCount);
  return {
    contestant: contestant.name,
    workload,
    shape,
    generator,
    round,
    ...counts,
    perSecond: counts.doneCount / seconds,
    answeredPerSecond: (counts.doneCount + counts.refusedCount) / seconds,
    ...(perSecond === undefined ? {} : { targetPerSecond: perSecond }),
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    p999Ms: result.p999Ms,
    cpuUs: Object.fromEntries(
      Object.entries(after).map(([name, us]) => [name, (us - (before[name] ?? us)) / answerCount]),
    ),
  };
}

/** One body, and nobody who gives up: h2load takes any answer for a success. */
function isForH2load(name: ContestantName, workload: WorkloadName): boolean {
  return workload === "hot" && cards[name].givesUp !== true;
}

type Counts = Pick<Measurement, "doneCount" | "refusedCount" | "busyCount" | "failedCount">;

/**
 * What callers were told against what was sold. Our own generator waits for every answer, so only a call that failed may
 * have been either. h2load leaves its last calls behind, and what it calls done may have been refused.
 */
function compare(
  name: ContestantName,
  { generator, workload, connectionCount, inFlightCount }: Omit<Load, "folder">,
  { doneCount, refusedCount, busyCount, failedCount }: LoadResult,
  soldCount: number | undefined,
): Counts {
  if (soldCount === undefined) {
    return { doneCount, refusedCount, busyCount, failedCount };
  }
  const { unitCount } = workloads[workload];
  const orderCount = soldCount / unitCount;
  const leftBehindCount = generator === "h2load" ? connectionCount * inFlightCount : 0;
  const least = generator === "h2load" ? 0 : doneCount;
  if (orderCount < least || orderCount > doneCount + failedCount + leftBehindCount) {
    throw new Error(`${name} told its callers of ${doneCount} orders and sold ${orderCount}`);
  }
  if (generator === "own" || orderCount >= doneCount) {
    return { doneCount, refusedCount, busyCount, failedCount };
  }
  return { doneCount: orderCount, refusedCount, busyCount: doneCount - orderCount, failedCount };
}

function readCpuTimes(pids: Readonly<Record<string, number | undefined>>): Record<string, number> {
  const times = Object.entries(pids).map(([name, pid]) => [name, pid && readCpuTimeUs(pid)] as const);
  return Object.fromEntries(times.filter((entry): entry is [string, number] => entry[1] !== undefined));
}
