import { type Kysely, sql } from "kysely";
import type { ShopHead } from "../postgres/flush-statement.ts";
import type { Database, StoredLine } from "../postgres/schema.ts";
import { findShop } from "../postgres/shops.ts";
import { entryFields } from "./log-entry.ts";

/** Runs one numbered step of `lua/load.lua`; throws when another rebuild took over. */
export type Load = (step: string, values: readonly (string | number)[]) => Promise<void>;

/** A step of a rebuild: its name in `lua/load.lua`, and its values. */
export type Step = readonly [step: string, values: readonly (string | number)[]];

/** What decides how much a rebuild brings along. */
export interface RebuildOptions {
  readonly memoryCount: number;
  readonly marginCommits: number;
  /** Whether the log was cleared and its newest entries have to be written. */
  readonly writeLog: boolean;
}

/** Rows read from Postgres at a time; with it, a script gets at most 7,000 values (Lua's stack takes 8,000). */
const pageRows = 1000;

/**
 * Everything Redis needs of a shop, read from Postgres in the transaction that holds the shop's row lock, in steps that
 * each fit one short script. The last step is `head`.
 */
export async function* rebuildSteps(
  trx: Kysely<Database>,
  shopId: string,
  head: ShopHead,
  options: RebuildOptions,
): AsyncGenerator<Step> {
  yield* stockSteps(trx, shopId);
  yield* holdSteps(trx, shopId);
  yield* orderSteps(trx, shopId);
  yield* tierSteps(trx, shopId);
  yield* userSteps(trx, shopId);
  yield* subscriptionSteps(trx, shopId);
  yield* statsSteps(trx, shopId);
  yield* limitSteps(trx, shopId);
  const horizon = Math.max(0, head.position - options.memoryCount);
  yield* recentSteps(trx, shopId, horizon);
  if (options.writeLog) {
    yield* logSteps(trx, shopId, Math.max(1, head.position - options.marginCommits));
  }
  yield [
    "head",
    [head.position, head.commitId, await timeOf(trx, shopId, head.position), await timeOf(trx, shopId, horizon)],
  ];
}

/** How many things {@link rebuildSteps} brings, as far as counters tell. */
export async function countRebuilt(
  trx: Kysely<Database>,
  shopId: string,
  head: ShopHead,
  { memoryCount, marginCommits, writeLog }: RebuildOptions,
): Promise<number> {
  const shop = await findShop(trx, shopId);
  const { product_count = 0, user_count = 0, open_hold_count = 0, open_order_count = 0 } = shop ?? {};
  const rows = product_count + user_count + open_hold_count + open_order_count;
  return rows + Math.min(head.position, memoryCount) + (writeLog ? Math.min(head.position, marginCommits + 1) : 0);
}

/** The field that every thing of a step has once. */
const markers: Readonly<Record<string, RegExp>> = {
  stock: /:available$/,
  holds: /:created$/,
  orders: /:created$/,
  users: /:created$/,
  recent: /^request:/,
};

/** How many things a step brought. */
export function countLoaded(step: string, values: readonly (string | number)[]): number {
  if (step === "log") {
    // Per entry: its position, the count of its values, and these.
    let count = 0;
    for (let index = 0; index < values.length; index += 2 + Number(values[index + 1])) {
      count += 1;
    }
    return count;
  }
  return values.filter((field, index) => index % 2 === 0 && markers[step]?.test(String(field))).length;
}

async function* stockSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  for await (const rows of pages(async (after: string) =>
    trx
      .selectFrom("products")
      .innerJoin("stock", (join) =>
        join.onRef("stock.shop_id", "=", "products.shop_id").onRef("stock.sku", "=", "products.sku"),
      )
      .selectAll("products")
      .select(["available_count", "held_count", "sold_count", "order_count", "unit_count", "revenue_minor"])
      .where("products.shop_id", "=", shopId)
      .where("products.sku", ">", after)
      .orderBy("products.sku")
      .limit(500)
      .execute()
      .then((found) => ({ rows: found, last: found.at(-1)?.sku })),
  )) {
    const values: (string | number)[] = [];
    for (const row of rows) {
      const start = row.sale_start_time?.getTime() ?? 0;
      const end = row.sale_end_time?.getTime() ?? 0;
      const plain = !row.limit_tracked && start === 0 && end === 0 && !row.withdrawn;
      const terms = `${row.max_per_user} ${row.limit_tracked ? 1 : 0} ${start} ${end} ${row.withdrawn ? 1 : 0}`;
      values.push(`${row.sku}:available`, row.available_count, `${row.sku}:held`, row.held_count);
      values.push(`${row.sku}:sold`, row.sold_count, `${row.sku}:price`, row.price_minor);
      values.push(`${row.sku}:terms`, plain ? "" : terms, `${row.sku}:created`, row.create_time.getTime());
      if (row.order_count > 0) {
        values.push(`${row.sku}:sales`, `${row.order_count} ${row.unit_count} ${row.revenue_minor}`);
      }
    }
    yield ["stock", values];
  }
}

async function* holdSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  for await (const rows of pages(async (after: string) =>
    trx
      .selectFrom("holds")
      .selectAll()
      .where("shop_id", "=", shopId)
      .where("state", "=", 1)
      .where("hold_id", ">", after)
      .orderBy("hold_id")
      .limit(500)
      .execute()
      .then((found) => ({ rows: found, last: found.at(-1)?.hold_id })),
  )) {
    const holds: (string | number)[] = [];
    for (const row of rows) {
      holds.push(`${row.hold_id}:user`, row.user_id, `${row.hold_id}:expire`, row.expire_time.getTime());
      holds.push(...createdAndLines(row.hold_id, row));
    }
    yield ["holds", holds];
    yield* dueSteps(rows.map((row) => ({ id: row.hold_id, expireMs: row.expire_time.getTime(), lines: row.lines })));
  }
}

/** Orders that wait for their payment; the others are read from Postgres when a call needs one. */
async function* orderSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  for await (const rows of pages(async (after: string) =>
    trx
      .selectFrom("orders")
      .select([
        "order_id",
        "user_id",
        "lines",
        "payment_method",
        "hold_id",
        "expire_time",
        "create_time",
        "create_position",
      ])
      .where("shop_id", "=", shopId)
      .where("state", "=", 1)
      .where("order_id", ">", after)
      .orderBy("order_id")
      .limit(500)
      .execute()
      .then((found) => ({ rows: found, last: found.at(-1)?.order_id })),
  )) {
    const orders: (string | number)[] = [];
    const due: Due[] = [];
    for (const row of rows) {
      const expireMs = row.expire_time?.getTime();
      orders.push(`${row.order_id}:user`, row.user_id, `${row.order_id}:expire`, expireMs ?? "");
      orders.push(`${row.order_id}:terms`, `${row.payment_method} ${row.hold_id}`);
      orders.push(...createdAndLines(row.order_id, row));
      if (expireMs !== undefined) {
        due.push({ id: `order/${row.order_id}`, expireMs, lines: row.lines });
      }
    }
    yield ["orders", orders];
    yield* dueSteps(due);
  }
}

/** What holds and pending orders keep alike. */
function createdAndLines(
  id: string,
  row: { readonly create_position: number; readonly create_time: Date; readonly lines: readonly StoredLine[] },
): string[] {
  const packed = row.lines.map((line) => `${line.sku} ${line.quantity} ${line.price_minor}`).join(",");
  return [`${id}:created`, `${row.create_position} ${row.create_time.getTime()}`, `${id}:lines`, packed];
}

/** Something that keeps stock until it is due. */
interface Due {
  readonly id: string;
  readonly expireMs: number;
  readonly lines: readonly StoredLine[];
}

function* dueSteps(all: readonly Due[]): Generator<Step> {
  if (all.length === 0) {
    return;
  }
  yield ["due", all.flatMap(({ id, expireMs }) => [expireMs, id])];
  const skus = all.flatMap(({ id, expireMs, lines }) =>
    [...new Set(lines.map((line) => line.sku))].flatMap((sku) => [
      0,
      `${sku}:${String(expireMs).padStart(16, "0")}:${id}`,
    ]),
  );
  for (let from = 0; from < skus.length; from += 2 * pageRows) {
    yield ["due_skus", skus.slice(from, from + 2 * pageRows)];
  }
}

async function* tierSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  const rows = await trx.selectFrom("tiers").selectAll().where("shop_id", "=", shopId).orderBy("tier").execute();
  for (let from = 0; from < rows.length; from += pageRows) {
    yield [
      "tiers",
      rows
        .slice(from, from + pageRows)
        .flatMap((row) => [
          `${row.tier}:terms`,
          `${row.price_credits} ${row.max_projects} ${row.max_storage_mb} ${row.max_api_calls}`,
        ]),
    ];
  }
}

async function* userSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  for await (const rows of pages(async (after: string) =>
    trx
      .selectFrom("users")
      .select(["user_id", "email_key", "balance_minor", "credits", "order_count", "lifetime_value_minor"])
      .select(["referral_code", "referred_by", "referral_count", "create_position", "create_time"])
      .where("shop_id", "=", shopId)
      .where("user_id", ">", after)
      .orderBy("user_id")
      .limit(500)
      .execute()
      .then((found) => ({ rows: found, last: found.at(-1)?.user_id })),
  )) {
    const values: (string | number)[] = [];
    const emails: string[] = [];
    const codes: string[] = [];
    for (const row of rows) {
      values.push(`${row.user_id}:balance`, row.balance_minor, `${row.user_id}:credits`, row.credits);
      values.push(`${row.user_id}:orders`, row.order_count, `${row.user_id}:lifetime`, row.lifetime_value_minor);
      values.push(`${row.user_id}:created`, `${row.create_position} ${row.create_time.getTime()}`);
      values.push(`${row.user_id}:referral`, `${row.referral_code} ${row.referred_by} ${row.referral_count}`);
      if (row.email_key !== "") {
        values.push(`${row.user_id}:email`, row.email_key);
        emails.push(row.email_key, row.user_id);
      }
      if (row.referral_code !== "") {
        codes.push(row.referral_code, row.user_id);
      }
    }
    yield ["users", values];
    if (emails.length > 0) {
      yield ["emails", emails];
    }
    if (codes.length > 0) {
      yield ["codes", codes];
    }
  }
}

async function* subscriptionSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  for await (const rows of pages(async (after: string) =>
    trx
      .selectFrom("subscriptions")
      .selectAll()
      .where("shop_id", "=", shopId)
      .where("user_id", ">", after)
      .orderBy("user_id")
      .limit(pageRows)
      .execute()
      .then((found) => ({ rows: found, last: found.at(-1)?.user_id })),
  )) {
    const values: string[] = [];
    const renewals: (string | number)[] = [];
    for (const row of rows) {
      const period = `${row.period_start_time.getTime()} ${row.period_end_time.getTime()}`;
      const changed = `${row.position} ${row.update_time.getTime()}`;
      values.push(`${row.user_id}:sub`, `${row.tier} ${row.price_credits} ${period} ${row.scheduled_tier} ${changed}`);
      if (row.price_credits > 0 || row.scheduled_tier !== "") {
        renewals.push(row.period_end_time.getTime(), row.user_id);
      }
    }
    yield ["users", values];
    if (renewals.length > 0) {
      yield ["renewals", renewals];
    }
  }
}

async function* statsSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  const shop = await trx.selectFrom("shops").selectAll().where("shop_id", "=", shopId).executeTakeFirstOrThrow();
  const { pending } = await trx
    .selectFrom("orders")
    .select(({ fn }) => fn.coalesce(fn.sum<number>("amount_minor"), sql<number>`0`).as("pending"))
    .where("shop_id", "=", shopId)
    .where("state", "=", 1)
    .executeTakeFirstOrThrow();
  const tiers = await trx
    .selectFrom("users")
    .select(({ fn }) => ["tier", fn.countAll<number>().as("user_count")])
    .where("shop_id", "=", shopId)
    .groupBy("tier")
    .execute();
  const counts: [string, number][] = [
    ["users", shop.user_count],
    ["orders", shop.order_count],
    ["items", shop.item_count],
    ["revenue", shop.revenue_minor],
    ["pending", Number(pending)],
    ["refunded", shop.refunded_minor],
    ["upgrade_credits", shop.upgrade_credits],
    ["downgrade_credits", shop.downgrade_credits],
    ...tiers.map(({ tier, user_count }): [string, number] => [`tier:${tier}`, user_count]),
  ];
  const present = counts.filter(([, count]) => count !== 0);
  if (present.length > 0) {
    yield ["stats", present.flat()];
  }
}

async function* limitSteps(trx: Kysely<Database>, shopId: string): AsyncGenerator<Step> {
  const tracked = await trx
    .selectFrom("products")
    .select("sku")
    .where("shop_id", "=", shopId)
    .where("limit_tracked", "=", true)
    .orderBy("sku")
    .execute();
  for (let from = 0; from < tracked.length; from += pageRows) {
    const units = await countUnits(
      trx,
      shopId,
      tracked.slice(from, from + pageRows).map((row) => row.sku),
    );
    for (let first = 0; first < units.length; first += pageRows) {
      const page = units.slice(first, first + pageRows).filter((row) => row.unitCount > 0);
      if (page.length > 0) {
        yield ["limits", page.flatMap((row) => [`${row.userId}:${row.sku}`, row.unitCount])];
      }
    }
  }
}

/** What a user has had of a SKU over the whole history: held, pending and sold units, less what was cancelled or given back. */
export interface UserUnits {
  readonly userId: string;
  readonly sku: string;
  readonly unitCount: number;
}

/**
 * Counts the units of SKUs per user from holds and orders; a user whose holds and orders all ended without a sale has 0. An
 * order from a user's hold counts once: the hold is committed by then. This reads the shop's whole history, which only happens
 * when a limit is first set, and in a rebuild.
 */
export async function countUnits(db: Kysely<Database>, shopId: string, skus: readonly string[]): Promise<UserUnits[]> {
  const { rows } = await sql<UserUnits>`
    select user_id as "userId", line->>'sku' as sku, sum((line->>'quantity')::bigint * counted)::bigint as "unitCount"
    from (
      select user_id, lines, (state <> 4)::int as counted from orders where shop_id = ${shopId} and user_id <> ''
      union all
      select user_id, restocked, -1 from orders where shop_id = ${shopId} and user_id <> '' and restocked is not null
      union all
      select user_id, lines, (state = 1)::int as counted from holds where shop_id = ${shopId} and user_id <> ''
    ) as carts, json_array_elements(lines) as line
    where line->>'sku' = any(${skus})
    group by 1, 2`.execute(db);
  return rows;
}

async function* recentSteps(trx: Kysely<Database>, shopId: string, horizon: number): AsyncGenerator<Step> {
  let after = horizon;
  for (;;) {
    const { rows } = await sql<{ position: number; requestId: string; orderId: string | null }>`
      select position, request_id as "requestId", events->-1->'order_placed'->'order'->>'order_id' as "orderId"
      from commits where shop_id = ${shopId} and position > ${after} order by position limit ${pageRows}`.execute(trx);
    const values: (string | number)[] = [];
    for (const row of rows) {
      if (row.requestId !== "") {
        values.push(`request:${row.requestId}`, row.position);
      }
      if (row.orderId !== null) {
        values.push(`order:${row.orderId}`, row.position);
      }
    }
    if (values.length > 0) {
      yield ["recent", values];
    }
    const last = rows.at(-1);
    if (last === undefined) {
      break;
    }
    after = last.position;
  }
  yield* endedHoldSteps(trx, shopId, horizon);
}

const holdStates: Readonly<Record<number, string>> = { 2: "COMMITTED", 3: "RELEASED", 4: "EXPIRED" };

async function* endedHoldSteps(trx: Kysely<Database>, shopId: string, horizon: number): AsyncGenerator<Step> {
  let after = "";
  for (;;) {
    const rows = await trx
      .selectFrom("holds")
      .select(["hold_id", "state", "create_position", "position"])
      .where("shop_id", "=", shopId)
      .where("position", ">", horizon)
      .where("state", "<>", 1)
      .where("hold_id", ">", after)
      .orderBy("hold_id")
      .limit(pageRows)
      .execute();
    const last = rows.at(-1);
    if (last === undefined) {
      return;
    }
    yield [
      "recent",
      rows.flatMap((row) => [`hold:${row.hold_id}`, `${row.create_position} ${row.position} ${holdStates[row.state]}`]),
    ];
    after = last.hold_id;
  }
}

async function* logSteps(trx: Kysely<Database>, shopId: string, from: number): AsyncGenerator<Step> {
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
    yield ["log", rows.flatMap(logValues)];
    next = last.position + 1;
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

/** Pages through rows by key: `read` gets the last key it returned. */
async function* pages<Row>(
  read: (after: string) => Promise<{ rows: Row[]; last: string | undefined }>,
): AsyncGenerator<Row[]> {
  let after = "";
  for (;;) {
    const { rows, last } = await read(after);
    if (last === undefined) {
      return;
    }
    yield rows;
    after = last;
  }
}
