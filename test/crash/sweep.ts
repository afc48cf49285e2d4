import { setTimeout as sleep } from "node:timers/promises";
import type { HoldfastProcess } from "../helpers/holdfast.ts";
import { until } from "../helpers/until.ts";
import { type Callers, startCallers } from "./callers.ts";
import { checkAftermath } from "./checks.ts";
import type { Scenario, Scene } from "./scenarios.ts";
import type { Trap } from "./set-trap.ts";
import { isDown, type Stage, setTrapIn, stageShop } from "./stage.ts";
import { startWatchers } from "./watchers.ts";

/** One crash, or several in a row, and the load around them. */
export interface Plan {
  /** One for each victim; the next one is caught while it recovers from what the one before left. */
  readonly traps: readonly Trap[];
  readonly scenario: Scenario;
  readonly seed: number;
}

/** The servers of a sweep. */
export interface Crew {
  /** Survives every crash. */
  readonly rescuer: HoldfastProcess;
  /** Replaced when they have died. */
  readonly victims: HoldfastProcess[];
}

const callerCount = 5;
/** Calls that every caller makes after the crash. */
const laterCalls = 8;
/** How long a victim may take to get to its trap, in milliseconds. */
const reachMs = 30_000;
/** How long it is given before it is provoked again, in milliseconds. */
const provokeMs = 1500;
/** How long a transaction stands still only if its server does, in milliseconds. */
const stoppedMs = 500;

/** Brings the victims to their traps under load, and checks what is left. Throws what is wrong. */
export async function crash(stage: Stage, crew: Crew, { traps, scenario, seed }: Plan): Promise<void> {
  const { rescuer, victims } = crew;
  const { shopId, calls: opening } = await stageShop(rescuer);
  let known: readonly HoldfastProcess[] = [];
  const know = (victim: HoldfastProcess) => {
    known = scenario.alone ? [victim] : [victim, rescuer];
  };
  know(victims[0] as HoldfastProcess);
  if (scenario.alone) for (const each of [rescuer, ...victims.slice(1)]) each.signal("SIGSTOP");
  const servers = () => known;
  const callers = startCallers({ shopId, seed, callerCount, scenario, servers });
  const watchers = startWatchers({ shopId, servers });
  try {
    for (const [index, trap] of traps.entries()) {
      const victim = victims[index] as HoldfastProcess;
      victim.signal("SIGCONT");
      know(victim);
      const scene = { stage, shopId, victim, rescuer, down: (mostMs: number) => downWithin(victim, mostMs) };
      await reach(scene, scenario, trap, index === 0);
      if (index < traps.length - 1) continue;
      for (const each of [rescuer, ...victims.slice(traps.length)]) each.signal("SIGCONT");
      if (trap.signal === "SIGSTOP") {
        await sleep(stoppedMs);
        await endStopped(stage);
      }
      await scenario.follow?.(scene);
    }
    known = [rescuer];
    const paused = victims.filter((_, index) => traps[index]?.signal === "SIGSTOP");
    if (paused.length > 0) {
      await takenOver(stage, callers);
      for (const each of paused) each.signal("SIGCONT");
      known = [rescuer, ...paused];
    }
    await callers.settle(laterCalls);
    await checkAftermath({
      stage,
      shopId,
      opening,
      callers,
      watchers,
      rescuer,
      hasEdits: scenario.editsTables === true,
    });
  } finally {
    for (const each of [rescuer, ...victims]) each.signal("SIGCONT");
    await watchers.close();
    await callers.settle(0).catch(() => {}); // what was wrong has been thrown
  }
}

/** Sets the trap and waits until the victim is in it. */
async function reach(scene: Scene, scenario: Scenario, trap: Trap, isFirst: boolean): Promise<void> {
  const { victim, down } = scene;
  const endsAt = performance.now() + reachMs;
  if (isFirst) await scenario.prepare?.(scene);
  setTrapIn(victim, trap);
  // Those that follow find what the first one left.
  if (!isFirst) await down(provokeMs);
  while (!(await isDown(victim))) {
    if (performance.now() > endsAt) throw new Error(`"${trap.point}" was not reached ${trap.hit} times`);
    await Promise.all([scenario.provoke?.(scene), down(provokeMs)]);
  }
}

async function downWithin(victim: HoldfastProcess, mostMs: number): Promise<void> {
  const endsAt = performance.now() + mostMs;
  while (performance.now() < endsAt && !(await isDown(victim))) await sleep(20);
}

/**
 * A server that stands still in the middle of an opening keeps the shop's row locked until Postgres ends its session, after a
 * minute; this does it earlier.
 */
async function endStopped({ postgres }: Stage): Promise<void> {
  await postgres.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
    where state = 'idle in transaction' and state_change < clock_timestamp() - interval '${stoppedMs} ms'`,
  );
}

/** Waits until the survivor serves. */
async function takenOver(stage: Stage, callers: Callers): Promise<void> {
  const before = callers.accepted.length;
  const serves = async (): Promise<boolean> => {
    await endStopped(stage);
    callers.check();
    return callers.accepted.length >= before + callerCount * 2;
  };
  await until("the survivor serves", serves, 20_000);
}

/** Starts victims anew in the place of those that died, and waits until every server serves. */
export async function replaceDead(stage: Stage, crew: Crew, count: number): Promise<void> {
  for (let index = 0; index < Math.max(count, crew.victims.length); index += 1) {
    const victim = crew.victims[index];
    if (victim === undefined || (await isDown(victim))) crew.victims[index] = await stage.spawn();
  }
  // Lists are read from Postgres, and look at Redis first.
  for (const { grpc } of [crew.rescuer, ...crew.victims]) {
    const serves = () =>
      grpc.orders.listOrders({ shopId: "default" }).then(
        () => true,
        () => false,
      );
    await until("every server serves", serves, 20_000);
  }
}
