import type { Kysely } from "kysely";
import type { Database } from "./schema.ts";

/** Reads one user. */
export function findUser(db: Kysely<Database>, shopId: string, userId: string) {
  return db
    .selectFrom("users")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("user_id", "=", userId)
    .executeTakeFirst();
}
