import type { Client } from "pg";

/** How much is in a large shop. */
export interface LargeShop {
  readonly userCount: number;
  /** Products; every thousandth has a limit per user. */
  readonly skuCount: number;
  /** Open holds, one unit each; no more than there are products. */
  readonly holdCount: number;
  /** Orders that wait for an EXTERNAL payment, one unit each; no more than there are products. */
  readonly orderCount: number;
  /** Units of each product; default 100. */
  readonly unitCount?: number;
  /** How long ago all of it happened, in milliseconds, the creation of the shop too; default 0. */
  readonly ageMs?: number;
}

/**
 * Fills a shop that was just created (its first commit is there) by SQL: one commit for each user, two for each product, one for
 * each hold and order, with the events that the product itself would have written, and the rows that follow from them. VerifyShop
 * finds nothing wrong with it.
 */
export async function fillLargeShop(database: Client, shopId: string, shop: LargeShop): Promise<void> {
  const { userCount: users, skuCount: skus, holdCount: holds, orderCount: orders, unitCount = 100, ageMs = 0 } = shop;
  const [product, stock, hold, order] = [
    1 + users,
    1 + users + skus,
    1 + users + 2 * skus,
    1 + users + 2 * skus + holds,
  ];
  const head = order + orders;
  const at = "now_ms()";
  const limit = "(case when n % 1000 = 0 then 5 else 0 end)";
  const id = "substr(md5(n::text), 1, 8)"; // ids come in no order, as in life
  const line = `json_build_array(json_build_object('sku', 'sku-' || n, 'quantity', 1, 'price_minor', 100))::text`;
  const levels = (held: string) =>
    `'{"sku":"sku-' || n || '","available_count":' || ${unitCount} - ${held} || ',"held_count":' || ${held} || ',"sold_count":0,"price_minor":100}'`;
  const buyer = `'user-' || substr(md5((n % ${users} + 1)::text), 1, 8) || '-' || n % ${users} + 1`;
  const expire = `${at} + 86400000`;
  const userJson = `'{"user_id":"user-' || ${id} || '-' || n || '","balance_minor":0,"credits":100,"tier":"free","referral_code":"CODE' || n
    || '","referred_by":"","referral_count":0,"order_count":0,"lifetime_value_minor":0,"create_time":' || ${at} || ',"update_time":' || ${at}
    || ',"position":' || 1 + n || '}'`;
  const productJson = `'{"sku":"sku-' || n || '","title":"Title ' || n || '","price_minor":100,"max_per_user":' || ${limit}
    || ',"withdrawn":false,"create_time":' || ${at} || ',"update_time":' || ${at} || ',"position":' || ${product} + n || '}'`;
  const holdJson = `'{"hold_id":"hold-' || ${id} || '-' || n || '","user_id":"' || ${buyer} || '","lines":' || ${line} || ',"state":1,"create_time":'
    || ${at} || ',"expire_time":' || ${expire} || ',"order_id":"","create_position":' || ${hold} + n || ',"position":' || ${hold} + n || '}'`;
  const orderJson = `'{"order_id":"order-' || ${id} || '-' || n || '","user_id":"","lines":' || ${line}
    || ',"item_count":1,"amount_minor":100,"refunded_minor":0,"state":1,"payment_method":2,"hold_id":"","expire_time":' || ${expire}
    || ',"create_time":' || ${at} || ',"update_time":' || ${at} || ',"create_position":' || ${order} + n || ',"position":' || ${order} + n || '}'`;
  const commits = (from: number, count: number, rpc: string, events: string) => `
    insert into commits select '${shopId}', ${from} + n, gen_random_uuid(), 1, filled_at(),
      'request-' || ${from} + n, ('{"rpc":"${rpc}","request_id":"request-' || ${from} + n || '","principal":"","request":{}}')::json,
      (${events})::json from generate_series(1, ${count}) n`;
  const { rows } = await database.query("select (extract(epoch from now()) * 1000)::bigint - $1::bigint as ms", [
    ageMs,
  ]);
  const ms = String(rows[0].ms);
  const time = `to_timestamp(${ms} / 1000.0)`;
  const literal = (statement: string): string => statement.replaceAll("now_ms()", ms).replaceAll("filled_at()", time);
  for (const statement of [
    `update commits set commit_time = least(commit_time, ${time}) where shop_id = '${shopId}'`,
    `update shops set create_time = least(create_time, ${time}) where shop_id = '${shopId}'`,
    commits(1, users, "CreateUser", `'[{"user_created":{"user":' || ${userJson} || ',"referral_applied":false}}]'`),
    commits(product, skus, "PutProduct", `'[{"product_put":{"product":' || ${productJson} || ',"created":true}}]'`),
    commits(
      stock,
      skus,
      "AdjustStock",
      `'[{"stock_adjusted":{"stock":' || ${levels("0")} || ',"delta_count":${unitCount},"reason":5,"reference":""}}]'`,
    ),
    commits(
      hold,
      holds,
      "HoldStock",
      `'[{"stock_held":{"hold":' || ${holdJson} || ',"stocks":[' || ${levels("1")} || ']}}]'`,
    ),
    commits(
      order,
      orders,
      "PlaceOrder",
      `'[{"order_placed":{"order":' || ${orderJson} || ',"stocks":[' || ${levels(`(1 + (n <= ${holds})::int)`)} || ']}}]'`,
    ),
    `insert into users (shop_id, user_id, email, email_key, display_name, balance_minor, credits, order_count, lifetime_value_minor,
       referral_code, create_time, update_time, create_position, position)
     select '${shopId}', 'user-' || ${id} || '-' || n, 'User' || n || '@example.com', 'user' || n || '@example.com', 'Name ' || n, 0, 100, 0, 0,
       'CODE' || n, ${time}, ${time}, 1 + n, 1 + n from generate_series(1, ${users}) n`,
    `insert into ledger_entries (shop_id, position, index, account, kind, delta, balance_after, cause, order_id, reference)
     select '${shopId}', 1 + n, side, case side when 0 then 'user:user-' || ${id} || '-' || n else 'credits' end, 2, 100 - 200 * side,
       case side when 0 then 100 end, 'SIGNUP', '', '' from generate_series(1, ${users}) n, generate_series(0, 1) side`,
    `insert into products select '${shopId}', 'sku-' || n, 'Title ' || n, 100, ${limit}, null, null, false, ${limit} > 0, ${time}, ${time},
       ${product} + n from generate_series(1, ${skus}) n`,
    `insert into stock select '${shopId}', 'sku-' || n, ${unitCount} - held, held, 0 from (
       select n, (n <= ${holds})::int + (n <= ${orders})::int as held from generate_series(1, ${skus}) n) levels`,
    `insert into holds select '${shopId}', 'hold-' || ${id} || '-' || n, ${buyer}, (${line})::json, 1, ${time}, to_timestamp((${expire}) / 1000.0), '',
       ${hold} + n, ${hold} + n from generate_series(1, ${holds}) n`,
    `insert into orders (shop_id, order_id, user_id, lines, item_count, amount_minor, refunded_minor, state, payment_method, hold_id,
       expire_time, create_time, update_time, create_position, position)
     select '${shopId}', 'order-' || ${id} || '-' || n, '', (${line})::json, 1, 100, 0, 1, 2, '', to_timestamp((${expire}) / 1000.0), ${time}, ${time}, ${order} + n, ${order} + n from generate_series(1, ${orders}) n`,
    `update shops set head_position = ${head}, head_commit_id = (select commit_id from commits where shop_id = '${shopId}' and position = ${head}),
       product_count = ${skus}, user_count = ${users}, open_hold_count = ${holds}, open_order_count = ${orders} where shop_id = '${shopId}'`,
    // As a shop that grew over months is.
    "vacuum analyze",
    "checkpoint",
  ]) {
    await database.query(literal(statement));
  }
}
