import type { Kysely } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase } from "../../src/postgres/connection.ts";
import { appendCommits } from "../../src/postgres/flush-statement.ts";
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
function nextCommit(position: number): LogEntry {
  const product = { sku: "new", title: "", price_minor: 1, max_per_user: 0, withdrawn: false };
  const times = { create_time: 1000, update_time: 1000, position };
  return {
    position,
    commitId: makeId(),
    epoch: 1,
    timeMs: Date.now(),
    call: JSON.stringify({ rpc: "PutProduct", request_id: "r-next", principal: "", request: {} }),
    events: JSON.stringify([{ product_put: { product: { ...product, ...times }, created: true } }]),
    private: "",
  };
}

/** What every flush compares, and how each of it can be otherwise: another history, another epoch, another server. */
const differences = {
  position: { head: { position: 3 } },
  "commit id": { head: { commitId: makeId() } },
  epoch: { head: { epoch: 2 } },
  "server start": { serverStart: "2026-01-01 00:00:00+00" },
} as const;

test.each(Object.entries(differences))("writes nothing when the %s is another", async (_, difference) => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const found = await readDurableHead(db, shopId);
  if (found === undefined) throw new Error("the shop is not there");
  const { serverStart, ...head } = found;
  const before = await db.selectFrom("shops").selectAll().where("shop_id", "=", shopId).execute();
  const projection = project([nextCommit(head.position + 1)]);
  const changed = {
    head,
    serverStart,
    ...difference,
    ...("head" in difference ? { head: { ...head, ...difference.head } } : {}),
  };
  expect(await appendCommits(db, shopId, changed, projection)).toBe(false);
  expect(await db.selectFrom("shops").selectAll().where("shop_id", "=", shopId).execute()).toEqual(before);
  expect(await countRows(shopId)).toEqual({ commits: head.position, products: 1, stock: 1 });

  expect(await appendCommits(db, shopId, { head, serverStart }, projection)).toBe(true);
  expect(await countRows(shopId)).toEqual({ commits: head.position + 1, products: 2, stock: 2 });
  expect(await appendCommits(db, shopId, { head, serverStart }, projection), "a second time").toBe(false);
});

test("is won by one of many who append to the same head", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const found = await readDurableHead(db, shopId);
  if (found === undefined) throw new Error("the shop is not there");
  const { serverStart, ...head } = found;
  const append = () => appendCommits(db, shopId, { head, serverStart }, project([nextCommit(head.position + 1)]));
  const results = await Promise.all(Array.from({ length: 8 }, append));
  expect(results.filter((isDone) => isDone)).toHaveLength(1);
  expect(await countRows(shopId)).toEqual({ commits: head.position + 1, products: 2, stock: 2 });
});

async function countRows(shopId: string): Promise<Record<string, number>> {
  const count = async (table: "commits" | "products" | "stock") =>
    (await db.selectFrom(table).select("shop_id").where("shop_id", "=", shopId).execute()).length;
  return { commits: await count("commits"), products: await count("products"), stock: await count("stock") };
}
