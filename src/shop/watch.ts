import type { Kysely } from "kysely";
import { readCommit } from "../postgres/commits.ts";
import type { Database } from "../postgres/schema.ts";
import { readDurableHead } from "../postgres/shops.ts";
import { Refusal } from "../refusal.ts";
import type { LogEntry } from "./log-entry.ts";
import type { Past } from "./past.ts";
import type { WatchCursor, WatchHub } from "./watch-hub.ts";

/** How often a watcher asks whether a Postgres that lost its tail has the watcher's position again, in milliseconds. */
const healingPollMs = 200;

/** Where a watch begins. `afterCommitId` is checked when given: the position must still be the commit the caller knew. */
export interface WatchStart {
  /** Exclusive; 0 = from the first commit, "now" = from the durable head. */
  readonly after: number | "now";
  readonly afterCommitId: string;
}

/** What a watch says: commits in order, and now and then where it stands. */
export type WatchStep =
  | { readonly kind: "commits"; readonly entries: readonly LogEntry[] }
  | { readonly kind: "caught up" | "bookmark"; readonly position: number; readonly commitId: string };

/** What a watch needs. */
export interface WatchOptions {
  readonly shopId: string;
  readonly db: Kysely<Database>;
  /** Where commits are read that the hub does not hold. */
  readonly past: Past;
  readonly hub: WatchHub;
  readonly start: WatchStart;
  /** Time between bookmarks, in milliseconds. */
  readonly bookmarkMs: number;
  /** Kept at the position that the watch has got to. */
  readonly cursor: WatchCursor;
  /** Ends the watch: the caller went away, or the server drains. */
  readonly signal: AbortSignal;
}

/** Commits taken from the hub at a time: they are there already. */
const heldCommits = 500;
/** How long a position beyond the head is waited for: Postgres may be healing. */
const aheadWaitMs = 10_000;

/**
 * Follows the durable log of a shop: ordered, unique, gap-free, whole commits, resumable from any position.
 *
 * The next commit is always `cursor + 1`, taken from the hub when it has it and from Postgres otherwise: there is no seam.
 * Every page from Postgres begins with the commit at the cursor, whose identity is compared: a history that went on
 * differently is noticed, never followed. A watch that is ended from outside says last where it stands: behind a filter
 * that may be far from what was sent.
 */
export async function* watchLog(options: WatchOptions): AsyncGenerator<WatchStep> {
  const { hub, bookmarkMs, cursor, signal } = options;
  await hub.start();
  const start = await startingPoint(options);
  if (start === undefined) {
    return;
  }
  let { position, commitId } = start;
  cursor.position = position;
  let behind = true;
  let bookmarkAt = performance.now() + bookmarkMs;
  while (!signal.aborted) {
    if (isAnother(hub.writerOf(position), commitId)) {
      throw await historyChanged(options);
    }
    let entries = hub.after(position, heldCommits);
    if (entries === undefined) {
      const page = pageAfter(options, position, commitId);
      behind = true;
      entries = await before(page, bookmarkAt, signal);
      while (entries === undefined && !signal.aborted) {
        bookmarkAt = performance.now() + bookmarkMs;
        yield { kind: "bookmark", position, commitId };
        entries = await before(page, bookmarkAt, signal);
      }
      if (entries === undefined) {
        break;
      }
    }
    const newest = entries.at(-1);
    if (newest !== undefined) {
      yield { kind: "commits", entries };
      ({ position, commitId } = newest);
      cursor.position = position;
    }
    // While something is written to a slow reader, more may come: after each of these the hub is asked again.
    if (behind && position >= hub.head) {
      behind = false;
      yield { kind: "caught up", position, commitId };
    } else if (performance.now() >= bookmarkAt) {
      bookmarkAt = performance.now() + bookmarkMs;
      yield { kind: "bookmark", position, commitId };
    } else if (newest === undefined) {
      const untilBookmarkMs = Math.max(0, bookmarkAt - performance.now());
      await hub.wait(behind ? Math.min(untilBookmarkMs, healingPollMs) : untilBookmarkMs, signal);
    }
  }
  yield { kind: "bookmark", position, commitId };
}

/** The commit to begin after; undefined when the watch ended while its position was waited for. */
async function startingPoint(options: WatchOptions): Promise<{ position: number; commitId: string } | undefined> {
  const { shopId, db, hub, start, signal } = options;
  const head = await readDurableHead(db, shopId);
  if (head === undefined) {
    throw new Refusal("SHOP_NOT_FOUND", `there is no shop "${shopId}"`, { metadata: { shop_id: shopId } });
  }
  if (start.after === "now") {
    return { position: head.position, commitId: head.commitId };
  }
  if (start.after === 0) {
    return { position: 0, commitId: "" };
  }
  const deadline = performance.now() + aheadWaitMs;
  for (;;) {
    const entry = await readCommit(db, shopId, start.after);
    if (entry !== undefined) {
      if (isAnother(entry.commitId, start.afterCommitId)) {
        throw await historyChanged(options);
      }
      return { position: entry.position, commitId: entry.commitId };
    }
    if (signal.aborted) {
      return undefined;
    }
    const left = deadline - performance.now();
    if (left <= 0) {
      throw new Refusal("POSITION_AHEAD", `position ${start.after} is beyond the durable head`, {
        metadata: await standing(options),
      });
    }
    await hub.wait(Math.min(left, 1000), signal);
  }
}

/** What a promise gives; undefined when a moment, on the clock of `performance`, or the signal comes first. */
async function before<Value>(promise: Promise<Value>, atMs: number, signal: AbortSignal): Promise<Value | undefined> {
  const { promise: ended, resolve: end } = Promise.withResolvers<undefined>();
  const onAbort = (): void => end(undefined);
  const timer = setTimeout(onAbort, Math.max(0, atMs - performance.now()));
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) {
    onAbort();
  }
  try {
    return await Promise.race([promise, ended]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    promise.catch(() => undefined); // nobody may be left to hear of it
  }
}

/** The commits after a position to the end of its page, read together with the commit at it. */
async function pageAfter(options: WatchOptions, position: number, commitId: string): Promise<readonly LogEntry[]> {
  const { past, shopId, signal } = options;
  let page = await past.from(shopId, position, signal);
  if (position === 0) {
    return page;
  }
  if (page[0]?.position === position && page[0].commitId !== commitId) {
    past.forget(); // it may have been kept while history changed
    page = await past.from(shopId, position, signal);
  }
  const [at, ...after] = page;
  if (at?.position !== position) {
    return []; // Postgres lost its tail and is being healed: nothing is sent until it has this position again
  }
  if (isAnother(at.commitId, commitId)) {
    throw await historyChanged(options);
  }
  return after;
}

/** Whether the commit that was found at a position is not the one that the watcher knew; undefined and empty: nobody knows. */
function isAnother(found: string | undefined, known: string): boolean {
  return found !== undefined && known !== "" && found !== known;
}

async function historyChanged(options: WatchOptions): Promise<Refusal> {
  return new Refusal(
    "HISTORY_CHANGED",
    "the commit at this position is not the one the watcher knew: another commit stands there now",
    { metadata: await standing(options) },
  );
}

/** Where the log ends, for a refusal; it says so too when Postgres went away meanwhile, but not where. */
async function standing({ db, shopId }: WatchOptions): Promise<Record<string, string>> {
  const head = await readDurableHead(db, shopId).catch(() => undefined);
  return head === undefined ? {} : { position: String(head.position), epoch: String(head.epoch) };
}
