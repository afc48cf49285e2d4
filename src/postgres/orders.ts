import type { Kysely } from "kysely";
import type { Database } from "./schema.ts";

/** Reads one order. */
export function findOrder(db: Kysely<Database>, shopId: string, orderId: string) {
  return db
    .selectFrom("orders")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("order_id", "=", orderId)
    .executeTakeFirst();
}
