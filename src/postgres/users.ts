import { type Kysely, sql } from "kysely";
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

/** Reads the user who has an e-mail, trimmed and lower-cased; nobody has the empty one. */
export function findUserByEmail(db: Kysely<Database>, shopId: string, emailKey: string) {
  return db
    .selectFrom("users")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("email_key", "=", emailKey)
    .where(sql<boolean>`email_key <> ''`)
    .executeTakeFirst();
}

/** Lists users newest first, from before the position of a creation (undefined = the newest). */
export function listUsers(db: Kysely<Database>, shopId: string, before: number | undefined, count: number) {
  let query = db.selectFrom("users").selectAll().where("shop_id", "=", shopId);
  if (before !== undefined) {
    query = query.where("create_position", "<", before);
  }
  return query.orderBy("create_position", "desc").limit(count).execute();
}
