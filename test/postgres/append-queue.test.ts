import { setImmediate } from "node:timers/promises";
import { type Kysely, sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type FlushConnection, openDatabase, openFlushConnection } from "../../src/postgres/connection.ts";
import type { Append } from "../../src/postgres/flush-statement.ts";
import type { Database } from "../../src/postgres/schema.ts";
import type { LogEntry } from "../../src/shop/log-entry.ts";
import { project } from "../../src/shop/projection.ts";
import { countRows, differences, nextCommit, readComparison } from "../helpers/appends.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
let db: Kysely<Database>;
let connection: FlushConnection;

beforeAll(async () => {
  const { url } = holdfast.database;
  db = openDatabase({ url, size: 2, onError: () => {} });
  connection = openFlushConnection({ url, onError: () => {} });
  await connection.ensureConnected();
});
afterAll(async () => {
  await connection?.close();
  await db?.destroy();
});

/** A commit that puts another product, ready to be appended to a shop. */
async function nextAppend(shopId: string): Promise<Append> {
  const comparison = await readComparison(db, shopId);
  return { shopId, comparison, projection: project([nextCommit(comparison.head.position + 1)]) };
}

/** Shops with one product each, and for each its next append. */
async function readyToAppend(count: number): Promise<Append[]> {
  const ready = async () => nextAppend(await createShop(holdfast.grpc, { stock: { a: 1 } }));
  return Promise.all(Array.from({ length: count }, ready));
}

async function expectAppended(
  { shopId, comparison: { head }, projection }: Append,
  isAppended: boolean,
): Promise<void> {
  const added = isAppended ? 1 : 0;
  expect(await countRows(db, shopId)).toEqual({
    commits: head.position + added,
    products: 1 + added,
    stock: 1 + added,
  });
  const shops = db.selectFrom("shops").select(["head_position", "product_count"]).where("shop_id", "=", shopId);
  expect(await shops.execute()).toEqual([{ head_position: head.position + added, product_count: 1 + added }]);
  const newest = db.selectFrom("commits").select("commit_id").where("shop_id", "=", shopId).orderBy("position", "desc");
  const { commitId } = isAppended ? (projection.commits[0] as LogEntry) : head;
  expect(await newest.limit(1).execute()).toEqual([{ commit_id: commitId }]);
}

/** The transactions that wrote a product which was appended. */
async function writers(appends: readonly Append[]): Promise<number> {
  const shopIds = appends.map(({ shopId }) => shopId);
  const products = db.selectFrom("products").select(sql<string>`xmin::text`.as("writer"));
  const rows = await products.where("sku", "=", "new").where("shop_id", "in", shopIds).execute();
  expect(rows).toHaveLength(appends.length);
  return new Set(rows.map(({ writer }) => writer)).size;
}

test("writes what several shops append at once in one transaction, each to its own", async () => {
  const appends = await readyToAppend(20);
  expect(await Promise.all(appends.map(connection.append))).toEqual(appends.map(() => true));
  expect(await writers(appends)).toBe(1);
  for (const append of appends) {
    await expectAppended(append, true);
  }
  expect(await Promise.all(appends.map(connection.append)), "a second time").toEqual(appends.map(() => false));
});

test.each(Object.entries(differences))("leaves out a shop whose %s is another, and no other", async (_, change) => {
  const appends = await readyToAppend(3);
  const [first, second, third] = appends as [Append, Append, Append];
  const changed = { ...second, comparison: change(second.comparison) };
  expect(await Promise.all([first, changed, third].map(connection.append))).toEqual([true, false, true]);
  await expectAppended(first, true);
  await expectAppended(second, false);
  await expectAppended(third, true);
});

test("does not wait for a shop whose row somebody holds, and tells it so", async () => {
  const appends = await readyToAppend(3);
  const [first, held, third] = appends as [Append, Append, Append];
  await db.transaction().execute(async (trx) => {
    await trx.selectFrom("shops").select("epoch").where("shop_id", "=", held.shopId).forUpdate().execute();
    const results = await Promise.allSettled(appends.map(connection.append));
    expect(results).toMatchObject([{ value: true }, { reason: { code: "55P03" } }, { value: true }]);
  });
  await expectAppended(first, true);
  await expectAppended(held, false);
  await expectAppended(third, true);
});

test("takes a shop once in a statement: of two appends to one head, one is done", async () => {
  const [append, other] = (await readyToAppend(2)) as [Append, Append];
  const again = { ...append, projection: project([nextCommit(append.comparison.head.position + 1)]) };
  expect(await Promise.all([append, other, again].map(connection.append))).toEqual([true, true, false]);
  await expectAppended(append, true);
  await expectAppended(other, true);
});

test("tells a failure to the shop whose it is, and lets it fail alone from then on", async () => {
  const appends = await readyToAppend(3);
  const [first, second, third] = appends as [Append, Append, Append];
  const wrong = { ...nextCommit(second.comparison.head.position + 1), commitId: "not a uuid" };
  const poisoned = { ...second, projection: project([wrong]) };
  const outcomes = [{ value: true }, { reason: { code: "22P02" } }, { value: true }];
  expect(await Promise.allSettled([first, poisoned, third].map(connection.append))).toMatchObject(outcomes);
  await expectAppended(first, true);
  await expectAppended(second, false);
  await expectAppended(third, true);
  expect(await writers([first, third]), "each repeated alone").toBe(2);

  const others = await readyToAppend(3);
  const [before, after, last] = others as [Append, Append, Append];
  const mixed = [before, after, poisoned, last].map(connection.append);
  expect(await Promise.allSettled(mixed)).toMatchObject([outcomes[0], outcomes[0], outcomes[1], outcomes[0]]);
  expect(await writers([before, after]), "in one statement that did not fail").toBe(1);

  const mended = [second, ...(await readyToAppend(2))];
  expect(await Promise.all(mended.map(connection.append))).toEqual([true, true, true]);
  const next = await Promise.all(mended.map(({ shopId }) => nextAppend(shopId)));
  expect(await Promise.all(next.map(connection.append))).toEqual([true, true, true]);
  expect(await writers(next), "together again").toBe(1);
});

/** False for the error that somebody else held the row; throws others. */
function isHeld(error: unknown): false {
  expect(error).toMatchObject({ code: "55P03" });
  return false;
}

test("lets one of many win who append to the same heads at once", async () => {
  const appends = await readyToAppend(10);
  const others = Array.from({ length: 3 }, () =>
    openFlushConnection({ url: holdfast.database.url, onError: () => {} }),
  );
  await Promise.all(others.map((other) => other.ensureConnected()));
  // Each begins with another shop: who locked rows in turn and waited for the next would end in a deadlock.
  const appendAll = ({ append }: FlushConnection, index: number) =>
    Promise.all(
      [...appends.slice(index * 2), ...appends.slice(0, index * 2)].map(
        async (each) => [each, await append(each).catch(isHeld)] as const,
      ),
    );
  const results = (await Promise.all([connection, ...others].map(appendAll))).flat();
  for (const append of appends) {
    // None, when each found the row held by another: they have to come again.
    const winCount = results.filter(([each, isDone]) => each === append && isDone).length;
    expect(winCount).toBeLessThanOrEqual(1);
    await expectAppended(append, winCount === 1);
  }
  expect(results.some(([, isDone]) => isDone)).toBe(true);
  await Promise.all(others.map((other) => other.close()));
});

test("appends nothing after its connection was lost, until the heads were read on the next one", async () => {
  const appends = await readyToAppend(3);
  const number = connection.generation;
  const pid = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(connection.db);
  // The connection ends in the middle of this turn, while the appends wait for theirs.
  const turn = sql`select pg_terminate_backend(${pid.rows[0]?.pid})`.execute(connection.db).catch(() => {});
  await setImmediate();
  const lost = await Promise.allSettled(appends.map(connection.append));
  expect(lost.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
  await turn;
  const none = await Promise.allSettled(appends.map(connection.append));
  expect(none.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
  for (const append of appends) {
    await expectAppended(append, false);
  }
  expect(await connection.ensureConnected()).toBeGreaterThan(number);
  expect(await Promise.all(appends.map(connection.append)), "on the next one").toEqual([true, true, true]);
});
