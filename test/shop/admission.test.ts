import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Refusal } from "../../src/refusal.ts";
import { Admission, type Gate, overloaded, Place } from "../../src/shop/admission.ts";
import { createFlowLimit } from "../../src/shop/flow-limit.ts";

/** Lets a call enter; notes its name when it has. */
function call(gate: Gate, name: string, entered: string[], isLaterStep = false): void {
  const turn = gate.enter(isLaterStep);
  if (turn === undefined) entered.push(name);
  else void turn.then(() => entered.push(name));
}

/** So many calls at once, named by their gate and a number. */
function callAll(gate: Gate, name: string, count: number, entered: string[], isLaterStep = false): void {
  for (let index = 0; index < count; index += 1) call(gate, `${name}${index}`, entered, isLaterStep);
}

/** Ends a call of a gate; resolves when those who may enter now have. */
async function leave(gate: Gate, entered: string[]): Promise<string[]> {
  const before = entered.length;
  gate.leave();
  await Promise.resolve();
  return entered.slice(before);
}

describe("admission", () => {
  test("lets as many in as the limit says, has as many wait as fit in, and refuses the rest", async () => {
    const admission = new Admission({ maxInFlight: 8, maxWaiting: 3 });
    const gate = admission.openGate();
    const entered: string[] = [];
    callAll(gate, "a", 9, entered);
    expect(entered).toEqual(["a0", "a1", "a2", "a3", "a4", "a5"]);
    const { reason, details } = overloaded("too many");
    expect(reason).toBe("OVERLOADED");
    expect(details.retryMs).toBeGreaterThanOrEqual(100);
    expect(details.retryMs).toBeLessThan(500);
    expect(() => gate.enter(false)).toThrow("too many calls of this shop are waiting");
    expect(() => gate.refuseFull(false)).toThrow(Refusal);
    expect(admission).toMatchObject({ inFlightCount: 6, waitingCount: 3, shedCount: 2 });
    for (const next of ["a6", "a7", "a8"]) expect(await leave(gate, entered)).toEqual([next]);
    for (let count = 6; count > 0; count -= 1) expect(await leave(gate, entered)).toEqual([]);
    expect(admission).toMatchObject({ inFlightCount: 0, waitingCount: 0 });
  });

  test("has later steps of purchases go first, and wait in a line that others cannot fill", async () => {
    const gate = new Admission({ maxInFlight: 5, maxWaiting: 2 }).openGate();
    const entered: string[] = [];
    callAll(gate, "a", 6, entered);
    expect(() => gate.enter(false)).toThrow("waiting");
    callAll(gate, "later", 2, entered, true);
    expect(() => gate.enter(true)).toThrow("waiting");
    for (const next of ["later0", "later1", "a4", "a5"]) expect(await leave(gate, entered)).toEqual([next]);
  });

  test("lets a calm shop in while a hot one has its limit and a full line", async () => {
    const admission = new Admission({ maxInFlight: 53, maxWaiting: 100 });
    const [hot, calm] = [admission.openGate(), admission.openGate()];
    const entered: string[] = [];
    callAll(hot, "hot", 140, entered);
    entered.length = 0;
    callAll(calm, "calm", 10, entered);
    expect(entered).toHaveLength(10);
    expect(admission.waitingCount).toBe(100);
  });

  test("has calm shops wait when all places are taken, and lets them in before a hot one", async () => {
    const admission = new Admission({ maxInFlight: 40, maxWaiting: 100 });
    const hot = admission.openGate();
    const calm = Array.from({ length: 12 }, (_, index) => ({ name: `calm${index}-`, gate: admission.openGate() }));
    const entered: string[] = [];
    callAll(hot, "hot", 40, entered);
    for (const { name, gate } of calm) callAll(gate, name, 1, entered);
    expect(admission).toMatchObject({ inFlightCount: 40, waitingCount: 12 });
    expect(await leave(hot, entered)).toEqual(["calm10-0"]);
    expect(await leave(hot, entered)).toEqual(["calm11-0"]);
    expect(await leave(hot, entered)).toEqual([]);
    expect(admission).toMatchObject({ inFlightCount: 39, waitingCount: 10 });
  });

  test("divides what there is among hot shops", async () => {
    const admission = new Admission({ maxInFlight: 53, maxWaiting: 1000 });
    const gates = Array.from({ length: 4 }, () => admission.openGate());
    const running = new Map(gates.map((gate) => [gate, 0]));
    for (const gate of gates) {
      for (let index = 0; index < 200; index += 1) {
        const begin = (): void => void running.set(gate, (running.get(gate) ?? 0) + 1);
        const turn = gate.enter(false);
        if (turn === undefined) begin();
        else void turn.then(begin);
      }
    }
    // The first one came when it was alone: as its calls end, the places go to the others too.
    for (let round = 0; round < 400; round += 1) {
      const gate = gates[round % gates.length] as Gate;
      if ((running.get(gate) ?? 0) === 0) continue;
      running.set(gate, (running.get(gate) ?? 0) - 1);
      gate.leave();
      await Promise.resolve();
    }
    for (const count of running.values()) {
      expect(count).toBeGreaterThanOrEqual(8);
      expect(count).toBeLessThanOrEqual(12);
    }
  });

  test("loses nobody, whatever the order in which calls come and go", async () => {
    const admission = new Admission({ maxInFlight: 10, maxWaiting: 50 });
    const gates = Array.from({ length: 3 }, () => admission.openGate());
    const running: Gate[] = [];
    let [admittedCount, shedCount] = [0, 0];
    let seed = 7;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed % below;
    };
    for (let turn = 0; turn < 5000; turn += 1) {
      const gate = gates[random(3)] as Gate;
      if (random(5) < 3) {
        try {
          const entered = gate.enter(random(4) === 0);
          admittedCount += 1;
          if (entered === undefined) running.push(gate);
          else void entered.then(() => running.push(gate));
        } catch {
          shedCount += 1;
        }
      } else {
        running.splice(random(Math.max(1, running.length)), 1)[0]?.leave();
      }
      await Promise.resolve();
      expect(admission.inFlightCount).toBe(running.length);
      expect(admission.inFlightCount).toBeLessThanOrEqual(10);
    }
    expect(shedCount).toBe(admission.shedCount);
    let leftCount = 0;
    while (running.length > 0) {
      running.pop()?.leave();
      leftCount += 1;
      await Promise.resolve();
    }
    expect(admission).toMatchObject({ inFlightCount: 0, waitingCount: 0 });
    expect(leftCount).toBeLessThan(admittedCount);
  });

  test("lets everybody in when there is nothing to wait for any more", async () => {
    const admission = new Admission({ maxInFlight: 5, maxWaiting: 10 });
    const gate = admission.openGate();
    const entered: string[] = [];
    callAll(gate, "a", 8, entered);
    gate.letAllIn();
    await Promise.resolve();
    expect(entered).toHaveLength(8);
    expect(admission).toMatchObject({ inFlightCount: 8, waitingCount: 0 });
    for (let count = 0; count < 4; count += 1) gate.leave();
    callAll(gate, "b", 1, entered);
    expect(admission.waitingCount).toBe(1);
  });
});

describe("what a process learns", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
  afterEach(() => void vi.useRealTimers());

  /** Rounds of a group commit: so many calls of a hot shop, and some of calm ones, enter, take so long and end at once. */
  function rounds(admission: Admission, count: number, hotCount: number, calmCount: number, tookMs: number): void {
    const [hot, calm] = [admission.openGate(), admission.openGate()];
    for (let round = 0; round < count; round += 1) {
      const places = [...Array(hotCount).fill(hot), ...Array(calmCount).fill(calm)].map(
        (gate) => new Place(gate, false),
      );
      const entered = places.filter((place) => place.enter() === undefined);
      vi.advanceTimersByTime(tookMs);
      for (const place of entered) {
        place.took(tookMs);
        place.leave();
      }
      hot.letAllIn();
      for (const place of places) place.leave(); // who had to wait
    }
  }

  test("a hot shop that is alone is not taken for a calm one that waits, however many of its calls come and go at once", () => {
    const admission = new Admission({ maxInFlight: 1000, maxWaiting: 1000 });
    rounds(admission, 100, 256, 0, 25);
    expect(admission.limitCount).toBe(750);
  });

  test("calm shops that wait beside it are noticed", () => {
    const admission = new Admission({ maxInFlight: 1000, maxWaiting: 1000 });
    rounds(admission, 20, 256, 2, 25);
    expect(admission.limitCount).toBeLessThan(256);
  });
});

describe("the flow limit", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
  afterEach(() => void vi.useRealTimers());

  const maxCount = 1000;

  /** So many looks, in each of which calls took so long while so many were in flight. */
  function look(
    limit: ReturnType<typeof createFlowLimit>,
    count: number,
    calls: Partial<Record<"calm" | "busy", number>>,
    inFlight: number,
  ): number {
    for (let each = 0; each < count; each += 1) {
      for (let call = 0; call < 20; call += 1) {
        vi.advanceTimersByTime(6);
        if (calls.calm !== undefined) limit.ended(calls.calm, inFlight, true);
        if (calls.busy !== undefined) limit.ended(calls.busy, inFlight, false);
      }
    }
    return limit.current;
  }

  test("begins at its most, and stays there while calls are quick", () => {
    const limit = createFlowLimit({ maxCount });
    expect(look(limit, 20, { calm: 3, busy: 50 }, 900)).toBe(maxCount);
  });

  test("goes down to where calm shops wait no longer than they may, and not below a full flush", () => {
    const limit = createFlowLimit({ maxCount });
    expect(look(limit, 5, { calm: 40, busy: 40 }, 400)).toBeLessThan(250);
    expect(look(limit, 50, { calm: 400, busy: 400 }, 400)).toBe(64);
  });

  test("lets a hot shop wait for itself, but not as long as its callers", () => {
    const limit = createFlowLimit({ maxCount });
    expect(look(limit, 20, { busy: 150 }, 900)).toBe(maxCount);
    expect(look(limit, 3, { busy: 2000 }, 900)).toBeLessThan(500);
  });

  test("goes up again when calls are quick and the limit is used, and never above its most", () => {
    const limit = createFlowLimit({ maxCount });
    look(limit, 50, { calm: 400 }, 400);
    expect(look(limit, 3, { calm: 3 }, 20)).toBe(64);
    expect(look(limit, 10, { calm: 3 }, 64)).toBeGreaterThan(100);
    expect(look(limit, 100, { calm: 3 }, 1000)).toBe(maxCount);
  });

  test("takes stores that are slow by themselves for what they are", () => {
    const limit = createFlowLimit({ maxCount });
    look(limit, 30, { calm: 60 }, 2);
    expect(look(limit, 30, { calm: 120, busy: 150 }, 600)).toBe(maxCount);
  });
});
