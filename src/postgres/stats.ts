import type { Kysely } from "kysely";
import type { Database } from "./schema.ts";

/** Lists what was sold of each product, by SKU, after one (exclusive; empty = from the first). */
export function listSkuStats(db: Kysely<Database>, shopId: string, afterSku: string, count: number) {
  return db
    .selectFrom("stock")
    .select(["sku", "order_count", "unit_count", "revenue_minor"])
    .where("shop_id", "=", shopId)
    .where("sku", ">", afterSku)
    .orderBy("sku")
    .limit(count)
    .execute();
}
