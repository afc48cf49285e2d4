/** A change that no test can see, because the program does the same with it. */
export interface Equivalent {
  /** Path from the tree's root. */
  readonly file: string;
  /** The changed lines, as the run prints them. */
  readonly diff: string;
  readonly why: string;
}

/** Random mutants that survived and may. Everything else that survives is a missing test. */
export const equivalents: readonly Equivalent[] = [];
