import { ForgetfulMap } from "./forgetful-map.ts";

/** Something that must not outlive a moment. */
export interface Perishable {
  /** No two have the same. */
  readonly number: number;
  /** The moment, in ms on the clock that is watched. */
  readonly deadlineMs: number;
  /** Called once, at most some ms after the moment. */
  expire(): void;
}

/** Watches over the deadlines of all that is in flight. */
export interface Deadlines {
  add(entry: Perishable): void;
  remove(entry: Perishable): void;
}

// Deadlines closer together than this end together, so that a sweep is never run for each of many calls.
const SWEEP_INTERVAL_MS = 5;
// A timer cannot be set for more than 2^31 ms; waking up for nothing once a minute costs nothing.
const MAX_SLEEP_MS = 60_000;

/**
 * Ends entries at their deadline with one timer for all of them. Nearly all end by themselves, and then adding and
 * removing is all they pay: 0.08 us, where a timer of their own takes 0.28 us (November 2026). `clock` tells the time in ms;
 * default: since the epoch.
 */
export function createDeadlines(clock: () => number = Date.now): Deadlines {
  const entries = new ForgetfulMap<number, Perishable>();
  let timer: NodeJS.Timeout | undefined;
  let timerAtMs = Number.POSITIVE_INFINITY;

  function wakeAt(atMs: number, nowMs: number): void {
    clearTimeout(timer);
    timerAtMs = atMs;
    timer = setTimeout(sweep, Math.min(Math.max(SWEEP_INTERVAL_MS, atMs - nowMs), MAX_SLEEP_MS));
    timer.unref();
  }

  function sweep(): void {
    timerAtMs = Number.POSITIVE_INFINITY;
    const nowMs = clock();
    let earliestMs = Number.POSITIVE_INFINITY;
    entries.forEach((entry) => {
      if (entry.deadlineMs <= nowMs) {
        entries.delete(entry.number);
        entry.expire();
      } else if (entry.deadlineMs < earliestMs) {
        earliestMs = entry.deadlineMs;
      }
    });
    // An expiring entry may have added another and set the timer.
    if (earliestMs < timerAtMs) {
      wakeAt(earliestMs, nowMs);
    }
  }

  return {
    add: (entry) => {
      if (entry.deadlineMs === Number.POSITIVE_INFINITY) {
        return;
      }
      entries.set(entry.number, entry);
      if (entry.deadlineMs < timerAtMs) {
        wakeAt(entry.deadlineMs, clock());
      }
    },
    remove: (entry) => {
      entries.delete(entry.number);
    },
  };
}
