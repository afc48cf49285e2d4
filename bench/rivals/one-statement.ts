import { openPool } from "./open-pool.ts";
import type { CreateRival, Purchase } from "./rival.ts";

/** The shortest that PostgreSQL can do: a guarded update and the insert that hangs off it, in one round trip. */
export const createOneStatement: CreateRival = async (options) => {
  const pool = await openPool(options);
  const run = async (statement: { readonly name: string; readonly text: string }, values: unknown[]) => {
    const { rowCount } = await pool.query({ ...statement, values });
    return rowCount === 1 ? "done" : "refused";
  };
  return {
    buy: (purchase) =>
      purchase.skus.length === 1
        ? run(buyLine, [...lineOf(purchase), purchase.orderId, purchase.userId])
        : run(buyCart, [purchase.skus, purchase.quantities, purchase.orderId, purchase.userId]),
    hold: (purchase) =>
      purchase.skus.length === 1
        ? run(holdLine, [...lineOf(purchase), purchase.holdId, purchase.userId])
        : run(holdCart, [purchase.skus, purchase.quantities, purchase.holdId, purchase.userId]),
    buyHeld: ({ holdId, orderId }) => run(buyHeld, [holdId, orderId]),
    close: () => pool.end(),
  };
};

/** The SKU and the quantity of a purchase with one line. */
export function lineOf({ skus, quantities }: Purchase): [string | undefined, number | undefined] {
  return [skus[0], quantities[0]];
}

/** What an order's row is made of. */
export const orderColumns = "order_id, user_id, skus, quantities, prices, item_count, amount_minor, create_time";
/** What a hold's row is made of. */
export const holdColumns = "hold_id, user_id, skus, quantities, prices, state, expire_time";

/** One line: $1 sku, $2 quantity. `taken` has a row when there was enough. */
export function takeLine(to: "sold_count" | "held_count"): string {
  return `taken as (
      update stock set available_count = available_count - $2::bigint, ${to} = ${to} + $2::bigint
      where sku = $1::text and available_count >= $2::bigint
      returning array[$1::text] as skus, array[$2::bigint] as quantities, array[price_minor] as prices,
        $2::bigint as item_count, $2::bigint * price_minor as amount_minor, available_count
    )`;
}

/**
 * A cart: $1 skus, $2 quantities. All rows are locked first, in the order of their ids, and only then taken, all or none;
 * `taken` has a row when there was enough of each. `updated` gives what they became.
 */
export function takeCart(to: "sold_count" | "held_count"): string {
  return `line as materialized (
      select * from unnest($1::text[], $2::bigint[]) as line (sku, quantity)
    ), level as materialized (
      select stock.sku, line.quantity, stock.price_minor, stock.available_count >= line.quantity as is_enough
      from stock join line using (sku) order by stock.sku for update of stock
    ), taken as materialized (
      select array_agg(sku) as skus, array_agg(quantity) as quantities, array_agg(price_minor) as prices,
        sum(quantity) as item_count, sum(quantity * price_minor) as amount_minor
      from level having bool_and(is_enough) and count(*) = cardinality($1::text[])
    ), updated as (
      update stock set available_count = available_count - line.quantity, ${to} = ${to} + line.quantity
      from line, taken where stock.sku = line.sku returning stock.sku, stock.available_count
    )`;
}

/** A hold that is still there: $1 hold, $2 order. `taken` has a row when it was. */
export const takeHeld = `taken as (
      update holds set state = 'committed', order_id = $2::uuid
      where hold_id = $1::uuid and state = 'active' and expire_time > now()
      returning user_id, skus, quantities, prices,
        (select sum(quantity) from unnest(quantities) as quantity) as item_count,
        (select sum(quantity * price) from unnest(quantities, prices) as line (quantity, price)) as amount_minor
    ), updated as (
      update stock set held_count = held_count - line.quantity, sold_count = sold_count + line.quantity
      from taken, unnest(taken.skus, taken.quantities) as line (sku, quantity) where stock.sku = line.sku
      returning stock.sku, stock.available_count
    )`;

const insertOrder = `insert into orders (${orderColumns})
    select $3::uuid, $4::text, skus, quantities, prices, item_count, amount_minor, now() from taken`;
const insertHold = `insert into holds (${holdColumns})
    select $3::uuid, $4::text, skus, quantities, prices, 'active', now() + interval '10 minutes' from taken`;

const buyLine = { name: "buy_line", text: `with ${takeLine("sold_count")} ${insertOrder}` };
const buyCart = { name: "buy_cart", text: `with ${takeCart("sold_count")} ${insertOrder}` };
const holdLine = { name: "hold_line", text: `with ${takeLine("held_count")} ${insertHold}` };
const holdCart = { name: "hold_cart", text: `with ${takeCart("held_count")} ${insertHold}` };

/** Makes a hold an order: $1 hold, $2 order. */
export const buyHeld = {
  name: "buy_held",
  text: `with ${takeHeld} insert into orders (${orderColumns})
    select $2::uuid, user_id, skus, quantities, prices, item_count, amount_minor, now() from taken`,
};
