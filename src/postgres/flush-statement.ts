import { CompiledQuery, type Kysely } from "kysely";
import type { LogEntry } from "../shop/log-entry.ts";
import type { Counters, Projection } from "../shop/projection.ts";
import type { Database } from "./schema.ts";

/**
 * The one statement that writes what happened: compare-and-append. Every insert hangs off the row of `shops` that the
 * comparison updated, so either the head moves and everything is written, or nothing is. No other code writes the tables
 * named here, save the birth of a shop and the drain of a rebuild, which use `appendCommits` too. Shops that have something
 * to append at the same time go into one statement, each compared for itself.
 *
 * Rows travel as one JSON text per table, for all shops: the log's own JSON is put in as it is, without being parsed and encoded again.
 */

/** Where a shop stood when it was last looked at, and the server that said so. */
export interface ShopHead {
  readonly epoch: number;
  readonly position: number;
  readonly commitId: string;
}

/** The `from` of a table's rows `r`, each with the row of `cas` that it hangs off; given the columns that `r` has. */
type From = (columns: string) => string;

/** One table's share of the statement: its columns as they come in the JSON rows, and what becomes of them. */
interface Part {
  readonly name: string;
  /** As JSON, separated by commas; each row begins with `mark`. */
  rows(projection: Projection, mark: string): string;
  readonly sql: (from: From) => string;
}

const orReplace = (key: string, columns: readonly string[]): string =>
  `on conflict (shop_id, ${key}) do update set ${columns.map((column) => `${column} = excluded.${column}`).join(", ")}`;

const time = (column: string): string => `to_timestamp(r.${column} / 1000.0)`;

/** For times that callers choose: from the year 2242 on, a double of seconds is off by a millisecond now and then. */
const farTime = (column: string): string =>
  `to_timestamp(floor(r.${column} / 1000.0)) + (r.${column}::bigint % 1000) * interval '1 millisecond'`;

const parts: readonly Part[] = [
  {
    name: "commits",
    rows: ({ commits }, mark) => commitRows(commits, mark),
    sql: (from) => `insert into commits (shop_id, position, commit_id, epoch, commit_time, request_id, call, events)
      select shop_id, r.p, r.c, r.e, ${time("t")}, r.call->>'request_id', r.call, r.events
      ${from("p bigint, c uuid, e bigint, t float8, call json, events json")}`,
  },
  {
    name: "products",
    rows: ({ products }, mark) => jsonRows(products.values(), mark),
    sql: (
      from,
    ) => `insert into products (shop_id, sku, title, price_minor, max_per_user, sale_start_time, sale_end_time, withdrawn,
        limit_tracked, create_time, update_time, position)
      select shop_id, r.sku, r.title, r.price_minor, r.max_per_user, ${farTime("sale_start_time")}, ${farTime("sale_end_time")}, r.withdrawn,
        r.limit_tracked, ${time("create_time")}, ${time("update_time")}, r.position
      ${from(`sku text, title text, price_minor bigint, max_per_user bigint, sale_start_time float8,
        sale_end_time float8, withdrawn boolean, limit_tracked boolean, create_time float8, update_time float8, position bigint`)}
      ${orReplace("sku", ["title", "price_minor", "max_per_user", "sale_start_time", "sale_end_time", "withdrawn", "update_time", "position"])},
        limit_tracked = products.limit_tracked or excluded.limit_tracked`,
  },
  {
    name: "stock",
    // Levels are what they became, sales are added: every paid order moves the levels of its products.
    rows: ({ stock, sales }, mark) =>
      jsonRows(
        Array.from(stock.values(), (row) => ({ ...row, ...sales.get(row.sku) })),
        mark,
      ),
    sql: (
      from,
    ) => `insert into stock (shop_id, sku, available_count, held_count, sold_count, order_count, unit_count, revenue_minor)
      select shop_id, r.sku, r.available_count, r.held_count, r.sold_count, coalesce(r.order_count, 0), coalesce(r.unit_count, 0),
        coalesce(r.revenue_minor, 0)
      ${from(`sku text, available_count bigint, held_count bigint, sold_count bigint, order_count bigint,
        unit_count bigint, revenue_minor bigint`)}
      ${orReplace("sku", ["available_count", "held_count", "sold_count"])}, order_count = stock.order_count + excluded.order_count,
        unit_count = stock.unit_count + excluded.unit_count, revenue_minor = stock.revenue_minor + excluded.revenue_minor`,
  },
  {
    name: "holds",
    rows: ({ holds }, mark) => jsonRows(holds.values(), mark),
    sql: (
      from,
    ) => `insert into holds (shop_id, hold_id, user_id, lines, state, create_time, expire_time, order_id, create_position, position)
      select shop_id, r.hold_id, r.user_id, r.lines, r.state, ${time("create_time")}, ${time("expire_time")}, r.order_id, r.create_position,
        r.position
      ${from(`hold_id text, user_id text, lines json, state smallint, create_time float8,
        expire_time float8, order_id text, create_position bigint, position bigint`)}
      ${orReplace("hold_id", ["state", "expire_time", "order_id", "position"])}`,
  },
  {
    name: "orders",
    rows: ({ orders }, mark) => jsonRows(orders.values(), mark),
    sql: (
      from,
    ) => `insert into orders (shop_id, order_id, user_id, lines, item_count, amount_minor, refunded_minor, state, payment_method,
        payment_reference, charge_id, fulfill_reference, cancel_reason, hold_id, expire_time, confirm_position, fulfill_position, refund_count,
        restocked, create_time, update_time, create_position, position)
      select shop_id, r.order_id, r.user_id, r.lines, r.item_count, r.amount_minor, r.refunded_minor, r.state, r.payment_method,
        coalesce(r.payment_reference, ''), coalesce(r.charge_id, ''), coalesce(r.fulfill_reference, ''), coalesce(r.cancel_reason, ''),
        r.hold_id, ${time("expire_time")}, coalesce(r.confirm_position, 0), coalesce(r.fulfill_position, 0), coalesce(r.refund_count, 0),
        r.restocked, ${time("create_time")}, ${time("update_time")}, coalesce(r.create_position, r.position), r.position
      ${from(`order_id text, user_id text, lines json, item_count bigint, amount_minor bigint,
        refunded_minor bigint, state smallint, payment_method smallint, payment_reference text, charge_id text, fulfill_reference text,
        cancel_reason text, hold_id text, expire_time float8, confirm_position bigint, fulfill_position bigint, refund_count integer,
        restocked json, create_time float8, update_time float8, create_position bigint, position bigint`)}
      ${orReplace("order_id", ["refunded_minor", "state", "payment_reference", "charge_id", "fulfill_reference", "cancel_reason"])},
        expire_time = excluded.expire_time, confirm_position = excluded.confirm_position, fulfill_position = excluded.fulfill_position,
        refund_count = excluded.refund_count, restocked = excluded.restocked,
        update_time = excluded.update_time, position = excluded.position`,
  },
  {
    name: "new_users",
    rows: ({ newUsers }, mark) => jsonRows(newUsers.values(), mark),
    sql: (
      from,
    ) => `insert into users (shop_id, user_id, email, email_key, display_name, balance_minor, credits, tier, referral_code, referred_by,
        referral_count, order_count, lifetime_value_minor, create_time, update_time, create_position, position)
      select shop_id, r.user_id, r.email, r.email_key, r.display_name, r.balance_minor, r.credits, coalesce(r.tier, 'free'),
        coalesce(r.referral_code, ''), coalesce(r.referred_by, ''), coalesce(r.referral_count, 0), r.order_count, r.lifetime_value_minor,
        ${time("create_time")}, ${time("update_time")}, r.create_position, r.position
      ${from(`user_id text, email text, email_key text, display_name text, balance_minor bigint,
        credits bigint, tier text, referral_code text, referred_by text, referral_count bigint, order_count bigint,
        lifetime_value_minor bigint, create_time float8, update_time float8, create_position bigint, position bigint`)}
      ${orReplace("user_id", ["email", "email_key", "display_name", "balance_minor", "credits", "tier", "referral_code", "referred_by"])},
        referral_count = excluded.referral_count, order_count = excluded.order_count,
        lifetime_value_minor = excluded.lifetime_value_minor, update_time = excluded.update_time, position = excluded.position`,
  },
  {
    name: "users_changed",
    rows: ({ users }, mark) => jsonRows(users.values(), mark),
    sql: (
      from,
    ) => `update users u set balance_minor = coalesce(r.balance_minor, u.balance_minor), credits = coalesce(r.credits, u.credits),
        order_count = coalesce(r.order_count, u.order_count),
        lifetime_value_minor = coalesce(r.lifetime_value_minor, u.lifetime_value_minor),
        referral_count = coalesce(r.referral_count, u.referral_count), tier = coalesce(r.tier, u.tier),
        email = coalesce(r.email, u.email), email_key = coalesce(r.email_key, u.email_key),
        display_name = coalesce(r.display_name, u.display_name), update_time = ${time("update_time")}, position = r.position
      ${from(`user_id text, balance_minor bigint, credits bigint, order_count bigint,
        lifetime_value_minor bigint, referral_count bigint, tier text, email text, email_key text, display_name text,
        update_time float8, position bigint`)}
      where u.shop_id = cas.shop_id and u.user_id = r.user_id`,
  },
  {
    name: "ledger",
    rows: ({ ledger }, mark) => jsonRows(ledger, mark),
    sql: (
      from,
    ) => `insert into ledger_entries (shop_id, position, index, account, kind, delta, balance_after, cause, order_id, reference, reason)
      select shop_id, r.position, r.index, r.account, r.kind, r.delta, r.balance_after, r.cause, r.order_id, r.reference, r.reason
      ${from(`position bigint, index integer, account text, kind smallint, delta bigint,
        balance_after bigint, cause text, order_id text, reference text, reason text`)}`,
  },
  {
    name: "tiers",
    rows: ({ tiers }, mark) => jsonRows(tiers.values(), mark),
    sql: (
      from,
    ) => `insert into tiers (shop_id, tier, price_credits, max_projects, max_storage_mb, max_api_calls, position)
      select shop_id, r.tier, r.price_credits, (r.limits->>'max_projects')::bigint, (r.limits->>'max_storage_mb')::bigint,
        (r.limits->>'max_api_calls')::bigint, r.position
      ${from(`tier text, price_credits bigint, limits json, position bigint`)}
      ${orReplace("tier", ["price_credits", "max_projects", "max_storage_mb", "max_api_calls", "position"])}`,
  },
  {
    name: "subscriptions",
    rows: ({ subscriptions }, mark) => jsonRows(subscriptions.values(), mark),
    sql: (
      from,
    ) => `insert into subscriptions (shop_id, user_id, tier, price_credits, period_start_time, period_end_time, scheduled_tier, update_time,
        position)
      select shop_id, r.user_id, r.tier, r.price_credits, ${time("period_start_time")}, ${time("period_end_time")},
        coalesce(r.scheduled_tier, ''), ${time("update_time")}, r.position
      ${from(`user_id text, tier text, price_credits bigint, period_start_time float8,
        period_end_time float8, scheduled_tier text, update_time float8, position bigint`)}
      ${orReplace("user_id", ["tier", "price_credits", "period_start_time", "period_end_time", "scheduled_tier", "update_time", "position"])}`,
  },
  {
    name: "tier_changes",
    rows: ({ tierChanges }, mark) => jsonRows(tierChanges, mark),
    sql: (
      from,
    ) => `insert into tier_changes (shop_id, user_id, position, from_tier, to_tier, proration, cause, charged_credits, credited_credits,
        commit_time)
      select shop_id, r.user_id, r.position, r.from_tier, r.to_tier, r.proration, r.cause, r.charged_credits, r.credited_credits,
        ${time("commit_time")}
      ${from(`user_id text, position bigint, from_tier text, to_tier text, proration smallint,
        cause smallint, charged_credits bigint, credited_credits bigint, commit_time float8`)}`,
  },
  {
    name: "refunds",
    rows: ({ refunds }, mark) => jsonRows(refunds.values(), mark),
    sql: (
      from,
    ) => `insert into refunds (shop_id, order_id, refund_number, amount_minor, settled, refund_id, create_position)
      select shop_id, r.order_id, r.refund_number, r.amount_minor, r.settled, r.refund_id, r.create_position
      ${from(`order_id text, refund_number integer, amount_minor bigint, settled boolean,
        refund_id text, create_position bigint`)}
      ${orReplace("order_id, refund_number", ["settled", "refund_id"])}`,
  },
];

/** The counters of a shop's row that the statement adds to, in the order of its parameters. */
const counterNames = [
  "product_count",
  "user_count",
  "open_hold_count",
  "open_order_count",
  "order_count",
  "item_count",
  "revenue_minor",
  "refunded_minor",
  "upgrade_credits",
  "downgrade_credits",
] as const satisfies readonly (keyof Counters)[];

/** The first parameters, which every combination of tables has: head and server, new head, counters. */
const fixedParameterCount = 7 + counterNames.length;

/** What the statement compares besides the head: null where a row lock is held instead (a rebuild's drain). */
export interface Comparison {
  readonly head: ShopHead;
  /** `pg_postmaster_start_time()` as text, read on this connection together with the head; null under the row lock. */
  readonly serverStart: string | null;
}

/** What one shop has to append, and to what. */
export interface Append {
  readonly shopId: string;
  readonly comparison: Comparison;
  readonly projection: Projection;
}

/**
 * Moves a shop's head over a batch of commits and writes what they did; autocommit. Returns whether it was done: false
 * means that the head, the epoch or the server is not what was expected, and nothing was written.
 */
export async function appendCommits(
  db: Kysely<Database>,
  shopId: string,
  comparison: Comparison,
  projection: Projection,
): Promise<boolean> {
  const { used, rows } = tablesOf([projection]);
  const parameters = [...fixedParameters({ shopId, comparison, projection }), ...rows];
  const result = await db.executeQuery<{ moved: number }>(CompiledQuery.raw(statement(used), parameters));
  return result.rows[0]?.moved === 1;
}

/** What became of an append: written; the head, the epoch or the server is another; or somebody else has the shop's row. */
export type Outcome = "done" | "moved on" | "row held";

/**
 * The same for several shops in one statement, each by its own comparison; every shop may be there once. Returns what became
 * of each, in their order. A row that somebody else holds just now is left out, not waited for: it must not keep the others.
 */
export async function appendCommitsOfMany(db: Kysely<Database>, appends: readonly Append[]): Promise<Outcome[]> {
  const { used, rows } = tablesOf(
    appends.map(({ projection }) => projection),
    allOrSales,
    (index) => `"n":${index + 1},`,
  );
  const byShop = appends.map(fixedParameters);
  const fixed = Array.from({ length: fixedParameterCount }, (_, index) => byShop.map((values) => values[index]));
  const parameters = [...fixed, ...rows];
  const result = await db.executeQuery<MatchingShop>(CompiledQuery.raw(statementOfMany(used), parameters));
  const outcomes = appends.map((): Outcome => "moved on");
  for (const { n, is_done } of result.rows) {
    outcomes[n - 1] = is_done ? "done" : "row held";
  }
  return outcomes;
}

/** A shop that was as expected when the statement began: the n-th of its parameters. */
interface MatchingShop {
  readonly n: number;
  readonly is_done: boolean;
}

function fixedParameters({ shopId, comparison: { head, serverStart }, projection }: Append): unknown[] {
  const newest = projection.commits.at(-1) as LogEntry;
  const counters = counterNames.map((name) => projection.counters[name]);
  return [shopId, head.epoch, head.position, head.commitId, serverStart, newest.position, newest.commitId, ...counters];
}

/**
 * The tables that a statement names (bit i of `used` = part i) and the rows of each of those, of all batches. `widen` adds tables to
 * those that the batches touch; `markOf` gives what the rows of a batch begin with.
 */
function tablesOf(
  projections: readonly Projection[],
  widen = (touched: number) => touched,
  markOf: (index: number) => string = () => "",
): { readonly used: number; readonly rows: string[] } {
  const rows = parts.map((part) =>
    projections
      .map((projection, index) => part.rows(projection, markOf(index)))
      .filter((text) => text !== "")
      .join(","),
  );
  const touched = rows.reduce((bits, text, index) => (text === "" ? bits : bits | (1 << index)), 0);
  const used = widen(touched);
  return { used, rows: rows.filter((_, index) => used & (1 << index)).map((text) => `[${text}]`) };
}

const bitsOf = (names: readonly string[]): number =>
  parts.reduce((bits, { name }, index) => (names.includes(name) ? bits | (1 << index) : bits), 0);
const sales = bitsOf(["commits", "stock", "holds", "orders", "users_changed", "ledger"]);
const all = bitsOf(parts.map(({ name }) => name));

/**
 * What many shops touch together varies from statement to statement, and each text that is prepared takes PostgreSQL half a
 * megabyte per connection: there are two of them.
 */
function allOrSales(touched: number): number {
  return (touched & ~sales) === 0 ? sales : all;
}

const statements = new Map<number, string>();

/** The text for the tables a batch touches; a handful of combinations, each prepared once per connection. */
function statement(used: number): string {
  return remembered(statements, used, () => {
    const counted = counterNames.map((name, index) => `${name} = ${name} + $${8 + index}::bigint`).join(", ");
    return `with cas as (
      update shops set head_position = $6::bigint, head_commit_id = $7::uuid, ${counted}
      where shop_id = $1 and epoch = $2::bigint and head_position = $3::bigint and head_commit_id = $4::uuid
        and ($5::text is null or pg_postmaster_start_time()::text = $5::text)
      returning shop_id
    )${writesOf(used, (rows) => (columns) => `from cas, json_to_recordset(${rows}) as r(${columns})`)}
    select count(*)::int as moved from cas`;
  });
}

const statementsOfMany = new Map<number, string>();

/** The same for many shops: their heads come in arrays with an element per shop, and `n`, the place in these, says which row is whose. */
function statementOfMany(used: number): string {
  return remembered(statementsOfMany, used, () => {
    const columns = counterNames.map((name) => `new_${name}`);
    const counted = counterNames.map((name) => `${name} = s.${name} + free.new_${name}`).join(", ");
    const arrays = ["text", "bigint", "bigint", "uuid", "text", "bigint", "uuid", ...counterNames.map(() => "bigint")];
    const same = (row: string) =>
      `s.shop_id = ${row}.shop_id and s.epoch = ${row}.epoch and s.head_position = ${row}.head_position
        and s.head_commit_id = ${row}.head_commit_id`;
    return `with expected as (
      select * from unnest(${arrays.map((type, index) => `$${index + 1}::${type}[]`).join(", ")}) with ordinality
        as e(shop_id, epoch, head_position, head_commit_id, server_start, new_position, new_commit_id, ${columns.join(", ")}, n)
    ), free as (
      select expected.* from expected join shops s on ${same("expected")} for update of s skip locked
    ), cas as (
      update shops s set head_position = free.new_position, head_commit_id = free.new_commit_id, ${counted}
      from free where ${same("free")} and pg_postmaster_start_time()::text = free.server_start
      returning s.shop_id, free.n
    )${writesOf(used, (rows) => (columns) => `from cas join json_to_recordset(${rows}) as r(n bigint, ${columns}) on r.n = cas.n`)}
    select expected.n::int, cas.n is not null as is_done
    from expected join shops s on ${same("expected")} left join cas on cas.n = expected.n
    where pg_postmaster_start_time()::text = expected.server_start`;
  });
}

/** The writes to the tables in `used`; `fromOf` is given where their rows are. */
function writesOf(used: number, fromOf: (rows: string) => From): string {
  return parts
    .filter((_, index) => used & (1 << index))
    .map(({ name, sql }, index) => `, ${name}_written as (${sql(fromOf(`$${fixedParameterCount + 1 + index}::json`))})`)
    .join("");
}

function remembered(texts: Map<number, string>, used: number, make: () => string): string {
  let text = texts.get(used);
  if (text === undefined) {
    text = make();
    texts.set(used, text);
  }
  return text;
}

function jsonRows(rows: Iterable<object>, mark: string): string {
  return Array.from(rows, (row) => `{${mark}${JSON.stringify(row).slice(1)}`).join(",");
}

/** The commits as JSON rows; `call` and `events` are JSON already. */
function commitRows(commits: readonly LogEntry[], mark: string): string {
  const rows = commits.map(
    (commit) =>
      `{${mark}"p":${commit.position},"c":"${commit.commitId}","e":${commit.epoch},"t":${commit.timeMs},"call":${commit.call},"events":${commit.events}}`,
  );
  return rows.join(",");
}
