import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { around } from "../crash-point.ts";
import { readCommits } from "../postgres/commits.ts";
import type { Database } from "../postgres/schema.ts";
import { readDurableHead } from "../postgres/shops.ts";
import type { LogEntry } from "./log-entry.ts";
import { isStoreAway } from "./outage.ts";

/** A commit, by what it is told apart from others. */
interface Identity {
  readonly position: number;
  readonly commitId: string;
}

/** Where a watch is: what it was sent last. */
export interface WatchCursor {
  position: number;
}

/** How long commits are kept at least that every watch was sent, for one that comes back, and half of how long at most, in milliseconds. */
const keptMs = 5000;

/**
 * The newest durable commits of one shop, for everyone in this process who watches it.
 *
 * Invariants: it holds only what Postgres has, contiguous, at most twice `maxCommits`; it is fed by this process's own flushes
 * and by other processes' hints, never by a poll per watcher; nobody's slowness makes it grow: who falls behind what it
 * holds reads Postgres. What every watch was sent goes after a while, and with the last watch the hub itself: who comes later gets
 * another one.
 */
export class WatchHub {
  readonly #shopId: string;
  readonly #db: Kysely<Database>;
  readonly #logger: Logger;
  readonly #maxCommits: number;
  readonly #onEmpty: () => void;
  /** The commit before the first one held: every position from it to the head has a known identity. */
  #base: Identity = { position: 0, commitId: "" };
  #commits: LogEntry[] = [];
  #wakers = new Set<() => void>();
  #started: Promise<void> | undefined;
  #pulling: Promise<void> | undefined;
  #hinted = 0;
  readonly #cursors = new Set<WatchCursor>();
  /** Where the head was a while ago, and when, on the clock of `performance`. */
  #earlier = { head: 0, atMs: 0 };

  /** `onEmpty` is called when the last watch has left: the hub is not to be used again. */
  constructor(shopId: string, db: Kysely<Database>, maxCommits: number, logger: Logger, onEmpty: () => void) {
    this.#shopId = shopId;
    this.#db = db;
    this.#maxCommits = maxCommits;
    this.#logger = logger;
    this.#onEmpty = onEmpty;
  }

  /** The newest durable position this hub knows. */
  get head(): number {
    return this.#base.position + this.#commits.length;
  }

  /** Takes note of a watch until `leave`; it has not begun yet. */
  enter(): WatchCursor {
    const cursor = { position: Number.POSITIVE_INFINITY };
    this.#cursors.add(cursor);
    return cursor;
  }

  leave(cursor: WatchCursor): void {
    this.#cursors.delete(cursor);
    if (this.#cursors.size === 0) {
      this.#onEmpty();
    }
  }

  get watcherCount(): number {
    return this.#cursors.size;
  }

  /** Commits that the slowest watch has not been sent yet. */
  get lagCount(): number {
    let lag = 0;
    for (const { position } of this.#cursors) {
      lag = Math.max(lag, this.head - position);
    }
    return lag;
  }

  /** Learns the durable head; the hub holds what comes after it. */
  start(): Promise<void> {
    this.#started ??= readDurableHead(this.#db, this.#shopId).then(
      (head) => {
        this.#base = head ?? this.#base;
      },
      (error) => {
        this.#started = undefined;
        throw error;
      },
    );
    return this.#started;
  }

  /** The held commits after a position; undefined when the hub does not reach back that far. */
  after(position: number, count: number): readonly LogEntry[] | undefined {
    if (position >= this.head) {
      return [];
    }
    const skipped = position - this.#base.position;
    return skipped < 0 ? undefined : this.#commits.slice(skipped, skipped + count);
  }

  /** Who made the commit at a position; undefined outside of what the hub holds. */
  writerOf(position: number): string | undefined {
    const place = position - this.#base.position;
    return place === 0 ? this.#base.commitId : this.#commits[place - 1]?.commitId;
  }

  /**
   * Takes durable commits, in order, with the commit before them. What is known already is skipped; before a gap the missing
   * ones are read.
   */
  offer(before: Identity, entries: readonly LogEntry[]): void {
    if (this.#started === undefined) {
      return;
    }
    const newest = entries.at(-1) ?? before;
    if (newest.position < this.#base.position) {
      void this.#lookBack();
      return;
    }
    if ([before, ...entries].some((each) => this.#contradicts(each))) {
      // Both stores lost a tail and history went on differently: watchers find out by the identity of their position.
      this.#beginAt(newest);
      return;
    }
    const fresh = entries.filter((entry) => entry.position > this.head);
    if (fresh[0] === undefined) {
      this.#letGo();
      return;
    }
    if (fresh[0].position !== this.head + 1) {
      this.hint(newest.position);
      return;
    }
    this.#commits.push(...fresh);
    this.#letGo();
    this.#wake();
  }

  #beginAt({ position, commitId }: Identity): void {
    this.#base = { position, commitId };
    this.#commits = [];
    this.#wake();
  }

  /** What came is older than all that is held: it came late, or Postgres lost more than that. Asked anew, Postgres says which. */
  async #lookBack(): Promise<void> {
    const { position } = this.#base;
    try {
      const head = await readDurableHead(this.#db, this.#shopId);
      if (head !== undefined && head.position < position) {
        this.#beginAt(head);
      }
    } catch (error) {
      this.#sayUnread(error);
    }
  }

  /** Lets go of what is too much, and now and then of what was there the last time and every watch was sent. */
  #letGo(): void {
    if (this.#commits.length > this.#maxCommits * 2) {
      this.#drop(this.#commits.length - this.#maxCommits);
    }
    const nowMs = performance.now();
    if (nowMs - this.#earlier.atMs >= keptMs) {
      const sent = Math.min(this.#earlier.head, this.head - this.lagCount);
      this.#drop(sent - this.#base.position);
      this.#earlier = { head: this.head, atMs: nowMs };
    }
  }

  #drop(count: number): void {
    this.#base = this.#commits.splice(0, Math.max(0, count)).at(-1) ?? this.#base;
  }

  #contradicts({ position, commitId }: Identity): boolean {
    const writer = this.writerOf(position);
    return writer !== undefined && writer !== "" && writer !== commitId;
  }

  /** Another process made a position durable: reads what is missing from Postgres, one read at a time. */
  hint(position: number): void {
    this.#hinted = Math.max(this.#hinted, position);
    if (this.#started !== undefined && this.#hinted > this.head) {
      this.#pulling ??= this.#pull().finally(() => {
        this.#pulling = undefined;
      });
    }
  }

  /** Reads on from the head, which has to be there still. */
  async #pull(): Promise<void> {
    try {
      await this.#started;
      while (this.#hinted > this.head) {
        const known = this.head;
        const read = () => readCommits(this.#db, this.#shopId, known, 1000);
        const [at, ...after] = await around("watch: read commits", read);
        if (at?.position === known) {
          this.offer(at, after);
        }
        if (this.head === known) {
          return; // Postgres does not have more (it is being healed): the next hint comes with the flush
        }
      }
    } catch (error) {
      this.#sayUnread(error);
    }
  }

  #sayUnread(error: unknown): void {
    this.#logger[isStoreAway(error) ? "debug" : "warn"](
      { err: error, shop: this.#shopId },
      "watchers could not read commits; the next hint tries again",
    );
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
