import type { Kysely } from "kysely";
import type { Database, HoldRow, ProductRow } from "./schema.ts";

/** A row as it is selected. */
export type Product = ProductRow;

/** Reads one product. */
export function findProduct(db: Kysely<Database>, shopId: string, sku: string) {
  return db.selectFrom("products").selectAll().where("shop_id", "=", shopId).where("sku", "=", sku).executeTakeFirst();
}

/** Lists products by SKU, after one (exclusive; empty = from the first). */
export function listProducts(db: Kysely<Database>, shopId: string, afterSku: string, count: number) {
  return db
    .selectFrom("products")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("sku", ">", afterSku)
    .orderBy("sku")
    .limit(count)
    .execute();
}

/** Reads one hold, open or ended. */
export function findHold(db: Kysely<Database>, shopId: string, holdId: string) {
  return db
    .selectFrom("holds")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("hold_id", "=", holdId)
    .executeTakeFirst();
}

/** Lists holds newest first, of one user or (empty id) of everybody, from before a key (undefined = the newest). */
export function listHolds(
  db: Kysely<Database>,
  shopId: string,
  userId: string,
  before: HoldKey | undefined,
  count: number,
) {
  let query = db.selectFrom("holds").selectAll().where("shop_id", "=", shopId);
  if (userId !== "") {
    query = query.where("user_id", "=", userId);
  }
  if (before !== undefined) {
    query = query.where("create_position", "<", before);
  }
  return query.orderBy("create_position", "desc").limit(count).execute();
}

/** Holds are listed by the position of their creation: a commit makes at most one. */
export type HoldKey = HoldRow["create_position"];
