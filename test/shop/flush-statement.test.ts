import type { Kysely } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase } from "../../src/postgres/connection.ts";
import { appendCommits, type Comparison } from "../../src/postgres/flush-statement.ts";
import type { Database } from "../../src/postgres/schema.ts";
import { readDurableHead } from "../../src/postgres/shops.ts";
import { makeId } from "../../src/shop/ids.ts";
import type { LogEntry } from "../../src/shop/log-entry.ts";
import { project } from "../../src/shop/projection.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
let db: Kysely<Database>;

beforeAll(() => {
  db = openDatabase({ url: holdfast.database.url, size: 2, onError: () => {} });
});
afterAll(async () => {
  await db?.destroy();
});

/** The commit after a head: a product is put. */
function nextCommit(position: number, max_per_user = 0, created = true): LogEntry {
  const product = { sku: "new", title: "", price_minor: 1, max_per_user, withdrawn: false };
  const times = { create_time: 1000, update_time: 1000, position };
  return {
    position,
    commitId: makeId(),
    epoch: 1,
    timeMs: Date.now(),
    call: JSON.stringify({ rpc: "PutProduct", request_id: "r-next", principal: "", request: {} }),
    events: JSON.stringify([{ product_put: { product: { ...product, ...times }, created } }]),
    private: "",
  };
}

/** What every flush compares, and how each of it can be otherwise: another history, another epoch, another server. */
const differences: Readonly<Record<string, (comparison: Comparison) => Comparison>> = {
  position: ({ head, serverStart }) => ({ head: { ...head, position: head.position - 1 }, serverStart }),
  "commit id": ({ head, serverStart }) => ({ head: { ...head, commitId: makeId() }, serverStart }),
  epoch: ({ head, serverStart }) => ({ head: { ...head, epoch: head.epoch + 1 }, serverStart }),
  "server start": ({ head }) => ({ head, serverStart: "2026-01-01 00:00:00+00" }),
};

async function readComparison(shopId: string): Promise<Comparison> {
  const found = await readDurableHead(db, shopId);
  if (found === undefined) throw new Error("the shop is not there");
  const { serverStart, ...head } = found;
  return { head, serverStart };
}

test.each(Object.entries(differences))("writes nothing when the %s is another", async (_, change) => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const comparison = await readComparison(shopId);
  const { position } = comparison.head;
  const before = await db.selectFrom("shops").selectAll().where("shop_id", "=", shopId).execute();
  const projection = project([nextCommit(position + 1)]);
  expect(await appendCommits(db, shopId, change(comparison), projection)).toBe(false);
  expect(await db.selectFrom("shops").selectAll().where("shop_id", "=", shopId).execute()).toEqual(before);
  expect(await countRows(shopId)).toEqual({ commits: position, products: 1, stock: 1 });

  expect(await appendCommits(db, shopId, comparison, projection)).toBe(true);
  expect(await countRows(shopId)).toEqual({ commits: position + 1, products: 2, stock: 2 });
  expect(await appendCommits(db, shopId, comparison, projection), "a second time").toBe(false);
});

test("is won by one of many who append to the same head", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const comparison = await readComparison(shopId);
  const { position } = comparison.head;
  const append = () => appendCommits(db, shopId, comparison, project([nextCommit(position + 1)]));
  const results = await Promise.all(Array.from({ length: 8 }, append));
  expect(results.filter((isDone) => isDone)).toHaveLength(1);
  expect(await countRows(shopId)).toEqual({ commits: position + 1, products: 2, stock: 2 });
});

test("remembers a limit that came and went within one batch", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const comparison = await readComparison(shopId);
  const { position } = comparison.head;
  const commits = [nextCommit(position + 1, 3), nextCommit(position + 2, 0, false)];
  expect(await appendCommits(db, shopId, comparison, project(commits))).toBe(true);
  const product = db.selectFrom("products").select(["max_per_user", "limit_tracked"]).where("sku", "=", "new");
  expect(await product.where("shop_id", "=", shopId).execute()).toEqual([{ max_per_user: 0, limit_tracked: true }]);
});

async function countRows(shopId: string): Promise<Record<string, number>> {
  const count = async (table: "commits" | "products" | "stock") =>
    (await db.selectFrom(table).select("shop_id").where("shop_id", "=", shopId).execute()).length;
  return { commits: await count("commits"), products: await count("products"), stock: await count("stock") };
}
