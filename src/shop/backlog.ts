/** How far the log of a shop is ahead of Postgres, as far as this process knows. */
export class Backlog {
  /** The newest position that a reply told: what all processes together have reached. */
  #lastPosition = 0;
  /** The newest position known to be durable, whoever made it so. */
  #durablePosition = 0;
  /** When that last moved on, or when commits began to wait for it. */
  #progressAtMs = 0;
  /** Mutations that were sent to Redis and have no reply yet: each may be a commit already. */
  #decidingCount = 0;

  /** The newest position that this process knows to be durable. */
  get durablePosition(): number {
    return this.#durablePosition;
  }

  /** Commits that this process knows of and that are not known to be durable. */
  get count(): number {
    return Math.max(0, this.#lastPosition - this.#durablePosition);
  }

  /** How long commits have waited while none became durable, in milliseconds; 0 when none waits. */
  get stalledMs(): number {
    return this.count === 0 ? 0 : performance.now() - this.#progressAtMs;
  }

  /** Whether so many commits wait, with those that Redis may be making just now. */
  isFull(maxCount: number): boolean {
    return this.#lastPosition + this.#decidingCount - this.#durablePosition >= maxCount;
  }

  /** A script was sent that may make a commit. */
  beginDeciding(): void {
    this.#decidingCount += 1;
  }

  /** It is over. */
  endDeciding(): void {
    this.#decidingCount -= 1;
  }

  /** The shop was opened: Postgres has all that is in its log. */
  opened(position: number): void {
    this.#lastPosition = position;
    this.#durablePosition = position;
  }

  /** A reply told where the log is. */
  reached(position: number): void {
    if (this.#lastPosition <= this.#durablePosition && position > this.#durablePosition) {
      this.#progressAtMs = performance.now();
    }
    this.#lastPosition = position;
  }

  /** Somebody made this position durable. */
  noteDurable(position: number): void {
    if (Number.isSafeInteger(position) && position > this.#durablePosition) {
      this.#durablePosition = position;
      this.#progressAtMs = performance.now();
    }
  }

  /**
   * Postgres has, up to this position, all that Redis holds of this shop. Commits that this process saw beyond it are gone with
   * a Redis that lost them: they would be taken for a backlog until the shop's next reply, and a full one lets no call get one.
   */
  nothingWaits(position: number): void {
    if (this.#decidingCount === 0) {
      this.#lastPosition = Math.min(this.#lastPosition, Math.max(position, this.#durablePosition));
    }
  }
}
