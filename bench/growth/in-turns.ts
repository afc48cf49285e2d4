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

/** What was measured of one case in one round. */
export type Measured<Case, Result> = Case &
  Result & {
    /** Counted from 0. */
    readonly round: number;
  };

/** One measurement of one size. */
export type Point<Result> = Measured<{ readonly size: number }, Result>;

/**
 * Rounds in which every case takes a turn, each time beginning with another one, so that what slows the machine down for a
 * while slows every case down. Before them all cases are measured once without counting.
 */
export async function inTurns<Case extends object, Result extends object>(
  cases: readonly Case[],
  { roundCount, signal }: Rounds,
  measure: (each: Case) => Promise<Result>,
): Promise<Measured<Case, Result>[]> {
  const found: Measured<Case, Result>[] = [];
  for (let round = -1; round < roundCount; round += 1) {
    for (let turn = 0; turn < cases.length; turn += 1) {
      signal.throwIfAborted();
      const each = cases[(Math.max(0, round) + turn) % cases.length] as Case;
      const result = await measure(each);
      if (round >= 0) {
        found.push({ ...each, ...result, round });
      }
    }
  }
  return found;
}

/** Sizes as cases. */
export function casesOf(sizes: readonly number[]): { readonly size: number }[] {
  return sizes.map((size) => ({ size }));
}
