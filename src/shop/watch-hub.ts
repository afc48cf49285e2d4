import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { readCommits } from "../postgres/commits.ts";
import type { Database } from "../postgres/schema.ts";
import { readDurableHead } from "../postgres/shops.ts";
import type { LogEntry } from "./log-entry.ts";

/**
 * The newest durable commits of one shop, for everyone in this process who watches it.
 *
 * Invariants: it holds only what Postgres has, contiguous, at most `maxCommits`; it is fed by this process's own flushes
 * and by other processes' hints, never by a poll per watcher; nobody's slowness makes it grow: who falls behind what it
 * holds reads Postgres.
 */
export class WatchHub {
  readonly #shopId: string;
  readonly #db: Kysely<Database>;
  readonly #logger: Logger;
  readonly #maxCommits: number;
  #commits: LogEntry[] = [];
  /** The newest durable position this hub knows; its commit is the last one held, or older than all that are held. */
  #head = 0;
  #wakers = new Set<() => void>();
  #started: Promise<void> | undefined;
  #pulling: Promise<void> | undefined;
  #hinted = 0;

  constructor(shopId: string, db: Kysely<Database>, maxCommits: number, logger: Logger) {
    this.#shopId = shopId;
    this.#db = db;
    this.#maxCommits = maxCommits;
    this.#logger = logger;
  }

  /** The newest durable position this hub knows. */
  get head(): number {
    return this.#head;
  }

  /** Learns the durable head; the hub holds what comes after it. */
  start(): Promise<void> {
    this.#started ??= readDurableHead(this.#db, this.#shopId).then((head) => {
      this.#head = Math.max(this.#head, head?.position ?? 0);
    });
    return this.#started;
  }

  /** The held commits after a position; undefined when the hub does not reach back that far. */
  after(position: number, count: number): readonly LogEntry[] | undefined {
    if (position >= this.#head) {
      return [];
    }
    const first = this.#commits[0]?.position;
    if (first === undefined || position < first - 1) {
      return undefined;
    }
    return this.#commits.slice(position - first + 1, position - first + 1 + count);
  }

  /** Who made the commit at a position, when the hub holds it. */
  writerOf(position: number): string | undefined {
    const first = this.#commits[0]?.position ?? 0;
    return this.#commits[position - first]?.commitId;
  }

  /** Takes durable commits, in order. What is known already is skipped; before a gap the missing ones are read. */
  offer(entries: readonly LogEntry[]): void {
    const newest = entries.at(-1);
    if (this.#started === undefined || newest === undefined) {
      return;
    }
    if (entries.some((entry) => this.#contradicts(entry))) {
      // Both stores lost a tail and history went on differently: watchers find out by the identity of their position.
      this.#commits = [];
      this.#head = newest.position;
      this.#wake();
      return;
    }
    const fresh = entries.filter((entry) => entry.position > this.#head);
    const first = fresh[0];
    if (first === undefined) {
      return;
    }
    if (first.position !== this.#head + 1) {
      this.hint(newest.position);
      return;
    }
    this.#commits.push(...fresh);
    this.#head = newest.position;
    if (this.#commits.length > this.#maxCommits * 2) {
      this.#commits = this.#commits.slice(-this.#maxCommits);
    }
    this.#wake();
  }

  #contradicts(entry: LogEntry): boolean {
    const writer = this.writerOf(entry.position);
    return writer !== undefined && writer !== entry.commitId;
  }

  /** Another process made a position durable: reads what is missing from Postgres, one read at a time. */
  hint(position: number): void {
    this.#hinted = Math.max(this.#hinted, position);
    if (this.#started !== undefined && this.#hinted > this.#head) {
      this.#pulling ??= this.#pull().finally(() => {
        this.#pulling = undefined;
      });
    }
  }

  async #pull(): Promise<void> {
    try {
      await this.#started;
      while (this.#hinted > this.#head) {
        const before = this.#head;
        this.offer(await readCommits(this.#db, this.#shopId, this.#head + 1, 1000));
        if (this.#head === before) {
          return; // Postgres does not have it (it is being healed): the next hint comes with the flush
        }
      }
    } catch (error) {
      this.#logger.warn(
        { err: error, shop: this.#shopId },
        "watchers could not read commits; the next hint tries again",
      );
    }
  }

  /** Waits until there may be something new, at most so long; returns early when the signal aborts. */
  wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#wakers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done, { once: true });
      this.#wakers.add(done);
      if (signal.aborted) {
        done();
      }
    });
  }

  #wake(): void {
    const wakers = this.#wakers;
    this.#wakers = new Set();
    for (const wake of wakers) {
      wake();
    }
  }
}
