import type { Kysely } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase } from "../../src/postgres/connection.ts";
import { appendCommits } from "../../src/postgres/flush-statement.ts";
import type { Database } from "../../src/postgres/schema.ts";
import { project } from "../../src/shop/projection.ts";
import { countRows, differences, nextCommit, readComparison } from "../helpers/appends.ts";
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

test.each(Object.entries(differences))("writes nothing when the %s is another", async (_, change) => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const comparison = await readComparison(db, shopId);
  const { position } = comparison.head;
  const before = await db.selectFrom("shops").selectAll().where("shop_id", "=", shopId).execute();
  const projection = project([nextCommit(position + 1)]);
  expect(await appendCommits(db, shopId, change(comparison), projection)).toBe(false);
  expect(await db.selectFrom("shops").selectAll().where("shop_id", "=", shopId).execute()).toEqual(before);
  expect(await countRows(db, shopId)).toEqual({ commits: position, products: 1, stock: 1 });

  expect(await appendCommits(db, shopId, comparison, projection)).toBe(true);
  expect(await countRows(db, shopId)).toEqual({ commits: position + 1, products: 2, stock: 2 });
  expect(await appendCommits(db, shopId, comparison, projection), "a second time").toBe(false);
});

test("is won by one of many who append to the same head", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const comparison = await readComparison(db, shopId);
  const { position } = comparison.head;
  const append = () => appendCommits(db, shopId, comparison, project([nextCommit(position + 1)]));
  const results = await Promise.all(Array.from({ length: 8 }, append));
  expect(results.filter((isDone) => isDone)).toHaveLength(1);
  expect(await countRows(db, shopId)).toEqual({ commits: position + 1, products: 2, stock: 2 });
});

test("remembers a limit that came and went within one batch", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const comparison = await readComparison(db, shopId);
  const { position } = comparison.head;
  const commits = [nextCommit(position + 1, 3), nextCommit(position + 2, 0, false)];
  expect(await appendCommits(db, shopId, comparison, project(commits))).toBe(true);
  const product = db.selectFrom("products").select(["max_per_user", "limit_tracked"]).where("sku", "=", "new");
  expect(await product.where("shop_id", "=", shopId).execute()).toEqual([{ max_per_user: 0, limit_tracked: true }]);
});
