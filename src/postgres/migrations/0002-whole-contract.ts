import { type Kysely, sql } from "kysely";

/**
 * Order life cycles, referrals, subscriptions, stats, refunds at the gateway, consumers. An older process does not write
 * these columns, so old and new processes must not serve side by side across this version. The log stays the truth: users
 * from before have no referral code, because no event gave them one.
 */
export async function up(db: Kysely<never>): Promise<void> {
  const statements = [
    `alter table shops
      add column order_count bigint not null default 0,
      add column item_count bigint not null default 0,
      add column revenue_minor bigint not null default 0,
      add column refunded_minor bigint not null default 0,
      add column upgrade_credits bigint not null default 0,
      add column downgrade_credits bigint not null default 0`,
    // What was sold of a product, gross; kept beside its levels because the same commits change both.
    `alter table stock
      add column order_count bigint not null default 0,
      add column unit_count bigint not null default 0,
      add column revenue_minor bigint not null default 0`,
    `alter table orders
      add column payment_reference text not null default '',
      add column charge_id text not null default '',
      add column fulfill_reference text not null default '',
      add column cancel_reason text not null default '',
      add column expire_time timestamptz,
      add column confirm_position bigint not null default 0,
      add column fulfill_position bigint not null default 0,
      add column refund_count integer not null default 0,
      add column restocked json`,
    `update shops s set order_count = o.orders, item_count = o.items, revenue_minor = o.revenue from (
      select shop_id, count(*) as orders, sum(item_count) as items,
        coalesce(sum(amount_minor) filter (where payment_method = 1), 0) as revenue
      from orders group by 1) o where o.shop_id = s.shop_id`,
    `update stock s set order_count = o.orders, unit_count = o.units, revenue_minor = o.revenue from (
      select shop_id, line->>'sku' as sku, count(distinct order_id) as orders, sum((line->>'quantity')::bigint) as units,
        coalesce(sum((line->>'quantity')::bigint * (line->>'price_minor')::bigint) filter (where payment_method = 1), 0) as revenue
      from orders, json_array_elements(lines) as line group by 1, 2) o where o.shop_id = s.shop_id and o.sku = s.sku`,
    // Newest first per state, and per user and state: a list of every state merges the five.
    `create index orders_user on orders (shop_id, user_id, state, create_position)`,
    `create index orders_state on orders (shop_id, state, create_position)`,
    // What the payment worker has to charge.
    `create index orders_to_charge on orders (shop_id, order_id) where state = 1 and payment_method = 4`,
    `alter table users
      add column referral_code text collate "C" not null default '',
      add column referred_by text collate "C" not null default '',
      add column referral_count bigint not null default 0,
      add column tier text collate "C" not null default 'free'`,
    `create index users_newest on users (shop_id, create_position)`,
    `create index users_email on users (shop_id, email_key) where email_key <> ''`,
    `alter table ledger_entries add column reason text not null default ''`,
    `create index ledger_entries_user on ledger_entries (shop_id, account, position, index) where account like 'user:%'`,
    `create table tiers (
      shop_id text collate "C" not null,
      tier text collate "C" not null,
      price_credits bigint not null,
      max_projects bigint not null,
      max_storage_mb bigint not null,
      max_api_calls bigint not null,
      position bigint not null,
      primary key (shop_id, tier)
    )`,
    `insert into tiers select s.shop_id, t.* from shops s, (values
      ('free', 0, 3, 1024, 1000, 1), ('pro', 2900, 100, 102400, 100000, 1), ('enterprise', 9900, 999, 1048576, 999999999, 1)) as t`,
    // Users who ever changed their tier; everybody else is on free since creation.
    `create table subscriptions (
      shop_id text collate "C" not null,
      user_id text collate "C" not null,
      tier text collate "C" not null,
      price_credits bigint not null,
      period_start_time timestamptz not null,
      period_end_time timestamptz not null,
      scheduled_tier text collate "C" not null,
      update_time timestamptz not null,
      position bigint not null,
      primary key (shop_id, user_id)
    ) with (fillfactor = 80)`,
    `create index subscriptions_due on subscriptions (period_end_time) where price_credits > 0 or scheduled_tier <> ''`,
    `create table tier_changes (
      shop_id text collate "C" not null,
      user_id text collate "C" not null,
      position bigint not null,
      from_tier text collate "C" not null,
      to_tier text collate "C" not null,
      proration smallint not null,
      cause smallint not null,
      charged_credits bigint not null,
      credited_credits bigint not null,
      commit_time timestamptz not null,
      primary key (shop_id, user_id, position)
    )`,
    // Refunds of orders that the gateway charged: made there after the commit, settled by a later one.
    `create table refunds (
      shop_id text collate "C" not null,
      order_id text collate "C" not null,
      refund_number integer not null,
      amount_minor bigint not null,
      settled boolean not null,
      refund_id text not null,
      create_position bigint not null,
      primary key (shop_id, order_id, refund_number)
    ) with (fillfactor = 80)`,
    `create index refunds_unsettled on refunds (shop_id, order_id, refund_number) where not settled`,
    `create table consumers (
      shop_id text collate "C" not null,
      consumer text collate "C" not null,
      position bigint not null,
      session text not null,
      update_time timestamptz not null,
      primary key (shop_id, consumer)
    ) with (fillfactor = 50)`,
    `insert into secrets values ('quote_token', gen_random_uuid()::text || gen_random_uuid()::text)`,
  ];
  for (const statement of statements) {
    await sql.raw(statement).execute(db);
  }
}
