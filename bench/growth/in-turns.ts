/** How often and how long, and who is told. */
export interface Rounds {
  readonly roundCount: number;
  /** Of each measurement, in milliseconds. */
  readonly durationMs: number;
  /** Ends the run between two measurements. */
  readonly signal: AbortSignal;
  /** Told what goes on. */
  readonly say: (text: string) => void;
}

/** One measurement of one size. */
export type Point<Measured> = Measured & {
  readonly size: number;
  /** Counted from 0. */
  readonly round: number;
};

/**
 * Rounds in which every size takes a turn, each time beginning with another one, so that what slows the machine down for a
 * while slows every size down. Before them all sizes are measured once without counting.
 */
export async function inTurns<Measured>(
  sizes: readonly number[],
  { roundCount, signal }: Rounds,
  measure: (size: number) => Promise<Measured>,
): Promise<Point<Measured>[]> {
  const points: Point<Measured>[] = [];
  for (let round = -1; round < roundCount; round += 1) {
    for (let turn = 0; turn < sizes.length; turn += 1) {
      signal.throwIfAborted();
      const size = sizes[(Math.max(0, round) + turn) % sizes.length] as number;
      const measured = await measure(size);
      if (round >= 0) {
        points.push({ ...measured, size, round });
      }
    }
  }
  return points;
}
