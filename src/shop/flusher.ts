import type { Logger } from "pino";
import { around, crashPoint } from "../crash-point.ts";
import type { FlushConnection } from "../postgres/connection.ts";
import { isConnectionLost, isLockTimeout, isPostgresBusy, isPostgresDown } from "../postgres/errors.ts";
import type { ShopHead } from "../postgres/flush-statement.ts";
import { readDurableHead } from "../postgres/shops.ts";
import { Refusal } from "../refusal.ts";
import type { StockJson } from "./event-json.ts";
import { Fenced, isReplyError, poisonCommit, redisRefuses } from "./fence.ts";
import type { ShopKeys } from "./keys.ts";
import { type LogEntry, parseEntries, type ReadEntries } from "./log-entry.ts";
import { chainFrom, type MadeCommit } from "./made-commits.ts";
import { isStoreAway } from "./outage.ts";
import { appendRecordable, projectReadable } from "./recordable.ts";
import type { ScriptRunner } from "./redis.ts";
import type { Scripts } from "./scripts.ts";
import type { ShopObserver } from "./shop-observer.ts";
import type { StoreState } from "./store-state.ts";
import { type Waiter, Waiters } from "./waiters.ts";

/**
 * The flush of one shop: takes the log to Postgres and releases who waits for it. FLUSH and ACK of docs/architecture.md.
 *
 * Invariants:
 * - at most one round is in flight per shop and process; it takes whatever arrived meanwhile, so there is no timer;
 * - the head is read before the log, and the statement that moves it names the head, the epoch and the server it was read
 *   from: anything else means that somebody was faster, and nothing was written;
 * - nobody is released on anything but a head that Postgres confirmed.
 */
export interface Flusher {
  readonly waiters: Waiters;
  /** The head as this process last knew it; undefined before the first look. */
  readonly head: ShopHead | undefined;
  /** The epoch this process works in. */
  epoch: number;
  /** How often the head was read from Postgres. */
  readonly headReadCount: number;
  /** Runs rounds until nobody waits; returns at once when a run is under way (it will take the newcomers along). */
  wake(): void;
  /** One round, for the sweeper: heals a Postgres that fell behind and flushes what a dead process left. */
  sweep(): Promise<void>;
  /** Forgets the head: the next round reads it from Postgres again. */
  forgetHead(): void;
  /** Resolves when no round is in flight; no further one starts. */
  stop(): Promise<void>;
}

/** What a flusher needs. */
export interface FlusherOptions {
  readonly shopId: string;
  readonly keys: ShopKeys;
  readonly scripts: Scripts;
  readonly redis: ScriptRunner;
  readonly connection: FlushConnection;
  readonly epoch: number;
  /** Commits a single statement takes at most. */
  readonly maxBatchCommits: number;
  /** Durable commits that stay in the log for replays and for a Postgres that loses its tail. */
  readonly marginCommits: number;
  /** Makes the shop whole again (OPEN); resolves with its epoch. */
  readonly reopen: () => Promise<number>;
  /** The events of a commit that this process made, parsed already; undefined for others. */
  readonly eventsOf: (commitId: string) => readonly object[] | undefined;
  /** Told of every batch this process made durable, in order. */
  readonly onDurable: (before: ShopHead, entries: readonly LogEntry[]) => void;
  /** Told that the log cannot be taken to Postgres, and where that begins: the shop is fenced, nothing is skipped. */
  readonly onFenced: (fenced: Fenced) => void;
  /** Told after every round that ran as it should: how far Postgres is, and what was seen of the log. */
  readonly onRound: (durable: ShopHead, view: LogView) => void;
  /** Told whether Postgres answers: the door closes while it does not. */
  readonly postgres: StoreState;
  readonly observer: Pick<ShopObserver, "flushed">;
  readonly logger: Logger;
}

/** A look at the log that was asked for, and who waited then: only they can be judged by it. */
interface Look {
  readonly known: ShopHead;
  readonly present: readonly Waiter[];
  readonly view: Promise<LogView>;
}

/** What a look at the log showed. */
export interface LogView extends ReadEntries {
  readonly epoch: string;
  readonly position: number;
  /** The connections to Redis, before it was asked. */
  readonly redisGeneration: number;
  /** Who wrote the positions that were asked about, by position. */
  readonly writers: ReadonlyMap<number, string>;
  /** False: it is made from replies. */
  readonly isRead: boolean;
}

/** What a look at the log would have shown when the last commit of a chain was made. */
function viewOf(known: ShopHead, chain: readonly MadeCommit[]): LogView {
  const { entry: last, redisGeneration } = chain.at(-1) as MadeCommit;
  const first: LogEntry = { ...known, timeMs: 0, call: "", events: "", private: "" }; // is only compared with the head
  return {
    epoch: String(known.epoch),
    position: last.position,
    redisGeneration,
    entries: [first, ...chain.map(({ entry }) => entry)],
    unreadable: undefined,
    writers: new Map(),
    isRead: false,
  };
}

/**
 * By how many commits the head goes on, at least, before a flush trims the log again. With many shops nearly every flush has one
 * commit, and a trim for each took a sixth of Redis' time (docs/adr/0019-trims-now-and-then.md). More often would be of no use: Redis lets
 * go of 100 entries at a time, and `lua/include/remember.lua` asks how far Postgres is at every hundredth commit. The sweeper does the rest.
 */
export const trimEveryCommits = 64;

/** Creates the flusher of one shop. */
export function createFlusher(options: FlusherOptions): Flusher {
  const { shopId, keys, scripts, redis, connection, logger } = options;
  const waiters = new Waiters();
  let epoch = options.epoch;
  let head: ShopHead | undefined;
  let serverStart = "";
  let generation = 0;
  let headReadCount = 0;
  let running: Promise<void> | undefined;
  let stopped = false;
  let failures = 0;
  let nextLook: Look | undefined;
  let reopenCount = 0;
  /** The head of the last trim that was sent. */
  let trimmed: ShopHead | undefined;

  /** Step 1: the head, always before the log. */
  const readHead = async (): Promise<void> => {
    const observers = waiters.snapshot();
    generation = await around("flush: connect", () => connection.ensureConnected());
    const found = await around("flush: read head", () => readDurableHead(connection.db, shopId));
    if (found === undefined) {
      throw new Error(`shop ${shopId} is not in Postgres any more`);
    }
    options.postgres.answered();
    head = found;
    headReadCount += 1;
    serverStart = found.serverStart;
    waiters.confirm(observers, found.position);
  };

  /**
   * Asks for step 2: one look at the log from the head on, on behalf of those who wait now. An observer is looked for only
   * after a head was confirmed since it came: an earlier look says nothing about it.
   */
  const look = (known: ShopHead, waiting: readonly Waiter[]): Look => {
    const present = waiting.filter((each) => !each.observes || each.confirmed);
    const asked = [...new Set(present.map((each) => each.position).filter((each) => each < known.position))];
    const view = readLog(known.position, asked);
    view.catch(() => {}); // whoever takes this look hears of it; a look that is dropped may fail unheard
    return { known, present, view };
  };

  /** The commits behind the head, when everybody who waits made one of them, and these are all there is. */
  const chainOf = (known: ShopHead, waiting: readonly Waiter[]): readonly MadeCommit[] | undefined =>
    chainFrom(known, headReadCount, waiting, options.maxBatchCommits);

  /** Step 2, without asking Redis where the replies tell as much. */
  const lookOrChain = (known: ShopHead, waiting: readonly Waiter[]): Look => {
    const chain = chainOf(known, waiting);
    return chain === undefined
      ? look(known, waiting)
      : { known, present: waiting, view: Promise.resolve(viewOf(known, chain)) };
  };

  const readLog = async (from: number, asked: readonly number[]): Promise<LogView> => {
    const args = [from, options.maxBatchCommits + 1, ...asked];
    const redisGeneration = redis.generation;
    const reply = await around("flush: look at log", () => redis.aside(scripts.readLog, keys, args));
    const [logEpoch, position, , entries, writers] = reply as [
      string,
      number,
      string,
      [string, string[]][],
      (string | null)[],
    ];
    return {
      epoch: logEpoch,
      position,
      redisGeneration,
      ...parseEntries(entries),
      writers: new Map(asked.map((each, index) => [each, writers[index] ?? ""])),
      isRead: true,
    };
  };

  /** Whether a look at the log continues the head we know, without a gap. */
  const continues = (view: LogView, known: ShopHead): boolean => {
    const first = view.entries[0];
    return (
      view.epoch === String(epoch) &&
      known.epoch === epoch &&
      first?.position === known.position &&
      first.commitId === known.commitId &&
      view.entries.every((entry, index) => entry.position === known.position + index)
    );
  };

  /** Compares waiters with what the log holds: releases the durable ones, sends away those whose entry is gone. */
  const compare = (present: readonly Waiter[], view: LogView, known: ShopHead): void => {
    const durable = new Set<Waiter>();
    const lost = new Set<Waiter>();
    for (const waiter of present) {
      const entry = view.entries[waiter.position - known.position];
      const writer = waiter.position < known.position ? view.writers.get(waiter.position) : entry?.commitId;
      if (writer === undefined && waiter.position <= view.position) {
        continue; // beyond what one look takes, or younger than the look's questions: the next round sees it
      }
      if (writer !== waiter.commitId) {
        lost.add(waiter);
      } else {
        waiter.seen = true;
        if (waiter.position <= known.position) {
          durable.add(waiter);
        }
      }
    }
    waiters.settle(lost, "run again");
    waiters.settle(durable, "durable");
  };

  /**
   * While Postgres writes a batch, the look at the next one is already on its way, if callers wait for one: it is of
   * use only if the head becomes what this batch makes it. Measured (2026-11, 256 in flight, three pairs of runs): 1.15, 1.16 and 1.28 times
   * the orders per second of a look that waits for the batch.
   */
  const lookAhead = (next: ShopHead): void => {
    const later = waiters.snapshot().filter((each) => each.position > next.position);
    askFor(next, later);
  };

  /** Asks for the next round's look, unless its callers' replies will do: the later they are read the more there are. */
  const askFor = (known: ShopHead, waiting: readonly Waiter[]): void => {
    if (waiting.length > 0 && chainOf(known, waiting) === undefined) {
      nextLook = look(known, waiting);
    }
  };

  /** Step 3: compare-and-append, of as many as Postgres takes. Returns those; none when the head is not what it was. */
  const append = async (fresh: readonly LogEntry[], known: ShopHead): Promise<readonly LogEntry[]> => {
    const observers = waiters.snapshot();
    let levels: Iterable<StockJson> = [];
    const beganAtMs = performance.now();
    const count = await appendRecordable(fresh, async (some) => {
      if (generation !== connection.generation) {
        throw new Error("the flush connection was replaced since the head was read");
      }
      const projection = projectReadable(some, options.eventsOf);
      levels = projection.stock.values();
      const appending = around("flush: append", () =>
        connection.append({ shopId, comparison: { head: known, serverStart }, projection }),
      );
      nextLook = undefined; // one that was sent ahead of a larger batch
      lookAhead(headAt(some));
      return appending;
    });
    options.postgres.answered();
    const taken = fresh.slice(0, count);
    if (count > 0) {
      waiters.confirm(observers, known.position);
      head = nextLook?.known ?? headAt(taken);
      options.observer.flushed(taken, levels, performance.now() - beganAtMs);
    }
    return taken;
  };

  /** The head that some commits make. */
  const headAt = (some: readonly LogEntry[]): ShopHead => {
    const { position, commitId } = some.at(-1) as LogEntry;
    return { epoch, position, commitId };
  };

  /** Step 4: releases, tells watchers, lets the log go. */
  const acknowledge = (fresh: readonly LogEntry[], before: ShopHead): void => {
    const durable = new Set<Waiter>();
    for (const waiter of waiters.snapshot()) {
      const entry = fresh[waiter.position - before.position - 1];
      if (entry?.commitId === waiter.commitId && (!waiter.observes || waiter.seen)) {
        durable.add(waiter);
      }
    }
    if (nextLook === undefined && waiters.count > durable.size) {
      // Others wait: their look is sent before the released callers send their next calls, so that Redis decides those
      // while Postgres writes these.
      const waiting = waiters.snapshot().filter((each) => !durable.has(each));
      askFor(head as ShopHead, waiting);
    }
    crashPoint("before flush: release");
    waiters.settle(durable, "durable");
    crashPoint("after flush: release");
    options.onDurable(before, fresh);
    trimNowAndThen(headAt(fresh));
  };

  /** Lets the log go up to the margin, and notes how far Postgres is, unless that was just done. */
  const trimNowAndThen = (durable: ShopHead): void => {
    if (trimmed?.epoch === durable.epoch && durable.position < trimmed.position + trimEveryCommits) {
      return;
    }
    trimmed = durable;
    const trim = [durable.epoch, durable.position, options.marginCommits];
    around("flush: trim", () => redis.aside(scripts.trimLog, keys, trim)).catch((error) =>
      logger[isStoreAway(error) ? "debug" : "warn"](
        { err: error, shop: shopId },
        "the log could not be trimmed; the sweeper does it",
      ),
    );
  };

  /** Opens the shop anew. When that does not help, the next tries come slower: a log with a gap is for the operator. */
  const reopen = async (): Promise<void> => {
    head = undefined;
    epoch = await around("flush: open", options.reopen);
    waiters.startOver();
    reopenCount += 1;
    if (reopenCount > 2) {
      throw new Error(
        `the log of shop ${shopId} does not continue its head, although it was opened ${reopenCount} times`,
      );
    }
  };

  /** The look of this round: the one that was asked for already, or a new one after the head is known. */
  const lookOfRound = async (): Promise<Look> => {
    const asked = nextLook;
    nextLook = undefined;
    if (asked !== undefined && asked.known === head && generation === connection.generation) {
      return asked;
    }
    const waiting = waiters.snapshot();
    const onlyObservers = waiting.every((each) => each.observes) && waiting.some((each) => !each.confirmed);
    if (head === undefined || onlyObservers || generation !== (await connection.ensureConnected())) {
      await readHead();
    }
    return lookOrChain(head as unknown as ShopHead, waiters.snapshot());
  };

  const round = async (): Promise<void> => {
    const { known, present, view: looking } = await lookOfRound();
    const view = await looking;
    if (!continues(view, known)) {
      await reopen();
      return;
    }
    reopenCount = 0;
    compare(present, view, known);
    const fresh = view.entries.slice(1);
    if (fresh.length === 0) {
      refuseUnreadable(view);
      options.onRound(known, view);
      return;
    }
    const taken = await append(fresh, known);
    if (taken.length > 0) {
      acknowledge(taken, known);
      options.onRound(headAt(taken), view);
    } else {
      head = undefined;
      nextLook = undefined;
    }
  };

  /** What comes next in the log cannot be read: it cannot be recorded either. */
  const refuseUnreadable = ({ unreadable }: LogView): void => {
    if (unreadable !== undefined) {
      throw poisonCommit({ ...unreadable, call: "" }, unreadable.error);
    }
  };

  /** A round that failed leaves the head unknown: what it sent may have been done. */
  const attempt = async (): Promise<boolean> => {
    try {
      await round();
      failures = 0;
      return true;
    } catch (failure) {
      const error = isReplyError(failure) ? redisRefuses(failure) : failure;
      head = undefined;
      nextLook = undefined;
      failures += 1;
      if (error instanceof Fenced) {
        options.onFenced(error);
      }
      if (error instanceof Refusal) {
        waiters.refuseAll(error);
      }
      const isDown = isPostgresDown(error) && !isConnectionLost(error);
      if (isDown) {
        options.postgres.failed(error);
      }
      if (isDown || (isPostgresBusy(error) && !isLockTimeout(error))) {
        waiters.giveUp();
      }
      if (failures === 1) {
        logger[isStoreAway(error) || isLockTimeout(error) ? "debug" : "warn"](
          { err: error, shop: shopId },
          "a flush failed; it is tried again",
        );
      }
      return false;
    }
  };

  const runWhileWaiting = async (): Promise<void> => {
    do {
      if (!(await attempt())) {
        await new Promise((resolve) => setTimeout(resolve, Math.min(10 * 2 ** failures, 500)));
      }
    } while (waiters.count > 0 && !stopped);
    nextLook = undefined;
  };

  const start = (work: () => Promise<unknown>): Promise<void> => {
    running ??= work()
      .then(() => {})
      .finally(() => {
        running = undefined;
        if (waiters.count > 0 && !stopped) {
          void start(runWhileWaiting);
        }
      });
    return running;
  };

  return {
    waiters,
    get head() {
      return head;
    },
    get epoch() {
      return epoch;
    },
    set epoch(next: number) {
      epoch = next;
    },
    get headReadCount() {
      return headReadCount;
    },
    wake: () => {
      if (running === undefined && !stopped) {
        void start(runWhileWaiting);
      }
    },
    sweep: async () => {
      if (stopped || running !== undefined) {
        return; // rounds are being run: they do what a sweep would
      }
      // What this process remembers may be gone: Postgres may have lost its tail.
      head = undefined;
      // Whether an opening helped is seen by the round after it.
      await start(async () => (await attempt()) && reopenCount > 0 && (await attempt()));
    },
    forgetHead: () => {
      head = undefined;
    },
    stop: async () => {
      stopped = true;
      await running;
    },
  };
}
