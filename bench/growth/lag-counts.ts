/** Lags counted by the millisecond: as many as there are, in little memory. */
export class LagCounts {
  readonly #counts = new Uint32Array(60_001);
  #total = 0;

  /** Counts one; below 0, as when a clock was set back, is 0, and a minute is the most. */
  add(lagMs: number): void {
    const index = Math.min(Math.max(0, Math.round(lagMs)), this.#counts.length - 1);
    this.#counts[index] = (this.#counts[index] as number) + 1;
    this.#total += 1;
  }

  get total(): number {
    return this.#total;
  }

  /** The smallest lag that at least this share of all does not exceed; NaN when there are none. */
  quantile(share: number): number {
    let left = Math.ceil(share * this.#total);
    if (left === 0) {
      return Number.NaN;
    }
    return this.#counts.findIndex((count) => {
      left -= count;
      return left <= 0;
    });
  }
}
