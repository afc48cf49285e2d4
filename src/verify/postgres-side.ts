import { type Kysely, sql } from "kysely";
import type { Database } from "../postgres/schema.ts";
import { allowLongStatements, findShop } from "../postgres/shops.ts";
import { Refusal } from "../refusal.ts";
import { describe } from "./discrepancy.ts";
import { pageCount, type Run } from "./run.ts";
import { type Row, type Table, tablesOf } from "./tables.ts";

/** What the tables are compared with besides the log. */
export interface PostgresOptions {
  /** How long a request id is kept, in milliseconds: it may be used again afterwards. */
  readonly requestRetentionMs: number;
}

/**
 * Folds the log as far as Postgres has it and compares every table with the result, from one snapshot. The commits are
 * folded before the snapshot is taken, so that it does not last for the whole history.
 */
export async function verifyPostgres(run: Run, options: PostgresOptions): Promise<void> {
  const { db, model } = run;
  await run.foldSlowlyTo(await headOf(db, model.shopId));
  await run.foldTo(await headOf(db, model.shopId)); // what came meanwhile, which may be faster than the rests allow
  await db
    .transaction()
    .setIsolationLevel("repeatable read")
    .setAccessMode("read only")
    .execute(async (trx) => {
      await allowLongStatements(trx);
      await run.foldTo(await headOf(trx, model.shopId), trx);
      await compareShop(run, trx);
      await compareLog(run, trx, options);
      for (const table of tablesOf(run, trx)) {
        await compareTable(run, trx, table);
      }
    });
}

async function headOf(db: Kysely<Database>, shopId: string): Promise<number> {
  const shop = await findShop(db, shopId);
  if (shop === undefined) {
    throw new Refusal("SHOP_NOT_FOUND", `there is no shop "${shopId}"`, { metadata: { shop_id: shopId } });
  }
  return shop.head_position;
}

async function compareShop(run: Run, trx: Kysely<Database>): Promise<void> {
  const { model } = run;
  const shop = await findShop(trx, model.shopId);
  const about = { subject: `shop:${model.shopId}`, position: model.position, store: "POSTGRES" } as const;
  const { stats } = model;
  run.compare(
    { ...about, kind: "SHOP" },
    {
      currency_code: model.currencyCode,
      head_position: model.position,
      head_commit_id: model.commitId,
      product_count: model.skus.size,
      user_count: model.users.size,
      open_hold_count: model.openHolds.size,
      open_order_count: model.openOrders.size,
    },
    { ...shop, create_time: undefined },
  );
  run.compare(
    { ...about, kind: "STATS" },
    {
      order_count: stats.orders,
      item_count: stats.items,
      revenue_minor: stats.revenue,
      refunded_minor: stats.refunded,
      upgrade_credits: stats.upgradeCredits,
      downgrade_credits: stats.downgradeCredits,
    },
    { ...shop, create_time: undefined },
  );
}

/** What no single commit shows: ids that were used twice, and entries that belong to no commit. */
async function compareLog(run: Run, trx: Kysely<Database>, { requestRetentionMs }: PostgresOptions): Promise<void> {
  const { shopId, position: head } = run.model;
  const commits = await sql<{ id: string; first: number; position: number }>`
    select id, first, position from (
      select commit_id::text as id, position, lag(position) over (partition by commit_id order by position) as first
      from commits where shop_id = ${shopId} and position <= ${head}) c
    where first is not null order by position`.execute(trx);
  for (const { id, first, position } of commits.rows) {
    const found = `commit_id=${id} position=${position}`;
    const subject = `commit:${position}`;
    run.report({ kind: "LOG", subject, position, store: "POSTGRES", expected: `position=${first}`, found });
  }
  const requests = await sql<{ id: string; first: number; position: number }>`
    select id, first, position from (
      select request_id as id, position, commit_time, lag(position) over same as first, lag(commit_time) over same as earlier
      from commits where shop_id = ${shopId} and position <= ${head} and request_id <> ''
      window same as (partition by request_id order by position)) c
    where commit_time < earlier + ${requestRetentionMs}::float8 * interval '1 millisecond' order by position`.execute(
    trx,
  );
  for (const { id, first, position } of requests.rows) {
    const found = `position=${position}`;
    const subject = `request:${id}`;
    run.report({ kind: "LOG", subject, position, store: "POSTGRES", expected: `position=${first}`, found });
  }
  const { rows } = await sql<{ position: number; index: number; account: string; delta: number }>`
    select position, index, account, delta from ledger_entries
    where shop_id = ${shopId} and (position > ${head} or position < 1) order by position, index limit ${pageCount}`.execute(
    trx,
  );
  for (const { position, index, ...fields } of rows) {
    const subject = `entry:${position}.${index}`;
    const found = describe(fields);
    run.report({ kind: "LEDGER_ENTRY", subject, position, store: "POSTGRES", expected: "", found });
  }
}

async function compareTable<Thing>(run: Run, trx: Kysely<Database>, table: Table<Thing>): Promise<void> {
  const { shopId, position: head } = run.model;
  const { kind, things } = table;
  let after = "";
  let knownCount = 0;
  for (;;) {
    run.throwIfEnded();
    const rows = await table.read(trx, shopId, after);
    for (const row of rows) {
      const thing = things.get(row.key);
      const about = { kind, subject: table.subject(row.key), store: "POSTGRES" } as const;
      if (thing === undefined) {
        run.report({ ...about, position: head, expected: "", found: describe(row.fields) });
      } else {
        knownCount += 1;
        run.compare({ ...about, position: table.position(thing) }, await table.expected(thing, row), row.fields);
      }
    }
    const last = rows.at(-1);
    if (last === undefined) {
      break;
    }
    after = last.key;
  }
  if (knownCount < things.size) {
    await reportMissing(run, trx, table);
  }
}

/** Finds out which rows are missing, by a second look at the keys there are. */
async function reportMissing<Thing>(run: Run, trx: Kysely<Database>, table: Table<Thing>): Promise<void> {
  const present = new Set<string>();
  for (let after: string | undefined = ""; after !== undefined; ) {
    const rows: readonly Row[] = await table.read(trx, run.model.shopId, after);
    for (const { key } of rows) {
      present.add(key);
    }
    after = rows.at(-1)?.key;
  }
  for (const [key, thing] of table.things) {
    if (!present.has(key)) {
      const expected = describe(await table.expected(thing, { key, fields: {} }));
      const position = table.position(thing);
      run.report({ kind: table.kind, subject: table.subject(key), position, store: "POSTGRES", expected, found: "" });
    }
  }
}
