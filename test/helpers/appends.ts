import type { Kysely } from "kysely";
import type { Comparison } from "../../src/postgres/flush-statement.ts";
import type { Database } from "../../src/postgres/schema.ts";
import { readDurableHead } from "../../src/postgres/shops.ts";
import { makeId } from "../../src/shop/ids.ts";
import type { LogEntry } from "../../src/shop/log-entry.ts";

/** The commit after a head: a product is put. */
export function nextCommit(position: number, max_per_user = 0, created = true): LogEntry {
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
export const differences: Readonly<Record<string, (comparison: Comparison) => Comparison>> = {
  position: ({ head, serverStart }) => ({ head: { ...head, position: head.position - 1 }, serverStart }),
  "commit id": ({ head, serverStart }) => ({ head: { ...head, commitId: makeId() }, serverStart }),
  epoch: ({ head, serverStart }) => ({ head: { ...head, epoch: head.epoch + 1 }, serverStart }),
  "server start": ({ head }) => ({ head, serverStart: "2026-01-01 00:00:00+00" }),
};

/** The head of a shop, as a flush reads it. */
export async function readComparison(db: Kysely<Database>, shopId: string): Promise<Comparison> {
  const found = await readDurableHead(db, shopId);
  if (found === undefined) throw new Error("the shop is not there");
  const { serverStart, ...head } = found;
  return { head, serverStart };
}

/** What a shop has in some of the tables that the statement writes. */
export async function countRows(db: Kysely<Database>, shopId: string): Promise<Record<string, number>> {
  const count = async (table: "commits" | "products" | "stock") =>
    (await db.selectFrom(table).select("shop_id").where("shop_id", "=", shopId).execute()).length;
  return { commits: await count("commits"), products: await count("products"), stock: await count("stock") };
}
