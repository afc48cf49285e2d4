import { type Kysely, sql } from "kysely";
import type { Database, TierRow } from "./schema.ts";
import { findShop } from "./shops.ts";
import { findUser } from "./users.ts";

/** A product's levels and price. */
export interface RecordedLevel {
  readonly sku: string;
  readonly available_count: number;
  readonly held_count: number;
  readonly sold_count: number;
  readonly price_minor: number;
}

/** Reads the levels of some SKUs, by SKU; those that do not exist are absent. */
export async function readLevels(
  db: Kysely<Database>,
  shopId: string,
  skus: readonly string[],
): Promise<ReadonlyMap<string, RecordedLevel>> {
  const { rows } = await sql<RecordedLevel>`
    select p.sku, s.available_count, s.held_count, s.sold_count, p.price_minor
    from products p join stock s on s.shop_id = p.shop_id and s.sku = p.sku
    where p.shop_id = ${shopId} and p.sku = any(${skus})`.execute(db);
  return new Map(rows.map((row) => [row.sku, row]));
}

/** Reads a shop's figures: names and values as the live state has them. Undefined when there is no such shop. */
export async function readStats(db: Kysely<Database>, shopId: string): Promise<[string, number][] | undefined> {
  const shop = await findShop(db, shopId);
  const tiers = await db
    .selectFrom("users")
    .select(({ fn }) => ["tier", fn.countAll<number>().as("user_count")])
    .where("shop_id", "=", shopId)
    .groupBy("tier")
    .execute();
  return (
    shop && [
      ["users", shop.user_count],
      ["orders", shop.order_count],
      ["items", shop.item_count],
      ["revenue", shop.revenue_minor],
      ["refunded", shop.refunded_minor],
      ["upgrade_credits", shop.upgrade_credits],
      ["downgrade_credits", shop.downgrade_credits],
      ...tiers.map(({ tier, user_count }): [string, number] => [`tier:${tier}`, user_count]),
    ]
  );
}

/** The length of a period, in milliseconds. */
const periodMs = 2_592_000_000;

/**
 * Reads a user's subscription with the names of the events' JSON, times in milliseconds; undefined when there is no such user. A
 * period that ends with a commit stands until that commit; one that costs nothing and changes nothing has rolled on until
 * `nowMs`, as in `lua/include/read_subscription.lua`.
 */
export async function readSubscription(db: Kysely<Database>, shopId: string, userId: string, nowMs: number) {
  const user = await findUser(db, shopId, userId);
  if (user === undefined) {
    return undefined;
  }
  const { create_time, create_position } = user;
  const row = await db
    .selectFrom("subscriptions")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("user_id", "=", userId)
    .executeTakeFirst();
  const {
    tier,
    price_credits,
    period_start_time: start,
    scheduled_tier,
    update_time,
    position,
  } = row ?? {
    tier: "free",
    price_credits: 0,
    period_start_time: create_time,
    scheduled_tier: "",
    update_time: create_time,
    position: create_position,
  };
  const rolls = price_credits === 0 && scheduled_tier === "";
  const rolled = rolls ? Math.max(0, Math.floor((nowMs - start.getTime()) / periodMs)) : 0;
  const startMs = start.getTime() + rolled * periodMs;
  const terms = await db
    .selectFrom("tiers")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("tier", "=", tier)
    .executeTakeFirst();
  return {
    user_id: userId,
    tier,
    price_credits,
    ...(terms === undefined ? {} : { limits: limitsOf(terms) }),
    period_start_time: startMs,
    period_end_time: startMs + periodMs,
    ...(scheduled_tier === "" ? {} : { scheduled_tier, scheduled_time: startMs + periodMs }),
    update_time: update_time.getTime(),
    position,
  };
}

function limitsOf({ max_projects, max_storage_mb, max_api_calls }: TierRow) {
  return { max_projects, max_storage_mb, max_api_calls };
}
