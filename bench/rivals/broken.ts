import { lineOf } from "./one-statement.ts";
import { openPool } from "./open-pool.ts";
import type { CreateRival } from "./rival.ts";

/** How often it is done wrong: looks without a lock and then takes. Two callers who look at the same time both take. */
export const createCheckThenDecrement: CreateRival = async (options) => {
  const pool = await openPool(options);
  return {
    buy: async (purchase) => {
      const { rows } = await pool.query<{ available_count: string }>({ ...look, values: [purchase.skus[0]] });
      if (Number(rows[0]?.available_count ?? 0) < (purchase.quantities[0] as number)) {
        return "refused";
      }
      await pool.query({ ...takeAndInsert, values: [...lineOf(purchase), purchase.orderId, purchase.userId] });
      return "done";
    },
    close: () => pool.end(),
  };
};

/** Simpler still: takes and never looks. */
export const createBareDecrement: CreateRival = async (options) => {
  const pool = await openPool(options);
  return {
    buy: async (purchase) => {
      const values = [...lineOf(purchase), purchase.orderId, purchase.userId];
      const { rowCount } = await pool.query({ ...takeAndInsert, values });
      return rowCount === 1 ? "done" : "refused";
    },
    close: () => pool.end(),
  };
};

const look = { name: "look", text: "select available_count from stock where sku = $1" };

const takeAndInsert = {
  name: "take_and_insert",
  text: `with taken as (
      update stock set available_count = available_count - $2::bigint, sold_count = sold_count + $2::bigint
      where sku = $1::text returning price_minor
    )
    insert into orders (order_id, user_id, skus, quantities, prices, item_count, amount_minor, create_time)
    select $3::uuid, $4::text, array[$1::text], array[$2::bigint], array[price_minor], $2::bigint, $2::bigint * price_minor, now()
    from taken`,
};
