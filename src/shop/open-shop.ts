import { randomUUID } from "node:crypto";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { around, crashPoint } from "../crash-point.ts";
import { isLockTimeout } from "../postgres/errors.ts";
import { appendCommits, type ShopHead } from "../postgres/flush-statement.ts";
import { acceptLoss, type LostCommits } from "../postgres/lost-commits.ts";
import type { Database } from "../postgres/schema.ts";
import { allowLongStatements, inSavepoint, lockHead, setEpoch } from "../postgres/shops.ts";
import { Refusal } from "../refusal.ts";
import { commitsMissing, Fenced, isReplyError, poisonCommit } from "./fence.ts";
import type { ShopKeys } from "./keys.ts";
import { ahead, createLoader, type Loader } from "./loader.ts";
import { type LogEntry, parseEntries } from "./log-entry.ts";
import { countsAlike, findLostTail, type LostTail } from "./lost-tail.ts";
import { createProgress, type RebuildProgress } from "./progress.ts";
import { measureRebuild, rebuildSteps } from "./rebuild.ts";
import { appendRecordable, projectReadable } from "./recordable.ts";
import type { ScriptRunner } from "./redis.ts";
import { forgetSteps, type Reload, reloadSteps } from "./reload.ts";
import type { Scripts } from "./scripts.ts";
import type { Opening, ShopObserver } from "./shop-observer.ts";
import { type Touched, touchedBy } from "./touched.ts";

/**
 * OPEN: makes Redis and Postgres agree on one shop, whatever happened: first start, an empty Redis, a lost tail, a fork, a
 * half-done open of somebody else, a forced repair. It is the only procedure that changes an epoch.
 *
 * Invariants: it runs under the lock of the shop's row; what decides is whether Redis' log contains Postgres' head, never
 * which epoch is larger; a log that contains the head is kept and taken to Postgres, also when the state is rebuilt.
 */
export interface OpenOptions {
  readonly shopId: string;
  readonly keys: ShopKeys;
  readonly scripts: Scripts;
  readonly redis: ScriptRunner;
  readonly db: Kysely<Database>;
  /** Request ids, and ids of ended things, that a rebuilt shop remembers. */
  readonly memoryCount: number;
  /** Commits a rebuild writes into an empty log. */
  readonly marginCommits: number;
  /** What a rebuild may let go of; default "keep all". */
  readonly mode?: RebuildMode;
  /** Told after every step of a rebuild. */
  readonly onProgress?: (progress: RebuildProgress) => void;
  /** Told, again and again while the shop is being rebuilt, here or by another process, how long that will take, in milliseconds. */
  readonly onEstimate?: (restMs: number) => void;
  readonly observer: Pick<ShopObserver, "opened">;
  readonly logger: Logger;
}

/**
 * What a rebuild may let go of, because an operator said so: nothing; what the log holds from the first commit on that
 * Postgres cannot take; or also commits that Postgres had and does not have any more, whose positions stay taken.
 */
export type RebuildMode = "keep all" | "discard unrecorded" | "accept loss";

/** Somebody else changed the shop in the middle: what this attempt wrote is rolled back, and OPEN begins again. */
class Superseded extends Error {}

/** How often OPEN begins again before it gives up; each time somebody else made progress. */
const maxRestarts = 20;

/** How long OPEN waits while somebody else has the shop's row, in milliseconds: as long as a statement of a rebuild may take. */
const maxWaitMs = 120_000;
/** How long it lets go of the row and of its connection in between, in milliseconds. */
const pauseMs = 200;

/** Opens a shop and returns where it stands. `force` rebuilds the state of a shop that looks healthy. */
export async function openShop(options: OpenOptions, force = false): Promise<ShopHead> {
  const givesUpAt = performance.now() + maxWaitMs;
  for (let attempt = 0; attempt < maxRestarts; attempt += 1) {
    try {
      return await attemptOpen(options, force);
    } catch (error) {
      if (isLockTimeout(error) && performance.now() < givesUpAt) {
        attempt -= 1;
        await watchOthers(options);
      } else if (!(error instanceof Superseded)) {
        throw error;
      }
    }
  }
  throw new Refusal("SHOP_UNAVAILABLE", "the shop is being opened elsewhere", { retryMs: 1000 });
}

/**
 * Somebody else has the row: a flush for milliseconds, a rebuild for as long as it says in Redis. Nobody who waits for that
 * keeps a connection to Postgres.
 */
async function watchOthers({ redis, scripts, keys, onEstimate }: OpenOptions): Promise<void> {
  const peek = () => redis.aside(scripts.peek, keys, []);
  const peeked = await around("open: watch others", peek).catch((error: unknown) => {
    // Peek reads keys that this opening may be there to replace.
    if (!isReplyError(error)) throw error;
  });
  const restMs = (peeked as number[] | undefined)?.[6] ?? -1;
  if (restMs >= 0) {
    onEstimate?.(restMs);
  }
  await new Promise((resolve) => setTimeout(resolve, restMs < 0 ? 10 : pauseMs));
}

async function attemptOpen(options: OpenOptions, force: boolean): Promise<ShopHead> {
  const beganAtMs = performance.now();
  const { opening, conclude } = await options.db.transaction().execute(async (trx) => {
    const prepared = await prepare(options, trx, force);
    crashPoint("before open: commit");
    return prepared;
  });
  crashPoint("after open: commit");
  // Postgres has the new epoch now; only then may Redis serve it.
  const head = await conclude();
  options.observer.opened(opening, performance.now() - beganAtMs);
  return head;
}

/** What was done under the row's lock, and what is to be done once that is committed. */
interface Prepared {
  readonly opening: Opening;
  readonly conclude: () => Promise<ShopHead>;
}

async function prepare(options: OpenOptions, trx: Kysely<Database>, force: boolean): Promise<Prepared> {
  const { shopId, keys, scripts, redis } = options;
  const token = randomUUID();
  await allowLongStatements(trx);
  const head = await around("open: lock", () => lockHead(trx, shopId));
  if (head === undefined) {
    throw new Refusal("SHOP_NOT_FOUND", `there is no shop "${shopId}"`, { metadata: { shop_id: shopId } });
  }
  const look = [head.position, head.commitId, token, head.epoch, force ? "1" : "0"];
  const reply = (await around("open: look", () => redis.run(scripts.look, keys, look))) as [
    string,
    ...(string | number)[],
  ];
  if (reply[0] === "ADOPT") {
    return { opening: "kept", conclude: async () => head };
  }
  if (reply[0] === "KEEP") {
    const [, epoch, seenToken, nextEpoch] = reply as [string, string, string, string];
    const next = Math.max(head.epoch, Number(epoch), Number(nextEpoch));
    if (next !== head.epoch) {
      await around("open: raise epoch", () => setEpoch(trx, shopId, next));
    }
    const keep = [epoch, seenToken, head.position, head.commitId, next];
    const conclude = async (): Promise<ShopHead> => {
      requireDone(await around("open: keep", () => redis.run(scripts.keep, keys, keep)));
      return { ...head, epoch: next };
    };
    return { opening: "kept", conclude };
  }
  const [, next, headInLog, flushed, position, wasWhole] = reply as [string, string, number, number, number, number];
  const { rebuilt, opening } = await rebuild(options, trx, {
    head,
    token,
    next: Number(next),
    headInLog: headInLog === 1,
    flushed,
    position,
    wasWhole: wasWhole === 1,
  });
  const conclude = async (): Promise<ShopHead> => {
    requireDone(await around("open: finish", () => redis.run(scripts.finish, keys, [token, next])));
    return rebuilt;
  };
  return { opening, conclude };
}

function requireDone(reply: unknown): void {
  if (reply !== 1) {
    throw new Superseded();
  }
}

/** A shop that Look sealed. */
interface Sealed {
  readonly head: ShopHead;
  readonly token: string;
  readonly next: number;
  readonly headInLog: boolean;
  /** The highest position that Redis knows to be in Postgres. */
  readonly flushed: number;
  /** The position of the last commit in Redis. */
  readonly position: number;
  /** Whether the state was that after this commit, and nobody doubts it. */
  readonly wasWhole: boolean;
}

async function rebuild(
  options: OpenOptions,
  trx: Kysely<Database>,
  sealed: Sealed,
): Promise<{ readonly rebuilt: ShopHead; readonly opening: Opening }> {
  if (!sealed.headInLog) {
    requireNothingMissing(options, sealed, sealed.head);
  }
  // The row lock may have been lost while Redis was asked (a killed session): any statement here tells, before the clear.
  await around("rebuild: lock again", () => lockHead(trx, options.shopId));
  const loader = createLoader(options, sealed.token, () => new Superseded());
  const part = await findReload(options, trx, sealed);
  const newest =
    part === undefined
      ? await rebuildAll(options, trx, sealed, loader)
      : await reload(options, trx, sealed, loader, part);
  await around("rebuild: set epoch", () => setEpoch(trx, options.shopId, sealed.next));
  const opening = part !== undefined ? "caught up" : sealed.head.epoch === 0 ? "first opened" : "rebuilt";
  return { rebuilt: { ...newest, epoch: sealed.next }, opening };
}

/** What has to be reloaded of a shop whose Redis lost its newest commits; undefined when that is all of it. */
async function findReload(
  options: OpenOptions,
  trx: Kysely<Database>,
  { head, token, headInLog, position, wasWhole }: Sealed,
): Promise<Reload | undefined> {
  if (headInLog || !wasWhole || (options.mode ?? "keep all") !== "keep all") {
    return undefined;
  }
  const log = { ...options, token };
  const tail = requireOurs(await findLostTail(trx, log, position, head));
  const touched = tail === undefined ? undefined : touchedIfKnown(tail);
  if (tail === undefined || touched === undefined) {
    return undefined;
  }
  // Also those of which only what users had is touched: a fulfilled order changes no stock.
  const counted = [...new Set([...touched.skus, ...touched.limitedSkus])];
  if (!requireOurs(await countsAlike(trx, log, counted))) {
    return undefined;
  }
  return { tail, touched };
}

function requireOurs<Value>(found: Value | "superseded"): Value {
  if (found === "superseded") {
    throw new Superseded();
  }
  return found;
}

/** What a tail touched; undefined when it cannot be read, as after a newer version: then nothing but all of it is sure. */
function touchedIfKnown({ lost, divergent }: LostTail): Touched | undefined {
  try {
    return touchedBy([lost, divergent.toReversed()]);
  } catch {
    return undefined;
  }
}

/** Takes the lost and the divergent commits back: see `reload.ts`. */
async function reload(
  { shopId, marginCommits, logger }: OpenOptions,
  trx: Kysely<Database>,
  { head, next }: Sealed,
  loader: Loader,
  part: Reload,
): Promise<ShopHead> {
  const startedAt = performance.now();
  for (const { kind, ids } of forgetSteps(part)) {
    await loader.forget(kind, ids);
  }
  for await (const { step, values } of ahead(reloadSteps(trx, shopId, head, part, marginCommits))) {
    await loader.load(step, values);
  }
  await loader.settle();
  const { lost, divergent, commonPosition } = part.tail;
  const counts = { lost: lost.length, divergent: divergent.length, steps: loader.stepCount };
  const reloadedMs = Math.round(performance.now() - startedAt);
  logger.info(
    { shop: shopId, epoch: next, position: head.position, commonPosition, ...counts, reloadedMs },
    "shop caught up with Postgres",
  );
  return head;
}

async function rebuildAll(
  options: OpenOptions,
  trx: Kysely<Database>,
  sealed: Sealed,
  loader: Loader,
): Promise<ShopHead> {
  const { shopId, logger } = options;
  const { head, next, headInLog } = sealed;
  await loader.load("clear", [headInLog ? "1" : "0"]);
  await loader.settle();
  const drained = headInLog ? await drain(options, trx, head) : { head, isWhole: false };
  requireNothingMissing(options, sealed, drained.head);
  if (headInLog && !drained.isWhole) {
    logger.warn(
      { shop: shopId, from: drained.head.position + 1, to: sealed.position },
      "commits that Postgres cannot take are discarded",
    );
    await loader.load("clear", ["0"]);
  }
  const newest = await fillMissing(options, trx, sealed, drained.head);
  const wanted = { ...options, writeLog: !drained.isWhole };
  const extent = await around("rebuild: count", () => measureRebuild(trx, shopId, newest, wanted));
  const progress = createProgress(options, next, extent);
  for await (const { step, values, count } of ahead(rebuildSteps(trx, shopId, newest, wanted))) {
    await loader.load(step, values, progress.restMs());
    progress.loaded(step, count);
  }
  await loader.settle();
  logger.info(
    { shop: shopId, epoch: next, position: newest.position, steps: loader.stepCount, rebuiltMs: progress.elapsedMs() },
    head.epoch === 0 ? "shop opened" : "shop rebuilt from Postgres",
  );
  return newest;
}

/** Fences a shop whose Postgres does not have what it had, unless an operator accepted the loss. */
function requireNothingMissing({ mode }: OpenOptions, { flushed }: Sealed, head: ShopHead): void {
  if (flushed > head.position && mode !== "accept loss") {
    throw commitsMissing(head.position, flushed, head.epoch);
  }
}

/** Where a loss was accepted: gives the positions that were used to commits without events, so that none is used again. */
async function fillMissing(
  { shopId, logger }: OpenOptions,
  trx: Kysely<Database>,
  { next, flushed, position }: Sealed,
  head: ShopHead,
): Promise<ShopHead> {
  if (flushed <= head.position) {
    return head;
  }
  const lost: LostCommits = { from: head.position + 1, to: Math.max(flushed, position), epoch: next };
  logger.error(
    { alarm: "loss_accepted", shop: shopId, from: lost.from, to: lost.to },
    "the loss of commits was accepted",
  );
  return around("rebuild: accept loss", () => acceptLoss(trx, shopId, lost));
}

/** How far a log went to Postgres, and whether that is all of it. */
interface Drained {
  readonly head: ShopHead;
  readonly isWhole: boolean;
}

/**
 * Takes what a kept log holds beyond Postgres' head to Postgres, in this transaction. A commit that Postgres cannot take
 * fences the shop, or ends the drain where an operator said so.
 */
async function drain(options: OpenOptions, trx: Kysely<Database>, start: ShopHead): Promise<Drained> {
  const { shopId, keys, scripts, redis, mode = "keep all" } = options;
  let head = start;
  for (;;) {
    const reply = await around("rebuild: read log", () => redis.run(scripts.readLog, keys, [head.position, 1001]));
    const { entries, unreadable } = parseEntries((reply as [string, number, string, [string, string[]][]])[3]);
    requireContiguous(entries, head);
    const fresh = entries.slice(1);
    if (fresh.length === 0 && unreadable === undefined) {
      return { head, isWhole: true };
    }
    try {
      if (fresh.length === 0 && unreadable !== undefined) {
        throw poisonCommit({ ...unreadable, call: "" }, unreadable.error);
      }
      head = await around("rebuild: drain log", () => appendSome(trx, shopId, head, fresh));
    } catch (error) {
      if (error instanceof Fenced && mode !== "keep all") {
        return { head, isWhole: false };
      }
      throw error;
    }
  }
}

/** Appends as many commits as Postgres takes, and returns the head they make. What fails leaves the transaction usable. */
async function appendSome(
  trx: Kysely<Database>,
  shopId: string,
  head: ShopHead,
  fresh: readonly LogEntry[],
): Promise<ShopHead> {
  const count = await appendRecordable(fresh, (some) =>
    inSavepoint(trx, () => appendCommits(trx, shopId, { head, serverStart: null }, projectReadable(some))),
  );
  const newest = fresh[count - 1];
  if (newest === undefined) {
    throw new Error(`the head of shop ${shopId} moved under its row lock`);
  }
  return { epoch: head.epoch, position: newest.position, commitId: newest.commitId };
}

function requireContiguous(entries: readonly LogEntry[], head: ShopHead): void {
  const first = entries[0];
  if (first?.commitId !== head.commitId || entries.some((entry, index) => entry.position !== head.position + index)) {
    throw new Error(`the log has a gap after position ${head.position}`);
  }
}
