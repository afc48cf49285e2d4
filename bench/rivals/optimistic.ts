import type pg from "pg";
import { buyHeld } from "./one-statement.ts";
import { openPool } from "./open-pool.ts";
import type { CreateRival, Outcome, Purchase } from "./rival.ts";

const retryCount = 3;

/** Reads without a lock, then writes in one statement if nobody else has written since; with three retries. */
export const createOptimistic: CreateRival = async (options) => {
  const pool = await openPool(options);
  return {
    buy: (purchase) => tryToTake(pool, purchase, purchase.orderId, statements.buy),
    hold: (purchase) => tryToTake(pool, purchase, purchase.holdId, statements.hold),
    // The hold's state is its version.
    buyHeld: async ({ holdId, orderId }) => {
      const { rowCount } = await pool.query({ ...buyHeld, values: [holdId, orderId] });
      return rowCount === 1 ? "done" : "refused";
    },
    close: () => pool.end(),
  };
};

interface SeenLevel {
  readonly available_count: string;
  readonly version: string;
}

const lookLine = { name: "look_line", text: "select available_count, version from stock where sku = $1" };
const lookCart = {
  name: "look_cart",
  text: "select available_count, version from stock where sku = any($1) order by sku",
};

async function tryToTake(
  pool: pg.Pool,
  { skus, quantities, userId }: Purchase,
  id: string,
  { line, cart }: (typeof statements)["buy"],
): Promise<Outcome> {
  for (let attempt = 0; attempt <= retryCount; attempt += 1) {
    const { rows } = await (skus.length === 1
      ? pool.query<SeenLevel>({ ...lookLine, values: [skus[0]] })
      : pool.query<SeenLevel>({ ...lookCart, values: [skus] }));
    const isEnough = rows.every((level, index) => Number(level.available_count) >= (quantities[index] as number));
    if (!isEnough || rows.length < skus.length) {
      return "refused";
    }
    const versions = rows.map(({ version }) => version);
    const written = await (skus.length === 1
      ? pool.query({ ...line, values: [skus[0], quantities[0], versions[0], id, userId] })
      : pool.query({ ...cart, values: [skus, quantities, versions, id, userId] }));
    if (written.rowCount === 1) {
      return "done";
    }
  }
  return "busy";
}

const takeLine = (to: string): string => `with taken as (
      update stock set available_count = available_count - $2::bigint, ${to} = ${to} + $2::bigint, version = version + 1
      where sku = $1::text and version = $3::bigint
      returning array[$1::text] as skus, array[$2::bigint] as quantities, array[price_minor] as prices,
        $2::bigint as item_count, $2::bigint * price_minor as amount_minor
    )`;

/** All rows are locked first, in the order of their ids, and only then written, all or none. */
const takeCart = (to: string): string => `with line as materialized (
      select * from unnest($1::text[], $2::bigint[], $3::bigint[]) as line (sku, quantity, version)
    ), level as materialized (
      select stock.sku, line.quantity, stock.price_minor from stock join line using (sku, version)
      order by stock.sku for update of stock
    ), taken as materialized (
      select array_agg(sku) as skus, array_agg(quantity) as quantities, array_agg(price_minor) as prices,
        sum(quantity) as item_count, sum(quantity * price_minor) as amount_minor
      from level having count(*) = cardinality($1::text[])
    ), updated as (
      update stock set available_count = available_count - line.quantity, ${to} = ${to} + line.quantity, version = stock.version + 1
      from line, taken where stock.sku = line.sku
    )`;

const insertOrder = `insert into orders (order_id, user_id, skus, quantities, prices, item_count, amount_minor, create_time)
    select $4::uuid, $5::text, skus, quantities, prices, item_count, amount_minor, now() from taken`;
const insertHold = `insert into holds (hold_id, user_id, skus, quantities, prices, state, expire_time)
    select $4::uuid, $5::text, skus, quantities, prices, 'active', now() + interval '10 minutes' from taken`;

const statements = {
  buy: {
    line: { name: "buy_line", text: `${takeLine("sold_count")} ${insertOrder}` },
    cart: { name: "buy_cart", text: `${takeCart("sold_count")} ${insertOrder}` },
  },
  hold: {
    line: { name: "hold_line", text: `${takeLine("held_count")} ${insertHold}` },
    cart: { name: "hold_cart", text: `${takeCart("held_count")} ${insertHold}` },
  },
};
