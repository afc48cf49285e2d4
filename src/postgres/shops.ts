import { type Kysely, sql } from "kysely";
import { project } from "../shop/projection.ts";
import { appendCommits, type ShopHead } from "./flush-statement.ts";
import type { Database } from "./schema.ts";

/** Where a shop stands in Postgres, and which server said so. */
export interface DurableHead extends ShopHead {
  /** `pg_postmaster_start_time()` as text: a restarted or another server gives another one. */
  readonly serverStart: string;
}

/** Reads a shop's head; undefined when there is no such shop. */
export async function readDurableHead(db: Kysely<Database>, shopId: string): Promise<DurableHead | undefined> {
  const { rows } = await sql<DurableHead>`
    select epoch, head_position as position, head_commit_id as "commitId", pg_postmaster_start_time()::text as "serverStart"
    from shops where shop_id = ${shopId}`.execute(db);
  return rows[0];
}

/**
 * Reads a shop's head and locks its row until the transaction ends: nothing can be flushed meanwhile. Fails when somebody else
 * has had the row for longer than a flush takes (`allowLongStatements`).
 */
export async function lockHead(trx: Kysely<Database>, shopId: string): Promise<ShopHead | undefined> {
  const { rows } = await sql<ShopHead>`
    select epoch, head_position as position, head_commit_id as "commitId" from shops where shop_id = ${shopId} for update`.execute(
    trx,
  );
  return rows[0];
}

/**
 * Lets this transaction's statements take up to two minutes, for what reads a shop's whole history. But it waits for a lock no
 * longer than 50 ms: whoever has to wait longer does so without a connection.
 */
export async function allowLongStatements(trx: Kysely<Database>): Promise<void> {
  await sql`select set_config('statement_timeout', '120s', true), set_config('idle_in_transaction_session_timeout', '60s', true),
    set_config('lock_timeout', '50ms', true)`.execute(trx);
}

/** Does something within a transaction that may fail without ending it. */
export async function inSavepoint<Value>(trx: Kysely<Database>, work: () => Promise<Value>): Promise<Value> {
  await sql`savepoint attempt`.execute(trx);
  try {
    const value = await work();
    await sql`release savepoint attempt`.execute(trx);
    return value;
  } catch (error) {
    await sql`rollback to savepoint attempt`.execute(trx);
    throw error;
  }
}

/** Gives a locked shop another epoch. */
export async function setEpoch(trx: Kysely<Database>, shopId: string, epoch: number): Promise<void> {
  await trx.updateTable("shops").set({ epoch }).where("shop_id", "=", shopId).execute();
}

/** What the sweeper wants to know of a shop. */
export interface SweptShop extends ShopHead {
  readonly shopId: string;
  /** Open holds and pending orders: what may become due. */
  readonly openCount: number;
}

/** Every shop with its head, for the sweeper. */
export async function listHeads(db: Kysely<Database>): Promise<SweptShop[]> {
  const { rows } = await sql<SweptShop>`
    select shop_id as "shopId", epoch, head_position as position, head_commit_id as "commitId", open_hold_count + open_order_count as "openCount"
    from shops`.execute(db);
  return rows;
}

/** Reads one shop. */
export function findShop(db: Kysely<Database>, shopId: string) {
  return db.selectFrom("shops").selectAll().where("shop_id", "=", shopId).executeTakeFirst();
}

/** Lists shops by id, after one (exclusive; empty = from the first). */
export function listShops(db: Kysely<Database>, afterShopId: string, count: number) {
  return db
    .selectFrom("shops")
    .selectAll()
    .where("shop_id", ">", afterShopId)
    .orderBy("shop_id")
    .limit(count)
    .execute();
}

/** Something read from Postgres, and the commit it is as of. */
export interface AsOf<Value> {
  readonly value: Value;
  readonly position: number;
  readonly epoch: number;
}

/**
 * Reads something together with the shop's head, both from one snapshot. Undefined when there is no such shop. Everything
 * that was acknowledged is in Postgres, so such a read is as fresh as one from Redis.
 */
export function readAsOf<Value>(
  db: Kysely<Database>,
  shopId: string,
  read: (trx: Kysely<Database>) => Promise<Value>,
): Promise<AsOf<Value> | undefined> {
  return db
    .transaction()
    .setIsolationLevel("repeatable read")
    .setAccessMode("read only")
    .execute(async (trx) => {
      const head = await readDurableHead(trx, shopId);
      return head === undefined ? undefined : { value: await read(trx), position: head.position, epoch: head.epoch };
    });
}

/** When the newest commit of a shop was made, by the shop's clock. */
export async function readHeadTime(db: Kysely<Database>, shopId: string): Promise<Date> {
  const { commit_time } = await db
    .selectFrom("shops")
    .innerJoin("commits", (join) =>
      join.onRef("commits.shop_id", "=", "shops.shop_id").onRef("commits.position", "=", "shops.head_position"),
    )
    .select("commit_time")
    .where("shops.shop_id", "=", shopId)
    .executeTakeFirstOrThrow();
  return commit_time;
}

/** The first commit of a shop: it is born with it. */
export interface ShopBirth {
  readonly shopId: string;
  readonly currencyCode: string;
  readonly commitId: string;
  readonly timeMs: number;
  /** JSON of the Call. */
  readonly call: string;
  /** JSON of the events. */
  readonly events: string;
}

/** Makes a shop with its first commit; false when there is one by that name. */
export function insertShop(db: Kysely<Database>, birth: ShopBirth): Promise<boolean> {
  return db.transaction().execute(async (trx) => {
    const time = new Date(birth.timeMs);
    const { rows } = await sql`
      insert into shops (shop_id, currency_code, create_time, epoch, head_position, head_commit_id)
      values (${birth.shopId}, ${birth.currencyCode}, ${time}, 0, 0, ${birth.commitId})
      on conflict (shop_id) do nothing returning shop_id`.execute(trx);
    if (rows.length === 0) {
      return false;
    }
    const head = { epoch: 0, position: 0, commitId: birth.commitId };
    const entry = { ...birth, position: 1, epoch: 0, private: "" };
    if (!(await appendCommits(trx, birth.shopId, { head, serverStart: null }, project([entry])))) {
      throw new Error(`the first commit of shop ${birth.shopId} was not written`);
    }
    return true;
  });
}
