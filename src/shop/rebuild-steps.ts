import { type Kysely, type RawBuilder, sql } from "kysely";
import type { ShopHead } from "../postgres/flush-statement.ts";
import { orderStates } from "../postgres/orders.ts";
import type { Database, StoredLine } from "../postgres/schema.ts";
import { entryFields } from "./log-entry.ts";
import { trackedUnits } from "./units.ts";

/**
 * What Redis keeps of each kind of thing, made from Postgres' rows. Every function takes ids: absent, all there is is
 * loaded, in pages by key, so that neither side ever holds a table.
 */

/** A step of a rebuild: what `lua/load.lua` is given, and how many things it brings. */
export interface Step {
  /** Its name in `lua/load.lua`. */
  readonly step: string;
  readonly values: readonly (string | number)[];
  readonly count: number;
}

/** Rows read from Postgres at a time. */
const pageRows = 250;

/** Values a script gets at most: Lua's stack takes 8,000. */
const stepValues = 6000;

/** Which rows: those after a key, in its order, or those with some ids. */
interface Range {
  readonly after: string;
  readonly ids: readonly string[] | undefined;
}

/** The end of a query's `where`. */
function inRange(key: string, { after, ids }: Range): RawBuilder<unknown> {
  const column = sql.ref(key);
  return ids === undefined
    ? sql`${column} > ${after} order by ${column} limit ${pageRows}`
    : sql`${column} = any(${ids}) order by ${column}`;
}

/** Rows page by page; `keyOf` gives the key of a page's last row, by which the next one is found. */
async function* pages<Row>(
  ids: readonly string[] | undefined,
  read: (range: Range) => Promise<Row[]>,
  keyOf: (row: Row) => string | null,
): AsyncGenerator<Row[]> {
  if (ids !== undefined) {
    for (let from = 0; from < ids.length; from += pageRows) {
      yield await read({ after: "", ids: ids.slice(from, from + pageRows) });
    }
    return;
  }
  let after = "";
  for (;;) {
    const rows = await read({ after, ids });
    const last = rows.at(-1);
    const key = last === undefined ? null : keyOf(last);
    if (key === null) {
      return;
    }
    yield rows;
    after = key;
  }
}

/** Values of one kind in as many steps as they need; each thing is counted once. */
function* steps(step: string, values: readonly (string | number)[], count = 0): Generator<Step> {
  for (let from = 0; from < values.length; from += stepValues) {
    yield { step, values: values.slice(from, from + stepValues), count: from === 0 ? count : 0 };
  }
}

const ms = (column: string): RawBuilder<number> => sql<number>`(extract(epoch from ${sql.ref(column)}) * 1000)::bigint`;

interface ProductLevels {
  sku: string;
  priceMinor: number;
  maxPerUser: number;
  tracked: boolean;
  start: number | null;
  end: number | null;
  withdrawn: boolean;
  created: number;
  available: number;
  held: number;
  sold: number;
  orderCount: number;
  unitCount: number;
  revenueMinor: number;
}

export async function* stockSteps(
  trx: Kysely<Database>,
  shopId: string,
  ids?: readonly string[],
): AsyncGenerator<Step> {
  const read = async (range: Range): Promise<ProductLevels[]> => {
    const { rows } = await sql<ProductLevels>`
      select p.sku, price_minor as "priceMinor", max_per_user as "maxPerUser", limit_tracked as tracked,
        ${ms("sale_start_time")} as start, ${ms("sale_end_time")} as end, withdrawn, ${ms("create_time")} as created,
        available_count as available, held_count as held, sold_count as sold, order_count as "orderCount",
        unit_count as "unitCount", revenue_minor as "revenueMinor"
      from (select * from products where shop_id = ${shopId} and ${inRange("sku", range)}) as p
        join stock s on s.shop_id = p.shop_id and s.sku = p.sku
      order by p.sku`.execute(trx);
    return rows;
  };
  for await (const rows of pages(ids, read, (row) => row.sku)) {
    yield* steps("stock", rows.flatMap(stockValues), rows.length);
  }
}

function stockValues(row: ProductLevels): (string | number)[] {
  const { sku, start, end } = row;
  const plain = !row.tracked && (start ?? 0) === 0 && (end ?? 0) === 0 && !row.withdrawn;
  const terms = `${row.maxPerUser} ${row.tracked ? 1 : 0} ${start ?? 0} ${end ?? 0} ${row.withdrawn ? 1 : 0}`;
  const values = [`${sku}:available`, row.available, `${sku}:held`, row.held, `${sku}:sold`, row.sold];
  values.push(`${sku}:price`, row.priceMinor, `${sku}:terms`, plain ? "" : terms, `${sku}:created`, row.created);
  if (row.orderCount > 0) {
    values.push(`${sku}:sales`, `${row.orderCount} ${row.unitCount} ${row.revenueMinor}`);
  }
  return values;
}

/** What holds and orders that wait for their payment have in common. */
interface Waiting {
  id: string;
  userId: string;
  lines: StoredLine[];
  /** Null for an order that only the payment worker ends. */
  expire: number | null;
  createPosition: number;
  created: number;
}

export async function* holdSteps(trx: Kysely<Database>, shopId: string, ids?: readonly string[]): AsyncGenerator<Step> {
  const read = async (range: Range): Promise<Waiting[]> => {
    const { rows } = await sql<Waiting>`
      select hold_id as id, user_id as "userId", lines, ${ms("expire_time")} as expire, create_position as "createPosition",
        ${ms("create_time")} as created
      from holds where shop_id = ${shopId} and state = 1 and ${inRange("hold_id", range)}`.execute(trx);
    return rows;
  };
  for await (const rows of pages(ids, read, (row) => row.id)) {
    yield* steps("holds", rows.flatMap(waitingValues), rows.length);
    yield* dueSteps(rows, "");
  }
}

/** Orders that wait for their payment; the others are read from Postgres when a call needs one. */
export async function* orderSteps(
  trx: Kysely<Database>,
  shopId: string,
  ids?: readonly string[],
): AsyncGenerator<Step> {
  type Row = Waiting & { method: number; holdId: string };
  const read = async (range: Range): Promise<Row[]> => {
    const { rows } = await sql<Row>`
      select order_id as id, user_id as "userId", lines, ${ms("expire_time")} as expire, create_position as "createPosition",
        ${ms("create_time")} as created, payment_method as method, hold_id as "holdId"
      from orders where shop_id = ${shopId} and state = 1 and ${inRange("order_id", range)}`.execute(trx);
    return rows;
  };
  for await (const rows of pages(ids, read, (row) => row.id)) {
    const values = rows.flatMap((row) => [...waitingValues(row), `${row.id}:terms`, `${row.method} ${row.holdId}`]);
    yield* steps("orders", values, rows.length);
    yield* dueSteps(rows, "order/");
  }
}

function waitingValues({ id, userId, lines, expire, createPosition, created }: Waiting): (string | number)[] {
  const packed = lines.map((line) => `${line.sku} ${line.quantity} ${line.price_minor}`).join(",");
  const values = [`${id}:user`, userId, `${id}:expire`, expire ?? "", `${id}:created`, `${createPosition} ${created}`];
  values.push(`${id}:lines`, packed);
  return values;
}

/** What keeps stock until it is due. */
function* dueSteps(rows: readonly Waiting[], prefix: string): Generator<Step> {
  const due: (string | number)[] = [];
  const skus: (string | number)[] = [];
  for (const { id, lines, expire } of rows) {
    if (expire !== null) {
      due.push(expire, prefix + id);
      for (const sku of new Set(lines.map((line) => line.sku))) {
        skus.push(0, `${sku}:${String(expire).padStart(16, "0")}:${prefix}${id}`);
      }
    }
  }
  yield* steps("due", due);
  yield* steps("due_skus", skus);
}

export async function* tierSteps(trx: Kysely<Database>, shopId: string, ids?: readonly string[]): AsyncGenerator<Step> {
  type Row = { tier: string; terms: string };
  const read = async (range: Range): Promise<Row[]> => {
    const { rows } = await sql<Row>`
      select tier, concat_ws(' ', price_credits, max_projects, max_storage_mb, max_api_calls) as terms
      from tiers where shop_id = ${shopId} and ${inRange("tier", range)}`.execute(trx);
    return rows;
  };
  for await (const rows of pages(ids, read, (row) => row.tier)) {
    yield* steps(
      "tiers",
      rows.flatMap(({ tier, terms }) => [`${tier}:terms`, terms]),
    );
  }
}

/** Between values that Postgres joins into one text; no value of ours may hold a control character. */
const separator = "\u001f";

/** A page of values that Postgres joined: a column with a text is read ten times as fast as its values in columns. */
interface Joined {
  last: string | null;
  count: number;
}

/** A step with values that Postgres joined, which the script takes apart. */
function* joinedStep(step: string, joined: string | null, count = 0): Generator<Step> {
  if (joined !== null) {
    yield { step, values: [joined], count };
  }
}

/** Users with their e-mails and referral codes: the most there is in a large shop. */
export async function* userSteps(trx: Kysely<Database>, shopId: string, ids?: readonly string[]): AsyncGenerator<Step> {
  type Page = Joined & { users: string | null; emails: string | null; codes: string | null };
  const read = async (range: Range): Promise<Page[]> => {
    const { rows } = await sql<Page>`
      select max(user_id) as last, count(*) as count, string_agg(fields, ${separator}) as users,
        string_agg(email_key || ${separator} || user_id, ${separator}) filter (where email_key <> '') as emails,
        string_agg(referral_code || ${separator} || user_id, ${separator}) filter (where referral_code <> '') as codes
      from (select user_id, email_key, referral_code, concat_ws(${separator}, user_id || ':credits', credits, user_id || ':profile',
          create_position || ' ' || ${ms("create_time")} || ' ' || referral_code || ' ' || referred_by || ' ' || referral_count,
          case when balance_minor <> 0 then user_id || ':balance' end, nullif(balance_minor, 0),
          case when order_count > 0 then user_id || ':purchases' end, case when order_count > 0 then order_count || ' ' || lifetime_value_minor end,
          case when email_key <> '' then user_id || ':email' end, nullif(email_key, '')) as fields
        from users where shop_id = ${shopId} and ${inRange("user_id", range)}) as page`.execute(trx);
    return rows;
  };
  for await (const [page] of pages(ids, read, (row) => row.last)) {
    const { users = null, emails = null, codes = null, count = 0 } = page ?? {};
    yield* joinedStep("users", users, count);
    yield* joinedStep("emails", emails);
    yield* joinedStep("codes", codes);
  }
}

export async function* subscriptionSteps(
  trx: Kysely<Database>,
  shopId: string,
  ids?: readonly string[],
): AsyncGenerator<Step> {
  type Row = { userId: string; sub: string; end: number; renewed: boolean };
  const read = async (range: Range): Promise<Row[]> => {
    const { rows } = await sql<Row>`
      select user_id as "userId", ${ms("period_end_time")} as end, price_credits > 0 or scheduled_tier <> '' as renewed,
        concat_ws(' ', tier, price_credits, ${ms("period_start_time")}, ${ms("period_end_time")}, scheduled_tier, position,
          ${ms("update_time")}) as sub
      from subscriptions where shop_id = ${shopId} and ${inRange("user_id", range)}`.execute(trx);
    return rows;
  };
  for await (const rows of pages(ids, read, (row) => row.userId)) {
    yield* steps(
      "users",
      rows.flatMap(({ userId, sub }) => [`${userId}:sub`, sub]),
    );
    const renewed = rows.filter((row) => row.renewed);
    yield* steps(
      "renewals",
      renewed.flatMap(({ userId, end }) => [end, userId]),
    );
  }
}

export async function* statsSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  const { rows: tiers } = await sql<{ tier: string; count: number }>`
    select tier, count(*) as count from users where shop_id = ${shopId} group by 1`.execute(trx);
  const counts = await totals(trx, shopId);
  counts.push(...tiers.map(({ tier, count }): [string, number] => [`tier:${tier}`, count]));
  yield* steps("stats", counts.filter(([, count]) => count !== 0).flat());
}

/** The same without the users of each tier, and with zeros in the place of what was. */
export async function* totalSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  yield* steps("stats", (await totals(trx, shopId)).flat());
}

/** Counts some users of whom no tier has anyone any more. */
export async function* tierCountSteps(
  trx: Kysely<Database>,
  shopId: string,
  ids: readonly string[],
): AsyncGenerator<Step> {
  const { rows } = await sql<{ tier: string; count: number }>`
    select tier, count(*) as count from users where shop_id = ${shopId} and user_id = any(${ids}) group by 1`.execute(
    trx,
  );
  yield* steps(
    "count",
    rows.flatMap(({ tier, count }) => [`tier:${tier}`, count]),
  );
}

/** What a shop's stats hold besides the users of each tier. */
export async function totals(trx: Kysely<Database>, shopId: string): Promise<[string, number][]> {
  const shop = await trx.selectFrom("shops").selectAll().where("shop_id", "=", shopId).executeTakeFirstOrThrow();
  const { rows } = await sql<{ pending: number }>`
    select coalesce(sum(amount_minor), 0)::bigint as pending from orders where shop_id = ${shopId} and state = 1`.execute(
    trx,
  );
  return [
    ["users", shop.user_count],
    ["orders", shop.order_count],
    ["items", shop.item_count],
    ["revenue", shop.revenue_minor],
    ["pending", rows[0]?.pending ?? 0],
    ["refunded", shop.refunded_minor],
    ["upgrade_credits", shop.upgrade_credits],
    ["downgrade_credits", shop.downgrade_credits],
  ];
}

/** What users had of products with a limit. */
export async function* limitSteps(
  trx: Kysely<Database>,
  shopId: string,
  userIds?: readonly string[],
): AsyncGenerator<Step> {
  for await (const rows of trackedUnits(trx, shopId, userIds)) {
    yield* steps(
      "limits",
      rows.flatMap((row) => [`${row.userId}:${row.sku}`, row.unitCount]),
    );
  }
}

/** The request ids that commits after a position used. */
export async function* requestSteps(trx: Kysely<Database>, shopId: string, horizon: number): AsyncGenerator<Step> {
  type Page = { last: number | null; count: number; requests: string | null };
  const read = async (after: number): Promise<Page | undefined> => {
    const { rows } = await sql<Page>`
      select max(position) as last, count(*) as count,
        string_agg('request:' || request_id || ${separator} || position, ${separator}) filter (where request_id <> '') as requests
      from (select position, request_id from commits
        where shop_id = ${shopId} and position > ${after} order by position limit 2000) as page`.execute(trx);
    return rows[0];
  };
  for (let page = await read(horizon); page !== undefined && page.last !== null; page = await read(page.last)) {
    yield* joinedStep("recent", page.requests, page.count);
  }
}

/** The ids of orders that were created after a position; by their states, as the index has them. */
export async function* recentOrderSteps(trx: Kysely<Database>, shopId: string, horizon: number): AsyncGenerator<Step> {
  type Page = { last: number | null; count: number; orders: string | null };
  const read = async (state: number, after: number): Promise<Page | undefined> => {
    const { rows } = await sql<Page>`
      select max(create_position) as last, count(*) as count,
        string_agg('order:' || order_id || ${separator} || create_position, ${separator}) as orders
      from (select create_position, order_id from orders where shop_id = ${shopId} and state = ${state} and create_position > ${after}
        order by create_position limit 2000) as page`.execute(trx);
    return rows[0];
  };
  for (const state of orderStates) {
    for (
      let page = await read(state, horizon);
      page !== undefined && page.last !== null;
      page = await read(state, page.last)
    ) {
      yield* joinedStep("recent", page.orders);
    }
  }
}

/** The records of some orders, with their last changes. */
export async function* knownOrderSteps(
  trx: Kysely<Database>,
  shopId: string,
  ids: readonly string[],
): AsyncGenerator<Step> {
  type Row = { id: string; createPosition: number; position: number };
  const read = async (range: Range): Promise<Row[]> => {
    const { rows } = await sql<Row>`
      select order_id as id, create_position as "createPosition", position
      from orders where shop_id = ${shopId} and ${inRange("order_id", range)}`.execute(trx);
    return rows;
  };
  for await (const rows of pages(ids, read, (row) => row.id)) {
    const values = rows.flatMap(({ id, createPosition, position }) => [
      `order:${id}`,
      position === createPosition ? createPosition : `${createPosition} ${position}`,
    ]);
    yield* steps("recent", values, rows.length);
  }
}

/** Holds that ended after a position. */
export async function* endedHoldSteps(
  trx: Kysely<Database>,
  shopId: string,
  horizon: number,
  ids?: readonly string[],
): AsyncGenerator<Step> {
  type Page = Joined & { holds: string | null };
  const read = async (range: Range): Promise<Page[]> => {
    const { rows } = await sql<Page>`
      select max(hold_id) as last, count(*) as count, string_agg(concat_ws(${separator}, 'hold:' || hold_id,
        create_position || ' ' || position || ' ' || (array['', 'COMMITTED', 'RELEASED', 'EXPIRED'])[state]), ${separator}) as holds
      from (select hold_id, create_position, position, state from holds
        where shop_id = ${shopId} and position > ${horizon} and state <> 1 and ${inRange("hold_id", range)}) as page`.execute(
      trx,
    );
    return rows;
  };
  for await (const [page] of pages(ids, read, (row) => row.last)) {
    yield* joinedStep("recent", page?.holds ?? null);
  }
}

interface LogRow {
  position: number;
  commitId: string;
  epoch: number;
  commitTime: Date;
  call: string;
  events: string;
  email: string | null;
  emailKey: string | null;
  displayName: string | null;
}

/** The log from a position on. */
export async function* logSteps(trx: Kysely<Database>, shopId: string, from: number): AsyncGenerator<Step> {
  let next = from;
  for (;;) {
    // A user's private part is read back from the user's row, so that a Postgres that loses its tail can be healed with it.
    const { rows } = await sql<LogRow>`
      select c.position, c.commit_id as "commitId", c.epoch, c.commit_time as "commitTime", c.call::text as call,
        c.events::text as events, u.email, u.email_key as "emailKey", u.display_name as "displayName"
      from commits c left join users u on u.shop_id = c.shop_id and u.user_id = coalesce(c.events->0->'user_created', c.events->0->'user_updated')->'user'->>'user_id'
      where c.shop_id = ${shopId} and c.position >= ${next} order by c.position limit 200`.execute(trx);
    const last = rows.at(-1);
    if (last === undefined) {
      return;
    }
    yield { step: "log", values: rows.flatMap(logValues), count: rows.length };
    next = last.position + 1;
  }
}

function logValues(row: LogRow): (string | number)[] {
  const secret = { email: row.email, email_key: row.emailKey, display_name: row.displayName };
  const fields = entryFields({
    position: row.position,
    commitId: row.commitId,
    epoch: row.epoch,
    timeMs: row.commitTime.getTime(),
    call: row.call,
    events: row.events,
    private: row.email === null ? "" : JSON.stringify(secret),
  });
  return [row.position, fields.length, ...fields];
}

/** The last step of a reload: where the shop stands. */
export async function catchUpStep(trx: Kysely<Database>, shopId: string, head: ShopHead): Promise<Step> {
  return {
    step: "catch_up",
    values: [head.position, head.commitId, await timeOf(trx, shopId, head.position)],
    count: 0,
  };
}

/** The last step of a rebuild: where the shop stands, and up to when ids were let go. */
export async function headStep(trx: Kysely<Database>, shopId: string, head: ShopHead, horizon: number): Promise<Step> {
  const [time, forgotten] = [await timeOf(trx, shopId, head.position), await timeOf(trx, shopId, horizon)];
  return { step: "head", values: [head.position, head.commitId, time, forgotten], count: 0 };
}

/** The time of a commit in milliseconds; 0 when there is none at this position. */
async function timeOf(trx: Kysely<Database>, shopId: string, position: number): Promise<number> {
  const row = await trx
    .selectFrom("commits")
    .select("commit_time")
    .where("shop_id", "=", shopId)
    .where("position", "=", position)
    .executeTakeFirst();
  return row?.commit_time.getTime() ?? 0;
}
