import type pg from "pg";
import { holdColumns, lineOf, orderColumns, takeCart, takeHeld, takeLine } from "./one-statement.ts";
import { openPool } from "./open-pool.ts";
import { answerReplay, fingerprintOf, type KnownRequest, readRequest, replayOf } from "./replay.ts";
import type { CreateRival, Outcome, Purchase } from "./rival.ts";

/**
 * One statement with what Holdfast keeps besides: the wallet, its ledger, the request id and the event. Everything hangs
 * off the row of `taken`; a key or a check that is violated undoes all of it.
 */
export const createOneStatementPromises: CreateRival = async (options) => {
  const pool = await openPool(options);
  const take = ({ line, cart }: (typeof statements)["buy"], purchase: Purchase, id: string) => {
    const what = purchase.skus.length === 1 ? lineOf(purchase) : [purchase.skus, purchase.quantities];
    return run(pool, purchase.skus.length === 1 ? line : cart, purchase, [...what, id, purchase.userId]);
  };
  return {
    buy: (purchase) => take(statements.buy, purchase, purchase.orderId),
    hold: (purchase) => take(statements.hold, purchase, purchase.holdId),
    buyHeld: (purchase) => run(pool, buyHeld, purchase, [purchase.holdId, purchase.orderId]),
    close: () => pool.end(),
  };
};

/**
 * The last two parameters of every statement are the request id and its fingerprint. What was refused is looked for
 * afterwards: a statement that waited for a row sees what its first call left in the stock, but not its request id.
 */
function run(
  pool: pg.Pool,
  statement: { readonly name: string; readonly text: string },
  purchase: Purchase,
  values: readonly unknown[],
): Promise<Outcome> {
  const { requestId } = purchase;
  return answerReplay(pool, purchase, async () => {
    const { rowCount } = await pool.query({ ...statement, values: [...values, requestId, fingerprintOf(purchase)] });
    if (rowCount === 1) {
      return "done";
    }
    const { rows: known } = await pool.query<KnownRequest>({ ...readRequest, values: [requestId] });
    return replayOf(known, purchase);
  });
}

/** Takes the money of the user, if there is one, and writes the order with everything that goes with it. */
function recordOrder(orderId: string, userId: string, requestId: string, fingerprint: string, levels: string): string {
  return `paid as (
      update users set balance_minor = balance_minor - taken.amount_minor from taken
      where users.user_id = ${userId} and users.balance_minor >= taken.amount_minor
      returning users.user_id, users.balance_minor, taken.amount_minor
    ), entry as (
      insert into ledger (user_id, delta_minor, balance_after_minor, order_id)
      select user_id, -amount_minor, balance_minor, ${orderId} from paid
    ), request as (
      insert into requests (request_id, fingerprint) select ${requestId}, ${fingerprint} from taken
    ), event as (
      insert into events (body)
      select json_build_object('order_placed', json_build_object('order_id', ${orderId}, 'user_id', ${userId}, 'skus', skus,
        'quantities', quantities, 'prices', prices, 'amount_minor', amount_minor, 'available', ${levels}))
      from taken
    )
    insert into orders (${orderColumns}, balance_after_minor)
    select ${orderId}, ${userId}, skus, quantities, prices, item_count, amount_minor, now(), (select balance_minor from paid)
    from taken`;
}

function recordHold(levels: string): string {
  return `request as (
      insert into requests (request_id, fingerprint) select $5::text, $6::text from taken
    ), event as (
      insert into events (body)
      select json_build_object('stock_held', json_build_object('hold_id', $3::uuid, 'user_id', $4::text, 'skus', skus,
        'quantities', quantities, 'prices', prices, 'available', ${levels}))
      from taken
    )
    insert into holds (${holdColumns})
    select $3::uuid, $4::text, skus, quantities, prices, 'active', now() + interval '10 minutes' from taken`;
}

const ofLine = "available_count";
const ofCart = "(select json_object_agg(sku, available_count) from updated)";
const order = (levels: string): string => recordOrder("$3::uuid", "$4::text", "$5::text", "$6::text", levels);

const statements = {
  buy: {
    line: { name: "buy_line", text: `with ${takeLine("sold_count")}, ${order(ofLine)}` },
    cart: { name: "buy_cart", text: `with ${takeCart("sold_count")}, ${order(ofCart)}` },
  },
  hold: {
    line: { name: "hold_line", text: `with ${takeLine("held_count")}, ${recordHold(ofLine)}` },
    cart: { name: "hold_cart", text: `with ${takeCart("held_count")}, ${recordHold(ofCart)}` },
  },
};

const buyHeld = {
  name: "buy_held",
  text: `with ${takeHeld}, ${recordOrder("$2::uuid", "taken.user_id", "$3::text", "$4::text", ofCart)}`,
};
