import type { Dice } from "../crash/dice.ts";

/** The doors that are attacked, on this machine. */
export interface Target {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** The CA to check the doors by, in PEM. Undefined: they speak without TLS, and one of them HTTP/1.1 only. */
  readonly ca: string | undefined;
}

/** What an attack is made with. */
export interface AttackOptions {
  readonly target: Target;
  /** Requests, resets or connections, on both doors together. */
  readonly count: number;
  /** Of these per second, so that a run says the same on a fast machine as on a slow one. */
  readonly perSecond: number;
  readonly dice: Dice;
}

/** What came of an attack. */
export interface AttackResult {
  /** How often each thing happened. */
  readonly counts: Readonly<Record<string, number>>;
  /** What must not have happened, in words. */
  readonly wrong: readonly string[];
}

/** Counts what happens. */
export class Tally implements AttackResult {
  readonly counts: Record<string, number> = {};
  readonly wrong: string[] = [];

  add(name: string, count = 1): void {
    this.counts[name] = (this.counts[name] ?? 0) + count;
  }
}

/** Lets so many things happen per second. */
export interface Pace {
  /** Resolves when `count` more may happen. */
  next(count?: number): Promise<void>;
}

/** Creates a pace that begins now. What is late is made up for. */
export function createPace(perSecond: number): Pace {
  const beganMs = performance.now();
  let takenCount = 0;
  return {
    next: async (count = 1) => {
      takenCount += count;
      const waitMs = beganMs + (takenCount / perSecond) * 1000 - performance.now();
      if (waitMs > 1) await new Promise((resolve) => setTimeout(resolve, waitMs));
    },
  };
}

/** Resolves when a promise has, or after a time, whatever comes first; tells whether it was the promise. */
export async function within(ms: number, promise: Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => late.resolve(false), ms);
  const isThere = await Promise.race([promise.then(() => true), late.promise]);
  clearTimeout(timer);
  return isThere;
}
