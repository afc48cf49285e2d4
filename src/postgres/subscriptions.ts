import { type Kysely, sql } from "kysely";
import type { Database, TierChangeRow } from "./schema.ts";

/** Lists tiers by name, after one (exclusive; empty = from the first). */
export function listTiers(db: Kysely<Database>, shopId: string, afterTier: string, count: number) {
  return db
    .selectFrom("tiers")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("tier", ">", afterTier)
    .orderBy("tier")
    .limit(count)
    .execute();
}

/** Lists the changes of a user's tier, newest first, from before a key (undefined = the newest). */
export function listTierChanges(
  db: Kysely<Database>,
  shopId: string,
  userId: string,
  before: TierChangeKey | undefined,
  count: number,
) {
  let query = db.selectFrom("tier_changes").selectAll().where("shop_id", "=", shopId).where("user_id", "=", userId);
  if (before !== undefined) {
    query = query.where("position", "<", before);
  }
  return query.orderBy("position", "desc").limit(count).execute();
}

/** Changes of a user's tier are listed by position: a commit makes at most one. */
export type TierChangeKey = TierChangeRow["position"];

/** The shops in which a subscription's period has ended by a time (milliseconds) and something follows from it. */
export async function listShopsToRenew(db: Kysely<Database>, nowMs: number): Promise<string[]> {
  const { rows } = await sql<{ shop_id: string }>`
    select distinct shop_id from subscriptions
    where period_end_time <= ${new Date(nowMs)} and (price_credits > 0 or scheduled_tier <> '')`.execute(db);
  return rows.map((row) => row.shop_id);
}

/** When the end of a user's period will do something; undefined = never. */
export async function findRenewalTime(db: Kysely<Database>, shopId: string, userId: string): Promise<Date | undefined> {
  const row = await db
    .selectFrom("subscriptions")
    .select("period_end_time")
    .where("shop_id", "=", shopId)
    .where("user_id", "=", userId)
    .where((where) => where.or([where("price_credits", ">", 0), where("scheduled_tier", "<>", "")]))
    .executeTakeFirst();
  return row?.period_end_time;
}
