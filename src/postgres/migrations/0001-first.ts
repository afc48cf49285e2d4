import { type Kysely, sql } from "kysely";

/**
 * The first schema. `shop_id` leads every key, so tables can be partitioned or distributed by it. What belongs together is
 * written together by one statement (flush-statement.ts), so no foreign keys are checked on the way: nothing a caller
 * sends may make a flush fail.
 */
export async function up(db: Kysely<never>): Promise<void> {
  const statements = [
    // One hot row per shop that every flush rewrites: half-empty pages keep the new version on the same page.
    `create table shops (
      shop_id text collate "C" primary key,
      currency_code text not null,
      create_time timestamptz not null,
      epoch bigint not null,
      head_position bigint not null,
      head_commit_id uuid not null,
      product_count bigint not null default 0,
      user_count bigint not null default 0,
      open_hold_count bigint not null default 0,
      open_order_count bigint not null default 0
    ) with (fillfactor = 50)`,
    `create table commits (
      shop_id text collate "C" not null,
      position bigint not null,
      commit_id uuid not null,
      epoch bigint not null,
      commit_time timestamptz not null,
      request_id text collate "C" not null,
      call json not null,
      events json not null,
      primary key (shop_id, position)
    )`,
    `create index commits_request_id on commits (shop_id, request_id) where request_id <> ''`,
    `create table products (
      shop_id text collate "C" not null,
      sku text collate "C" not null,
      title text not null,
      price_minor bigint not null,
      max_per_user bigint not null,
      sale_start_time timestamptz,
      sale_end_time timestamptz,
      withdrawn boolean not null,
      limit_tracked boolean not null,
      create_time timestamptz not null,
      update_time timestamptz not null,
      position bigint not null,
      primary key (shop_id, sku)
    )`,
    `create table stock (
      shop_id text collate "C" not null,
      sku text collate "C" not null,
      available_count bigint not null,
      held_count bigint not null,
      sold_count bigint not null,
      primary key (shop_id, sku)
    ) with (fillfactor = 50)`,
    `create table holds (
      shop_id text collate "C" not null,
      hold_id text collate "C" not null,
      user_id text collate "C" not null,
      lines json not null,
      state smallint not null,
      create_time timestamptz not null,
      expire_time timestamptz not null,
      order_id text collate "C" not null,
      create_position bigint not null,
      position bigint not null,
      primary key (shop_id, hold_id)
    ) with (fillfactor = 80)`,
    `create index holds_user on holds (shop_id, user_id, create_position)`,
    `create index holds_newest on holds (shop_id, create_position)`,
    `create index holds_open on holds (shop_id, hold_id) where state = 1`,
    `create index holds_position on holds (shop_id, position)`,
    `create table orders (
      shop_id text collate "C" not null,
      order_id text collate "C" not null,
      user_id text collate "C" not null,
      lines json not null,
      item_count bigint not null,
      amount_minor bigint not null,
      refunded_minor bigint not null,
      state smallint not null,
      payment_method smallint not null,
      hold_id text collate "C" not null,
      create_time timestamptz not null,
      update_time timestamptz not null,
      create_position bigint not null,
      position bigint not null,
      primary key (shop_id, order_id)
    ) with (fillfactor = 90)`,
    `create table users (
      shop_id text collate "C" not null,
      user_id text collate "C" not null,
      email text not null,
      email_key text collate "C" not null,
      display_name text not null,
      balance_minor bigint not null,
      credits bigint not null,
      order_count bigint not null,
      lifetime_value_minor bigint not null,
      create_time timestamptz not null,
      update_time timestamptz not null,
      create_position bigint not null,
      position bigint not null,
      primary key (shop_id, user_id)
    ) with (fillfactor = 80)`,
    `create table ledger_entries (
      shop_id text collate "C" not null,
      position bigint not null,
      index integer not null,
      account text collate "C" not null,
      kind smallint not null,
      delta bigint not null,
      balance_after bigint,
      cause text not null,
      order_id text collate "C" not null,
      reference text not null,
      primary key (shop_id, position, index)
    )`,
    // Random values that all processes share. 244 random bits from two UUIDs.
    `create table secrets (name text primary key, value text not null)`,
    `insert into secrets values ('page_token', gen_random_uuid()::text || gen_random_uuid()::text)`,
  ];
  for (const statement of statements) {
    await sql.raw(statement).execute(db);
  }
}
