/** Turns that streams take. */
export interface Turns {
  /** Resolves when it is the caller's turn: one in each round of the event loop, in the order they came. */
  next(): Promise<void>;
}

/**
 * Lets streams that have much to say go on one after the other, with everything else in between. What is written to a reader
 * that takes all of it waits for nothing: 25 watchers that caught up with 5,000 commits each let nobody else be answered for 14 s
 * (2 cores, November 2026).
 */
export function createTurns(): Turns {
  const waiting: (() => void)[] = [];
  let isTurning = false;

  function turn(): void {
    const first = waiting.shift();
    isTurning = waiting.length > 0;
    if (isTurning) setImmediate(turn);
    first?.();
  }

  return {
    next: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        if (!isTurning) setImmediate(turn);
        isTurning = true;
      }),
  };
}
