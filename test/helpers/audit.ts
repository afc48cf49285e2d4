import { Redis } from "ioredis";
import { Client } from "pg";
import { expect } from "vitest";

/** Where a shop is looked at. */
export interface AuditOptions {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  /** Default: the shop `default`. */
  readonly shopId?: string;
}

/** A commit as a caller was told of it. */
export interface Acknowledged {
  readonly requestId: string;
  readonly position: bigint;
  readonly commitId: string;
}

/**
 * Each query returns the rows that contradict a promise of the design, for the shop $1; its name says the promise.
 * Everything is computed from the events, which is a second way to the numbers that the product keeps.
 */
const contradictions: Readonly<Record<string, string>> = {
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
  "sold is what orders took": `
    select st.sku, st.sold_count, o.units from stock st left join (
      select l->>'sku' as sku, sum((l->>'quantity')::bigint) as units from orders, json_array_elements(lines) l
      where shop_id = $1 group by 1) o on o.sku = st.sku
    where st.shop_id = $1 and st.sold_count <> coalesce(o.units, 0)`,
  "held is what open holds keep": `
    select st.sku, st.held_count, h.units from stock st left join (
      select l->>'sku' as sku, sum((l->>'quantity')::bigint) as units from holds, json_array_elements(lines) l
      where shop_id = $1 and state = 1 group by 1) h on h.sku = st.sku
    where st.shop_id = $1 and st.held_count <> coalesce(h.units, 0)`,
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
  "users know how many orders they placed and what they paid": `
    select u.user_id, u.order_count, o.orders, u.lifetime_value_minor, o.paid from users u left join (
      select user_id, count(*) as orders, coalesce(sum(amount_minor) filter (where payment_method = 1), 0) as paid
      from orders where shop_id = $1 group by 1) o on o.user_id = u.user_id
    where u.shop_id = $1 and (u.order_count <> coalesce(o.orders, 0) or u.lifetime_value_minor <> coalesce(o.paid, 0))`,
  "the shop's counters count": `
    select * from shops s where shop_id = $1 and (
      product_count <> (select count(*) from products p where p.shop_id = $1)
      or user_count <> (select count(*) from users u where u.shop_id = $1)
      or open_hold_count <> (select count(*) from holds h where h.shop_id = $1 and state = 1)
      or open_order_count <> (select count(*) from orders o where o.shop_id = $1 and state = 1))`,
};

/**
 * Fails unless Postgres holds a whole and consistent history of the shop and Redis the state it leads to. Waits until
 * what Redis has committed is in Postgres.
 */
export async function auditShop(options: AuditOptions, acknowledged: readonly Acknowledged[] = []): Promise<void> {
  const shopId = options.shopId ?? "default";
  const postgres = new Client({ connectionString: options.databaseUrl });
  const redis = new Redis(options.redisUrl);
  try {
    await postgres.connect();
    await settled(postgres, redis, shopId);
    for (const [promise, query] of Object.entries(contradictions)) {
      const { rows } = await postgres.query(query, [shopId]);
      expect(rows, promise).toEqual([]);
    }
    await expectAcknowledged(postgres, shopId, acknowledged);
    expect(await readRedisState(redis, shopId), "Redis says what Postgres says").toEqual(
      await readPostgresState(postgres, shopId),
    );
  } finally {
    redis.disconnect();
    await postgres.end();
  }
}

async function settled(postgres: Client, redis: Redis, shopId: string): Promise<void> {
  await expect
    .poll(
      async () => {
        const [position, commitId] = await redis.hmget(`{${shopId}}:meta`, "position", "commit_id");
        const { rows } = await postgres.query("select head_position, head_commit_id from shops where shop_id = $1", [
          shopId,
        ]);
        return rows[0]?.head_position === position && rows[0]?.head_commit_id === commitId;
      },
      { timeout: 10_000, interval: 20, message: "what Redis committed is in Postgres" },
    )
    .toBe(true);
}

/** Every acknowledged commit is in Postgres: at its position, with its id, for its request. */
async function expectAcknowledged(postgres: Client, shopId: string, commits: readonly Acknowledged[]): Promise<void> {
  const { rows } = await postgres.query(
    `select a.* from unnest($2::text[], $3::bigint[], $4::uuid[]) as a(request_id, position, commit_id)
     left join commits c on c.shop_id = $1 and c.position = a.position and c.commit_id = a.commit_id
       and c.request_id = a.request_id where c.position is null`,
    [
      shopId,
      commits.map(({ requestId }) => requestId),
      commits.map(({ position }) => position),
      commits.map(({ commitId }) => commitId),
    ],
  );
  expect(rows, "what was acknowledged is there").toEqual([]);
}

/** The levels and wallets of a shop as one store has them. */
interface ShopState {
  readonly stock: Readonly<Record<string, string>>;
  readonly users: Readonly<Record<string, string>>;
  readonly openHolds: readonly string[];
}

async function readPostgresState(postgres: Client, shopId: string): Promise<ShopState> {
  const { rows: stock } = await postgres.query(
    `select s.*, p.price_minor from stock s join products p using (shop_id, sku) where shop_id = $1`,
    [shopId],
  );
  const { rows: users } = await postgres.query("select * from users where shop_id = $1", [shopId]);
  const { rows: holds } = await postgres.query("select hold_id from holds where shop_id = $1 and state = 1", [shopId]);
  return {
    stock: Object.fromEntries(
      stock.flatMap((row) => [
        [`${row.sku}:available`, row.available_count],
        [`${row.sku}:held`, row.held_count],
        [`${row.sku}:sold`, row.sold_count],
        [`${row.sku}:price`, row.price_minor],
      ]),
    ),
    users: Object.fromEntries(
      users.flatMap((row) => [
        [`${row.user_id}:balance`, row.balance_minor],
        [`${row.user_id}:credits`, row.credits],
        [`${row.user_id}:orders`, row.order_count],
        [`${row.user_id}:lifetime`, row.lifetime_value_minor],
      ]),
    ),
    openHolds: holds.map((row) => row.hold_id).sort(),
  };
}

async function readRedisState(redis: Redis, shopId: string): Promise<ShopState> {
  const pick = (hash: Record<string, string>, names: readonly string[]) =>
    Object.fromEntries(Object.entries(hash).filter(([field]) => names.includes(field.replace(/^.*:/, ""))));
  return {
    stock: pick(await redis.hgetall(`{${shopId}}:stock`), ["available", "held", "sold", "price"]),
    users: pick(await redis.hgetall(`{${shopId}}:users`), ["balance", "credits", "orders", "lifetime"]),
    openHolds: (await redis.zrange(`{${shopId}}:due`, "0", "-1")).sort(),
  };
}
