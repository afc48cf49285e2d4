import { setPriority } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { inParallel } from "../../src/demo/in-parallel.ts";
import { summariseLatencies } from "../../src/demo/latencies.ts";
import { type Child, startChild } from "../child.ts";
import { openSmallShop } from "../growth/shops.ts";
import { startTestbed, type Testbed } from "../growth/testbed.ts";
import type { Command } from "../run-command.ts";
import type { CallersResult, CallersTask } from "./callers.ts";
import { chooseCores, pin } from "./pin.ts";

/** What is measured. */
export interface OverloadPlan {
  /** Load of the hot shop, in times of the measured capacity. */
  readonly factors: readonly number[];
  readonly roundCount: number;
  /** Of each measurement, in milliseconds. */
  readonly durationMs: number;
}

/** One load, and what became of it. */
export interface Overload {
  readonly factor: number;
  /** Orders of the hot shop that its callers wanted to place, and those that they did send, per second. */
  readonly wantedPerSecond: number;
  readonly sentPerSecond: number;
  /** Orders placed per second in all shops together. */
  readonly goodput: number;
  readonly hotP99Ms: number;
  readonly shedShare: number;
  /** From sending to the refusal: of all, and of one caller of the hot shop that is alone on its connection. */
  readonly shedP99Ms: number;
  readonly loneShedP99Ms: number;
  readonly calmP99Ms: number;
  readonly calmShedCount: number;
  readonly failedCount: number;
  /** From the end of the load until the last answer in a calm shop that took more than twice its quiet p99. */
  readonly backMs: number;
}

/** A round. */
export interface OverloadRound {
  /** Orders per second in the hot shop with 256 in flight, and with the calm shops as busy as always. */
  readonly peak: number;
  readonly quietP99Ms: number;
  readonly loads: readonly Overload[];
}

const hotShopId = "hot";
const calmShopIds = Array.from({ length: 100 }, (_, index) => `calm-${index + 1}`);
const calm = { shopIds: calmShopIds, connectionCount: 4, inFlightCount: 100, perSecond: 200, lists: true };
const closedLoop = { shopIds: [hotShopId], connectionCount: 8, inFlightCount: 32 };
/** More in flight than the server lets in and has wait. */
const openLoop = { shopIds: [hotShopId], connectionCount: 16, inFlightCount: 200 };
const lone = { shopIds: [hotShopId], connectionCount: 1, inFlightCount: 10, perSecond: 50 };
/** How long calm shops are looked at after a load, in milliseconds. */
const afterMs = 3000;
const warmUpMs = 2000;

type Ask = (task: Omit<CallersTask, "port">) => Promise<CallersResult>;

/** The callers, each kind in a process of its own, all on the core of the callers. */
interface Callers {
  readonly hot: Ask;
  readonly calm: Ask;
  readonly lone: Ask;
}

/** Starts private servers, measures, and removes everything. */
export async function measureOverload(
  plan: OverloadPlan,
  { say, signal }: Command,
  cleanUp: AsyncDisposableStack,
): Promise<OverloadRound[]> {
  const cores = chooseCores();
  if (cores === undefined) {
    throw new Error("a machine with one core cannot be overloaded by callers on a core of their own");
  }
  say(`callers on core ${cores.callers}, servers on ${cores.servers}`);
  pin(process.pid, cores.servers);
  const testbed = await startTestbed(cleanUp);
  const callers = startCallers(testbed, cores.callers, cleanUp);
  await inParallel(calmShopIds.length + 1, 16, (index) => openSmallShop(testbed, calmShopIds[index] ?? hotShopId));
  await Promise.all([
    callers.hot({ ...closedLoop, durationMs: warmUpMs }),
    callers.calm({ ...calm, durationMs: warmUpMs }),
  ]);
  const rounds: OverloadRound[] = [];
  for (let index = 0; index < plan.roundCount; index += 1) {
    signal.throwIfAborted();
    rounds.push(await measureRound(callers, plan, { say, signal }));
  }
  return rounds;
}

function startCallers({ port }: Testbed, core: string, cleanUp: AsyncDisposableStack): Callers {
  const start = (): Child => {
    const child = startChild("./overload/callers-process.ts", cleanUp);
    pin(child.pid, core);
    return child;
  };
  const askOf =
    (child: Child): Ask =>
    (task) =>
      child.ask<CallersResult>({ ...task, port } satisfies CallersTask);
  const hot = start();
  // The others are waited for by nobody but the clock: what they wait for the core would be taken for the server's time.
  setPriority(hot.pid, 10);
  return { hot: askOf(hot), calm: askOf(start()), lone: askOf(start()) };
}

async function measureRound(callers: Callers, plan: OverloadPlan, { say, signal }: Command): Promise<OverloadRound> {
  const { durationMs } = plan;
  await sleep(500);
  const quiet = await callers.calm({ ...calm, durationMs });
  const quietP99Ms = quiet.done.p99Ms;
  const [most, beside] = await Promise.all([
    callers.hot({ ...closedLoop, durationMs }),
    callers.calm({ ...calm, durationMs }),
  ]);
  const peak = (most.doneInTimeCount + beside.doneInTimeCount) / (durationMs / 1000);
  say(
    `quiet p99 ${quietP99Ms.toFixed(1)} ms; peak ${peak.toFixed(0)}/s, calm p99 beside it ${beside.done.p99Ms.toFixed(1)} ms`,
  );
  const loads: Overload[] = [];
  for (const factor of plan.factors) {
    signal.throwIfAborted();
    const load = await overload(callers, { factor, durationMs, quietP99Ms, wantedPerSecond: factor * peak });
    say(
      `${factor} times the peak: ${load.goodput.toFixed(0)} sold/s, calm p99 ${load.calmP99Ms.toFixed(1)} ms, ${(100 * load.shedShare).toFixed(0)} % refused`,
    );
    loads.push(load);
  }
  return { peak, quietP99Ms, loads };
}

interface LoadTask {
  readonly factor: number;
  readonly durationMs: number;
  readonly quietP99Ms: number;
  readonly wantedPerSecond: number;
}

async function overload(callers: Callers, task: LoadTask): Promise<Overload> {
  const { factor, durationMs, quietP99Ms, wantedPerSecond } = task;
  const calmly = callers.calm({ ...calm, durationMs: durationMs + afterMs });
  const alone = callers.lone({ ...lone, durationMs });
  const hot = await callers.hot({ ...openLoop, perSecond: wantedPerSecond, durationMs });
  const endedAtMs = performance.timeOrigin + performance.now() - (hot.elapsedMs - durationMs);
  const [{ shed: loneShed }, { answers, shedCount: calmShedCount, failedCount }] = await Promise.all([alone, calmly]);
  const during = answers.filter(([atMs]) => atMs <= endedAtMs);
  const slowAfter = answers.filter(([atMs, ms]) => atMs > endedAtMs && ms > 2 * quietP99Ms).map(([atMs]) => atMs);
  const seconds = hot.elapsedMs / 1000;
  return {
    factor,
    wantedPerSecond,
    sentPerSecond: (hot.doneCount + hot.shedCount + hot.failedCount) / seconds,
    goodput: (hot.doneInTimeCount + during.length) / (durationMs / 1000),
    hotP99Ms: hot.done.p99Ms,
    shedShare: hot.shedCount / (hot.doneCount + hot.shedCount + hot.failedCount),
    shedP99Ms: hot.shed.p99Ms,
    loneShedP99Ms: loneShed.p99Ms,
    calmP99Ms: summariseLatencies(during.map(([, ms]) => ms)).p99Ms,
    calmShedCount,
    failedCount: hot.failedCount + failedCount,
    backMs: slowAfter.length === 0 ? 0 : Math.max(...slowAfter) - endedAtMs,
  };
}
