import type { Redis } from "ioredis";
import type { Client } from "pg";

/**
 * Each query returns the rows that contradict a promise of the design, for the shop $1; its name says the promise.
 * Everything is computed from the events, which is a second way to the numbers that the product keeps.
 */
export const contradictions: Readonly<Record<string, string>> = {
  "positions are 1, 2, 3 ... up to the head": `
    select s.head_position, c.count, c.least, c.most from shops s,
      (select count(*), min(position) as least, max(position) as most from commits where shop_id = $1) c
    where s.shop_id = $1 and (c.least <> 1 or c.most <> c.count or c.most <> s.head_position)`,
  "the head is the newest commit": `
    select s.head_commit_id, c.commit_id from shops s
    join commits c on c.shop_id = s.shop_id and c.position = s.head_position
    where s.shop_id = $1 and c.commit_id <> s.head_commit_id`,
  "a commit id is used once": `
    select commit_id, count(*) from commits where shop_id = $1 group by 1 having count(*) > 1`,
  "a request id takes effect once": `
    select request_id, array_agg(position) from commits where shop_id = $1 and request_id <> ''
    group by 1 having count(*) > 1`,
  "times and epochs never go back": `
    select position from (select position, commit_time, epoch, lag(commit_time) over w as earlier, lag(epoch) over w as before
      from commits where shop_id = $1 window w as (order by position)) c
    where commit_time < earlier or epoch < before`,
  "available + held + sold is the sum of all adjustments, and none is negative": `
    select st.*, coalesce(a.total, 0) as adjusted from stock st left join (
      select e->'stock_adjusted'->'stock'->>'sku' as sku, sum((e->'stock_adjusted'->>'delta_count')::bigint) as total
      from commits c, json_array_elements(c.events) e where c.shop_id = $1 group by 1) a on a.sku = st.sku
    where st.shop_id = $1 and (st.available_count + st.held_count + st.sold_count <> coalesce(a.total, 0)
      or least(st.available_count, st.held_count, st.sold_count) < 0)`,
  "sold is what paid orders took, less what refunds gave back": `
    select st.sku, st.sold_count, o.units from stock st left join (
      select sku, sum(units) as units from (
        select l->>'sku' as sku, (l->>'quantity')::bigint as units from orders, json_array_elements(lines) l
        where shop_id = $1 and state in (2, 3, 5)
        union all
        select l->>'sku', -(l->>'quantity')::bigint from orders, json_array_elements(restocked) l
        where shop_id = $1 and restocked is not null) u group by 1) o on o.sku = st.sku
    where st.shop_id = $1 and st.sold_count <> coalesce(o.units, 0)`,
  "held is what open holds and pending orders keep": `
    select st.sku, st.held_count, h.units from stock st left join (
      select l->>'sku' as sku, sum((l->>'quantity')::bigint) as units from (
        select lines from holds where shop_id = $1 and state = 1
        union all select lines from orders where shop_id = $1 and state = 1) k, json_array_elements(lines) l group by 1) h on h.sku = st.sku
    where st.shop_id = $1 and st.held_count <> coalesce(h.units, 0)`,
  "no order gave back more than it was paid, or more units than it sold": `
    select o.order_id from orders o left join lateral (
      select l->>'sku' as sku, sum((l->>'quantity')::bigint) as units from json_array_elements(o.restocked) l group by 1) r on true
    where o.shop_id = $1 and (o.refunded_minor > o.amount_minor or (o.state = 5) <> (o.refunded_minor = o.amount_minor and o.refund_count > 0)
      or r.units > (select sum((l->>'quantity')::bigint) from json_array_elements(o.lines) l where l->>'sku' = r.sku))`,
  "an order has one event": `
    select o.order_id, e.order_id, e.count from (select order_id from orders where shop_id = $1) o full join (
      select e->'order_placed'->'order'->>'order_id' as order_id, count(*) from commits c, json_array_elements(c.events) e
      where c.shop_id = $1 and e->'order_placed' is not null group by 1) e on e.order_id = o.order_id
    where o.order_id is null or e.order_id is null or e.count <> 1`,
  "the ledger entries of a commit sum to zero per kind": `
    select position, kind, sum(delta) from ledger_entries where shop_id = $1 group by 1, 2 having sum(delta) <> 0`,
  "a wallet is the sum of its ledger entries": `
    select u.user_id, u.balance_minor, l.money, u.credits, l.credits from users u left join (
      select account, sum(delta) filter (where kind = 1) as money, sum(delta) filter (where kind = 2) as credits
      from ledger_entries where shop_id = $1 group by 1) l on l.account = 'user:' || u.user_id
    where u.shop_id = $1 and (u.balance_minor <> coalesce(l.money, 0) or u.credits <> coalesce(l.credits, 0)
      or u.balance_minor < 0)`,
  "a ledger entry knows the balance after it": `
    select * from (select account, kind, position, index, balance_after,
        sum(delta) over (partition by account, kind order by position, index) as total
      from ledger_entries where shop_id = $1 and account like 'user:%') l where balance_after is distinct from total`,
  "users know how many orders they placed and what they paid, less refunds": `
    select u.user_id, u.order_count, o.orders, u.lifetime_value_minor, o.paid from users u left join (
      select user_id, count(*) as orders,
        coalesce(sum(amount_minor - refunded_minor) filter (where payment_method <> 3 and state in (2, 3, 5)), 0) as paid
      from orders where shop_id = $1 group by 1) o on o.user_id = u.user_id
    where u.shop_id = $1 and (u.order_count <> coalesce(o.orders, 0) or u.lifetime_value_minor <> coalesce(o.paid, 0))`,
  "users know whom they brought": `
    select u.user_id, u.referral_count, r.brought from users u left join (
      select referred_by, count(*) as brought from users where shop_id = $1 group by 1) r on r.referred_by = u.user_id
    where u.shop_id = $1 and u.referral_count <> coalesce(r.brought, 0)`,
  "a user is on the tier of the subscription": `
    select u.user_id, u.tier, s.tier from users u left join subscriptions s using (shop_id, user_id)
    where u.shop_id = $1 and u.tier <> coalesce(s.tier, 'free')`,
  "revenue is what the ledger says": `
    select * from (select coalesce(sum(delta) filter (where cause = 'ORDER'), 0) as paid,
        coalesce(-sum(delta) filter (where cause = 'REFUND'), 0) as refunded
      from ledger_entries where shop_id = $1 and account = 'revenue') l, shops s
    where s.shop_id = $1 and (s.revenue_minor <> l.paid or s.refunded_minor <> l.refunded)`,
  "stats count paid orders": `
    select * from (select count(*) as orders, coalesce(sum(item_count), 0) as items from orders where shop_id = $1 and state in (2, 3, 5)) o,
      shops s where s.shop_id = $1 and (s.order_count <> o.orders or s.item_count <> o.items)`,
  "sales of a product are those of paid orders": `
    select st.sku, st.order_count, st.unit_count, st.revenue_minor, o.* from stock st left join (
      select l->>'sku' as sku, count(distinct order_id) as orders, sum((l->>'quantity')::bigint) as units,
        coalesce(sum((l->>'quantity')::bigint * (l->>'price_minor')::bigint) filter (where payment_method <> 3), 0) as revenue
      from orders, json_array_elements(lines) l where shop_id = $1 and state in (2, 3, 5) group by 1) o on o.sku = st.sku
    where st.shop_id = $1 and (st.order_count, st.unit_count, st.revenue_minor)
      <> (coalesce(o.orders, 0), coalesce(o.units, 0), coalesce(o.revenue, 0))`,
  "the shop's counters count": `
    select * from shops s where shop_id = $1 and (
      product_count <> (select count(*) from products p where p.shop_id = $1)
      or user_count <> (select count(*) from users u where u.shop_id = $1)
      or open_hold_count <> (select count(*) from holds h where h.shop_id = $1 and state = 1)
      or open_order_count <> (select count(*) from orders o where o.shop_id = $1 and state = 1))`,
};

/** The levels, wallets, open things and stats of a shop as one store has them. */
export interface ShopState {
  readonly stock: Readonly<Record<string, string>>;
  readonly users: Readonly<Record<string, string>>;
  readonly codes: Readonly<Record<string, string>>;
  readonly stats: Readonly<Record<string, string>>;
  /** Holds and pending orders that have a time to end. */
  readonly due: readonly string[];
  readonly pendingOrders: readonly string[];
  readonly renewals: readonly string[];
}

/** Reads {@link ShopState} from PostgreSQL. */
export async function readPostgresState(postgres: Client, shopId: string): Promise<ShopState> {
  const { rows: stock } = await postgres.query(
    `select s.*, p.price_minor from stock s join products p using (shop_id, sku) where shop_id = $1`,
    [shopId],
  );
  const { rows: users } = await postgres.query("select * from users where shop_id = $1", [shopId]);
  const { rows: holds } = await postgres.query("select hold_id from holds where shop_id = $1 and state = 1", [shopId]);
  const { rows: orders } = await postgres.query("select * from orders where shop_id = $1 and state = 1", [shopId]);
  const { rows: renewals } = await postgres.query(
    "select user_id from subscriptions where shop_id = $1 and (price_credits > 0 or scheduled_tier <> '')",
    [shopId],
  );
  const { rows: tiers } = await postgres.query("select tier, count(*) from users where shop_id = $1 group by 1", [
    shopId,
  ]);
  const { rows: shops } = await postgres.query("select * from shops where shop_id = $1", [shopId]);
  const pending = orders.filter((row) => row.expire_time !== null).map((row) => `order/${row.order_id}`);
  return {
    stock: Object.fromEntries(
      stock.flatMap((row) => [
        [`${row.sku}:available`, row.available_count],
        [`${row.sku}:held`, row.held_count],
        [`${row.sku}:sold`, row.sold_count],
        [`${row.sku}:price`, row.price_minor],
        ...(row.order_count === "0"
          ? []
          : [[`${row.sku}:sales`, `${row.order_count} ${row.unit_count} ${row.revenue_minor}`]]),
      ]),
    ),
    users: Object.fromEntries(
      users.flatMap((row) => [
        ...(row.balance_minor === "0" ? [] : [[`${row.user_id}:balance`, row.balance_minor]]),
        [`${row.user_id}:credits`, row.credits],
        [
          `${row.user_id}:profile`,
          `${row.create_position} ${row.create_time.getTime()} ${row.referral_code} ${row.referred_by} ${row.referral_count}`,
        ],
        ...(row.order_count === "0"
          ? []
          : [[`${row.user_id}:purchases`, `${row.order_count} ${row.lifetime_value_minor}`]]),
        ...(row.email_key === "" ? [] : [[`${row.user_id}:email`, row.email_key]]),
      ]),
    ),
    codes: Object.fromEntries(
      users.filter((row) => row.referral_code !== "").map((row) => [row.referral_code, row.user_id]),
    ),
    stats: withoutZeros({
      users: shops[0]?.user_count,
      orders: shops[0]?.order_count,
      items: shops[0]?.item_count,
      revenue: shops[0]?.revenue_minor,
      pending: String(orders.reduce((sum, row) => sum + BigInt(row.amount_minor), 0n)),
      refunded: shops[0]?.refunded_minor,
      upgrade_credits: shops[0]?.upgrade_credits,
      downgrade_credits: shops[0]?.downgrade_credits,
      ...Object.fromEntries(tiers.map((row) => [`tier:${row.tier}`, row.count])),
    }),
    due: [...holds.map((row) => row.hold_id), ...pending].sort(),
    pendingOrders: orders.map((row) => row.order_id).sort(),
    renewals: renewals.map((row) => row.user_id).sort(),
  };
}

function withoutZeros(counts: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== "0"));
}

/** A balance of 0 may be in Redis or not. */
function withoutZeroBalances(users: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(users).filter(([field, value]) => value !== "0" || !field.endsWith(":balance")),
  );
}

/** Reads {@link ShopState} from Redis. */
export async function readRedisState(redis: Redis, shopId: string): Promise<ShopState> {
  const pick = (hash: Record<string, string>, names: readonly string[]) =>
    Object.fromEntries(Object.entries(hash).filter(([field]) => names.includes(field.replace(/^.*:/, ""))));
  const orders = await redis.hgetall(`{${shopId}}:orders`);
  return {
    stock: pick(await redis.hgetall(`{${shopId}}:stock`), ["available", "held", "sold", "price", "sales"]),
    users: withoutZeroBalances(
      pick(await redis.hgetall(`{${shopId}}:users`), ["balance", "credits", "purchases", "profile", "email"]),
    ),
    codes: await redis.hgetall(`{${shopId}}:codes`),
    stats: withoutZeros(await redis.hgetall(`{${shopId}}:stats`)),
    due: (await redis.zrange(`{${shopId}}:due`, "0", "-1")).sort(),
    pendingOrders: Object.keys(orders)
      .filter((field) => field.endsWith(":created"))
      .map((field) => field.replace(/:created$/, ""))
      .sort(),
    renewals: (await redis.zrange(`{${shopId}}:renewals`, "0", "-1")).sort(),
  };
}
