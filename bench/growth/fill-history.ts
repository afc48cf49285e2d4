import type { Client } from "pg";
import { fillLargeShop } from "../large-shop.ts";
import { plentyCount } from "../sale.ts";

/** The one product of a shop that {@link fillHistory} fills. */
export const historySku = "sku-1";

/**
 * How long ago everything happened that a shop is filled with. Of a shop with more commits than request ids that Redis remembers,
 * ids are looked up in PostgreSQL until a minute after the newest one that was forgotten: nothing here is to be as young.
 */
export const pastMs = 3_600_000;

/** Commits of one statement. */
const batchCount = 500_000;
/** Commits that make the shop, its product and its stock. */
const firstCount = 3;
const priceMinor = 100;

/**
 * Fills a shop that was just created by SQL: with one product, and with orders of one unit of it that guests placed and did not
 * pay for, a commit of one event each, as the product itself would have written them. VerifyShop finds nothing wrong with it.
 */
export async function fillHistory(
  database: Client,
  shopId: string,
  orderCount: number,
  signal: AbortSignal,
): Promise<void> {
  await fillLargeShop(database, shopId, {
    userCount: 0,
    skuCount: 1,
    holdCount: 0,
    orderCount: 0,
    unitCount: plentyCount,
    ageMs: pastMs,
  });
  const { rows } = await database.query("select (extract(epoch from now()) * 1000)::bigint - $1::bigint as ms", [
    pastMs,
  ]);
  for (let from = 1; from <= orderCount; from += batchCount) {
    signal.throwIfAborted();
    const to = Math.min(orderCount, from + batchCount - 1);
    for (const statement of orderStatements(shopId, from, to, String(rows[0].ms))) {
      await database.query(statement);
    }
  }
  await database.query(
    `update stock set available_count = available_count - $2, sold_count = $2, order_count = $2, unit_count = $2 where shop_id = $1`,
    [shopId, orderCount],
  );
  await database.query(
    `update shops set head_position = $2, order_count = $3, item_count = $3,
      head_commit_id = (select commit_id from commits where shop_id = $1 and position = $2) where shop_id = $1`,
    [shopId, firstCount + orderCount, orderCount],
  );
  await database.query("vacuum analyze commits, orders");
  await database.query("checkpoint");
}

/** The commits and the orders from one number to another; ids come in the order of time, as UUIDv7s do. */
function orderStatements(shopId: string, from: number, to: number, ms: string): readonly string[] {
  const id = (kind: string) =>
    `'${kind}' || lpad(to_hex(n), 11, '0') || '-7000-8000-' || substr(md5('${kind}' || n), 1, 12)`;
  const line = `[{"sku":"${historySku}","quantity":1,"price_minor":${priceMinor}}]`;
  const position = `${firstCount} + n`;
  const time = `to_timestamp(${ms} / 1000.0)`;
  const call = `'{"rpc":"PlaceOrder","request_id":"' || ${id("a")} || '","principal":"","request":{}}'`;
  const stock = `'{"sku":"${historySku}","available_count":' || ${plentyCount} - n || ',"held_count":0,"sold_count":' || n || ',"price_minor":${priceMinor}}'`;
  const event = `'[{"order_placed":{"order":{"order_id":"' || ${id("b")} || '","user_id":"","lines":${line},"item_count":1,"amount_minor":${priceMinor},'
    || '"refunded_minor":0,"state":2,"payment_method":3,"hold_id":"","create_time":${ms},"update_time":${ms},"create_position":' || ${position}
    || ',"position":' || ${position} || '},"stocks":[' || ${stock} || ']}}]'`;
  return [
    `insert into commits select '${shopId}', ${position}, gen_random_uuid(), 1, ${time}, ${id("a")}, (${call})::json, (${event})::json
      from generate_series(${from}, ${to}) n`,
    `insert into orders (shop_id, order_id, user_id, lines, item_count, amount_minor, refunded_minor, state, payment_method, hold_id,
        create_time, update_time, create_position, position)
      select '${shopId}', ${id("b")}, '', '${line}', 1, ${priceMinor}, 0, 2, 3, '', ${time}, ${time}, ${position}, ${position}
      from generate_series(${from}, ${to}) n`,
  ];
}
