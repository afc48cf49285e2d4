import { type Kysely, sql } from "kysely";
import type { LogEntry } from "../shop/log-entry.ts";
import type { Database } from "./schema.ts";

const columns = sql`position, commit_id, epoch, commit_time, call::text as call, events::text as events`;

interface Row {
  position: number;
  commit_id: string;
  epoch: number;
  commit_time: Date;
  call: string;
  events: string;
}

function toEntry(row: Row): LogEntry {
  return {
    position: row.position,
    commitId: row.commit_id,
    epoch: row.epoch,
    timeMs: row.commit_time.getTime(),
    call: row.call,
    events: row.events,
    private: "",
  };
}

/** Reads one commit. */
export async function readCommit(
  db: Kysely<Database>,
  shopId: string,
  position: number,
): Promise<LogEntry | undefined> {
  const { rows } =
    await sql<Row>`select ${columns} from commits where shop_id = ${shopId} and position = ${position}`.execute(db);
  return rows[0] === undefined ? undefined : toEntry(rows[0]);
}

/** Finds the commit that a request id made, if it is not older than the retention. */
export async function findByRequestId(
  db: Kysely<Database>,
  shopId: string,
  requestId: string,
  retentionMs: number,
): Promise<LogEntry | undefined> {
  const { rows } = await sql<Row>`
    select ${columns} from commits
    where shop_id = ${shopId} and request_id = ${requestId} and request_id <> ''
      and commit_time > to_timestamp(${Math.max(0, Date.now() - retentionMs) / 1000}::float8)
    order by position desc limit 1`.execute(db);
  return rows[0] === undefined ? undefined : toEntry(rows[0]);
}

/** Reads commits in order, from a position (inclusive) on. */
export async function readCommits(
  db: Kysely<Database>,
  shopId: string,
  from: number,
  count: number,
): Promise<LogEntry[]> {
  const { rows } = await sql<Row>`
    select ${columns} from commits where shop_id = ${shopId} and position >= ${from} order by position limit ${count}`.execute(
    db,
  );
  return rows.map(toEntry);
}

/** Reads commits newest first, from a position (inclusive) down. */
export async function readCommitsBackwards(
  db: Kysely<Database>,
  shopId: string,
  from: number,
  count: number,
): Promise<LogEntry[]> {
  const { rows } = await sql<Row>`
    select ${columns} from commits where shop_id = ${shopId} and position <= ${from} order by position desc limit ${count}`.execute(
    db,
  );
  return rows.map(toEntry);
}
