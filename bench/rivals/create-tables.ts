import type { Client } from "pg";
import { allSkus, balanceMinor, firstStockOf, priceMinor, userIds } from "../sale.ts";

/**
 * Makes the tables of one rival, all rivals the same, with the shop's products and buyers in them. Only a rival that takes
 * money from wallets has every order of a user show that it was paid.
 */
export async function createTables(database: Client, schema: string, { hasWallets = false } = {}): Promise<void> {
  await database.query(`
    create schema ${schema};
    set search_path to ${schema};
    create table stock (
      sku text collate "C" primary key, available_count bigint not null, held_count bigint not null default 0,
      sold_count bigint not null default 0, supplied_count bigint not null, price_minor bigint not null,
      version bigint not null default 0
    ) with (fillfactor = 50);
    create table orders (
      order_id uuid primary key, user_id text collate "C", skus text[] not null, quantities bigint[] not null,
      prices bigint[] not null, item_count bigint not null, amount_minor bigint not null, balance_after_minor bigint,
      create_time timestamptz not null
      ${hasWallets ? ", constraint is_paid check (user_id is null or balance_after_minor is not null)" : ""}
    );
    create table holds (
      hold_id uuid primary key, user_id text collate "C", skus text[] not null, quantities bigint[] not null,
      prices bigint[] not null, state text not null, expire_time timestamptz not null, order_id uuid
    ) with (fillfactor = 80);
    create table units (
      unit_id bigint generated always as identity primary key, sku text collate "C" not null, order_id uuid, hold_id uuid
    ) with (fillfactor = 80);
    create index units_free on units (sku) where order_id is null and hold_id is null;
    create index units_held on units (hold_id) where hold_id is not null;
    create table users (user_id text collate "C" primary key, balance_minor bigint not null check (balance_minor >= 0))
      with (fillfactor = 50);
    create table ledger (
      entry_id bigint generated always as identity primary key, user_id text collate "C" not null, delta_minor bigint not null,
      balance_after_minor bigint not null, order_id uuid not null
    );
    create table requests (request_id text collate "C" primary key, fingerprint text not null);
    create table events (position bigint generated always as identity primary key, body json not null)`);
  await database.query(
    "insert into stock (sku, available_count, supplied_count, price_minor) select *, $3 from unnest($1::text[], $2::bigint[], $2::bigint[])",
    [allSkus, allSkus.map(firstStockOf), priceMinor],
  );
  await database.query("insert into users select unnest($1::text[]), $2", [userIds, balanceMinor]);
  await database.query("analyze stock, users; reset search_path");
}
