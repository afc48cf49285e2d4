import { type Kysely, sql } from "kysely";
import { around } from "../crash-point.ts";
import { readCommits } from "../postgres/commits.ts";
import type { ShopHead } from "../postgres/flush-statement.ts";
import type { Database } from "../postgres/schema.ts";
import type { ShopKeys } from "./keys.ts";
import { type LogEntry, parseEntries } from "./log-entry.ts";
import type { ScriptRunner } from "./redis.ts";
import type { Scripts } from "./scripts.ts";

/**
 * How a log without Postgres' head differs from Postgres. Commit ids are fresh for every execution and a commit is only ever
 * appended to the one that its script saw, so where both sides have the same commit at a position, they have the same below.
 */
export interface LostTail {
  /** The newest position at which both have the same commit. */
  readonly commonPosition: number;
  /** What Postgres has after it, in order. */
  readonly lost: readonly LogEntry[];
  /** What Redis has after it, newest first: never answered to anybody, because Postgres never had it. */
  readonly divergent: readonly LogEntry[];
}

/** Commits of both sides together of which a reload is worth while; a full rebuild bounds what more of them would take. */
const maxTailCommits = 2000;

/** Entries of the log, and commit ids, that are read at a time. */
const pageEntries = 200;

/** What is read of a sealed shop. */
export interface SealedLog {
  readonly shopId: string;
  readonly keys: ShopKeys;
  readonly scripts: Scripts;
  readonly redis: ScriptRunner;
  readonly token: string;
}

/**
 * Finds how a sealed log differs from Postgres; `position` is that of Redis' last commit. Undefined when nothing in it is
 * known to be common, or too much is not; "superseded" when somebody else took over.
 */
export async function findLostTail(
  trx: Kysely<Database>,
  log: SealedLog,
  position: number,
  head: ShopHead,
): Promise<LostTail | "superseded" | undefined> {
  const divergent: LogEntry[] = [];
  for (let to = position; divergent.length < maxTailCommits; to = position - divergent.length) {
    const read = await lookBack(log, to, pageEntries, []);
    if (read === undefined) {
      return "superseded";
    }
    const { entries, unreadable } = parseEntries(read.entries);
    const ids = await commitIds(trx, log.shopId, to - pageEntries, to);
    for (const entry of entries) {
      if (entry.position !== position - divergent.length) {
        return undefined;
      }
      if (ids.get(entry.position) === entry.commitId) {
        return readLost(trx, log.shopId, divergent, entry.position, head);
      }
      divergent.push(entry);
    }
    if (entries.length === 0 || unreadable !== undefined) {
      return undefined;
    }
  }
  return undefined;
}

async function readLost(
  trx: Kysely<Database>,
  shopId: string,
  divergent: readonly LogEntry[],
  commonPosition: number,
  head: ShopHead,
): Promise<LostTail | undefined> {
  const lostCount = head.position - commonPosition;
  if (lostCount + divergent.length > maxTailCommits) {
    return undefined;
  }
  const lost = await around("rebuild: read lost", () => readCommits(trx, shopId, commonPosition + 1, lostCount));
  return { commonPosition, lost, divergent };
}

/** Who made the commits of a range, after a position and up to another; Postgres knows some of them. */
async function commitIds(
  trx: Kysely<Database>,
  shopId: string,
  after: number,
  to: number,
): Promise<ReadonlyMap<number, string>> {
  const { rows } = await sql<{ position: number; commitId: string }>`
    select position, commit_id as "commitId" from commits
    where shop_id = ${shopId} and position > ${after} and position <= ${to}`.execute(trx);
  return new Map(rows.map((row) => [row.position, row.commitId]));
}

/**
 * Whether Redis counts what users have had of the same ones of some SKUs as Postgres does. Where it does not (the first limit
 * of a product is among the commits), the counts of all users are needed, not only of those whom the commits touched.
 */
export async function countsAlike(
  trx: Kysely<Database>,
  log: SealedLog,
  skus: readonly string[],
): Promise<boolean | "superseded"> {
  const { rows } = await sql<{ sku: string; tracked: boolean }>`
    select sku, limit_tracked as tracked from products where shop_id = ${log.shopId} and sku = any(${skus})`.execute(
    trx,
  );
  const tracked = new Map(rows.map((row) => [row.sku, row.tracked ? "1" : "0"]));
  for (let from = 0; from < skus.length; from += pageSkus) {
    const page = skus.slice(from, from + pageSkus);
    const read = await lookBack(log, 0, 0, page);
    if (read === undefined) {
      return "superseded";
    }
    const isAlike = (sku: string, index: number): boolean => {
      const [here, there] = [read.counted[index], tracked.get(sku)];
      // Of a product that only one side knows, the commits touched everybody who ever had it.
      return here === there || here === "" || (there === undefined && here !== "loading");
    };
    if (!page.every(isAlike)) {
      return false;
    }
  }
  return true;
}

/** SKUs that are asked about at a time. */
const pageSkus = 1000;

interface LookedBack {
  readonly entries: [string, string[]][];
  readonly counted: readonly string[];
}

async function lookBack(
  { redis, scripts, keys, token }: SealedLog,
  to: number,
  count: number,
  skus: readonly string[],
): Promise<LookedBack | undefined> {
  const args = [token, to, count, ...skus];
  const reply = await around("rebuild: look back", () => redis.aside(scripts.lookBack, keys, args));
  if (reply === 0) {
    return undefined;
  }
  const [entries, counted] = reply as [[string, string[]][], string[]];
  return { entries, counted };
}
