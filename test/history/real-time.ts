import { positionOf } from "../model/told.ts";
import type { CallRecord } from "./history.ts";

/** The position an outcome proves to exist: that of its commit, or the one it observed; 0 = it proves none. */
export function provenPosition({ outcome }: CallRecord): number {
  if (outcome === undefined) return 0;
  const commit = outcome.kind === "answered" ? outcome.commit : undefined;
  return commit?.position ?? positionOf(outcome) ?? 0;
}

/** Whether the call itself made the commit it was answered with. */
export function isAccepted({ outcome }: CallRecord): boolean {
  return outcome?.kind === "answered" && outcome.commit !== undefined && outcome.commit.replayed !== true;
}

/**
 * What real time says of positions: whoever is called after somebody else was answered comes after them. Two sorted lists
 * with running extremes, so that each question is one binary search.
 */
export class RealTime {
  readonly #returned: number[] = [];
  /** The largest position proven by the first so many of the returned. */
  readonly #newest: number[] = [];
  readonly #invoked: number[] = [];
  /** The smallest position among the last so many of the invoked, from here on. */
  readonly #oldest: number[] = [];

  constructor(calls: readonly CallRecord[]) {
    const known = calls.filter((call) => provenPosition(call) > 0);
    let newest = 0;
    for (const call of known.toSorted((left, right) => left.returnedMs - right.returnedMs)) {
      newest = Math.max(newest, provenPosition(call));
      this.#returned.push(call.returnedMs);
      this.#newest.push(newest);
    }
    let oldest = Number.POSITIVE_INFINITY;
    for (const call of known.filter(isAccepted).toSorted((left, right) => right.invokedMs - left.invokedMs)) {
      oldest = Math.min(oldest, provenPosition(call));
      this.#invoked.push(-call.invokedMs);
      this.#oldest.push(oldest);
    }
  }

  /** The newest position that somebody had been told of before this moment, in ms. */
  knownBefore(ms: number): number {
    return this.#newest[countBelow(this.#returned, ms) - 1] ?? 0;
  }

  /** The oldest commit of a call that began after this moment, in ms; Infinity = there is none. */
  firstAfter(ms: number): number {
    return this.#oldest[countBelow(this.#invoked, -ms) - 1] ?? Number.POSITIVE_INFINITY;
  }
}

/** How many of some numbers, which are in order, are smaller. */
export function countBelow(numbers: readonly number[], limit: number): number {
  let [from, to] = [0, numbers.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((numbers[middle] as number) < limit) from = middle + 1;
    else to = middle;
  }
  return from;
}
