import { lineOf } from "./one-statement.ts";
import { openPool } from "./open-pool.ts";
import type { CreateRival, Purchase } from "./rival.ts";

/** A row for each unit, picked, taken and put into an order by one statement. */
export const createUnitRowsStatement: CreateRival = async (options) => {
  const pool = await openPool(options);
  const run = async (statement: { readonly name: string; readonly text: string }, values: unknown[]) => {
    const { rowCount } = await pool.query({ ...statement, values });
    return rowCount === 1 ? "done" : "refused";
  };
  const take = ({ line, cart }: (typeof statements)["buy"], purchase: Purchase, id: string) =>
    purchase.skus.length === 1
      ? run(line, [...lineOf(purchase), id, purchase.userId])
      : run(cart, [purchase.skus, singles(purchase), id, purchase.userId]);
  return {
    buy: (purchase) => take(statements.buy, purchase, purchase.orderId),
    hold: (purchase) => take(statements.hold, purchase, purchase.holdId),
    buyHeld: ({ holdId, orderId }) => run(buyHeld, [holdId, orderId]),
    close: () => pool.end(),
  };
};

/** `limit` cannot differ from line to line of one statement: carts are of one unit per line. */
function singles({ quantities }: Purchase): readonly number[] {
  if (quantities.some((quantity) => quantity !== 1)) {
    throw new Error("a cart of unit rows takes one unit of each SKU");
  }
  return quantities;
}

/** The rows are picked before anything is written; `taken` has a row when there were enough. */
const takeLine = (column: string): string => `with picked as materialized (
      select unit_id from units where sku = $1::text and order_id is null and hold_id is null
      limit $2::bigint for update skip locked
    ), taken as materialized (
      select array[$1::text] as skus, array[$2::bigint] as quantities, array[(select price_minor from stock where sku = $1::text)] as prices
      where (select count(*) from picked) = $2::bigint
    ), updated as (
      update units set ${column} = $3::uuid from picked, taken where units.unit_id = picked.unit_id
    )`;

const takeCart = (column: string): string => `with picked as materialized (
      select unit.unit_id from unnest($1::text[]) as line (sku) cross join lateral (
        select unit_id from units where units.sku = line.sku and order_id is null and hold_id is null
        limit 1 for update skip locked
      ) as unit
    ), taken as materialized (
      select $1::text[] as skus, $2::bigint[] as quantities,
        array(select price_minor from stock where sku = any($1::text[]) order by sku) as prices
      where (select count(*) from picked) = cardinality($1::text[])
    ), updated as (
      update units set ${column} = $3::uuid from picked, taken where units.unit_id = picked.unit_id
    )`;

const sums = `(select sum(quantity) from unnest(quantities) as quantity),
      (select sum(quantity * price) from unnest(quantities, prices) as line (quantity, price))`;
const insertOrder = `insert into orders (order_id, user_id, skus, quantities, prices, item_count, amount_minor, create_time)
    select $3::uuid, $4::text, skus, quantities, prices, ${sums}, now() from taken`;
const insertHold = `insert into holds (hold_id, user_id, skus, quantities, prices, state, expire_time)
    select $3::uuid, $4::text, skus, quantities, prices, 'active', now() + interval '10 minutes' from taken`;

const statements = {
  buy: {
    line: { name: "buy_line", text: `${takeLine("order_id")} ${insertOrder}` },
    cart: { name: "buy_cart", text: `${takeCart("order_id")} ${insertOrder}` },
  },
  hold: {
    line: { name: "hold_line", text: `${takeLine("hold_id")} ${insertHold}` },
    cart: { name: "hold_cart", text: `${takeCart("hold_id")} ${insertHold}` },
  },
};

const buyHeld = {
  name: "buy_held",
  text: `with taken as (
      update holds set state = 'committed', order_id = $2::uuid
      where hold_id = $1::uuid and state = 'active' and expire_time > now()
      returning user_id, skus, quantities, prices
    ), updated as (
      update units set order_id = $2::uuid from taken where units.hold_id = $1::uuid
    )
    insert into orders (order_id, user_id, skus, quantities, prices, item_count, amount_minor, create_time)
    select $2::uuid, user_id, skus, quantities, prices, ${sums}, now() from taken`,
};
