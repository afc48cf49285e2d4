/** What a queue of payments needs. */
export interface PaymentQueueOptions<Job> {
  /** Jobs at the same time. */
  readonly concurrency: number;
  /**
   * Does a job; `round` counts from 1 how often it was tried. Resolves with undefined when it is over, else with the wait
   * until it may be tried again, in milliseconds. Never rejects.
   */
  readonly run: (job: Job, round: number) => Promise<number | undefined>;
  /** Told when there is room for more. */
  readonly onRoom: () => void;
}

interface Round {
  readonly number: number;
  /** On the clock of `performance.now()`. */
  readonly notBeforeMs: number;
}

/** Jobs that wait for a free place, per place. */
const queuedPerPlace = 8;

/**
 * The payments a worker has at hand. Each is identified by a key, and is never worked on twice at the same time. The queue
 * remembers only how long to leave a payment alone; that there is something to pay is Postgres' to know, so what is
 * dropped here comes again with the next look.
 */
export class PaymentQueue<Job> {
  readonly #options: PaymentQueueOptions<Job>;
  readonly #queued = new Map<string, Job>();
  readonly #running = new Set<string>();
  readonly #waiting = new Map<string, Round>();
  /** Over since the last `beginLook`: what was read before may not say so yet. */
  readonly #over = new Set<string>();
  #onIdle: (() => void) | undefined;

  constructor(options: PaymentQueueOptions<Job>) {
    this.#options = options;
  }

  /** Whether more would be taken. */
  get hasRoom(): boolean {
    return this.#queued.size < this.#options.concurrency * queuedPerPlace;
  }

  /** Call right before pending payments are read: what ends from now on may still be among them. */
  beginLook(): void {
    this.#over.clear();
  }

  /** Takes a pending payment, unless it is at hand already or was to be left alone for longer. */
  offer(key: string, job: Job): void {
    const isKnown = this.#queued.has(key) || this.#running.has(key) || this.#over.has(key);
    if (isKnown || (this.#waiting.get(key)?.notBeforeMs ?? 0) > performance.now()) {
      return;
    }
    this.#queued.set(key, job);
    this.#startNext();
  }

  /** Forgets what has not begun. */
  clear(): void {
    this.#queued.clear();
    this.#waiting.clear();
  }

  /** Resolves when nothing is being worked on. */
  async idle(): Promise<void> {
    if (this.#running.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
  }

  #startNext(): void {
    for (const [key, job] of this.#queued) {
      if (this.#running.size >= this.#options.concurrency) {
        return;
      }
      this.#queued.delete(key);
      this.#running.add(key);
      void this.#work(key, job);
    }
  }

  async #work(key: string, job: Job): Promise<void> {
    const number = (this.#waiting.get(key)?.number ?? 0) + 1;
    const waitMs = await this.#options.run(job, number);
    this.#running.delete(key);
    if (waitMs === undefined) {
      this.#waiting.delete(key);
      this.#over.add(key);
    } else {
      this.#waiting.set(key, { number, notBeforeMs: performance.now() + waitMs });
    }
    this.#startNext();
    if (this.#queued.size === 0) {
      this.#options.onRoom();
    }
    if (this.#running.size === 0) {
      this.#onIdle?.();
    }
  }
}
