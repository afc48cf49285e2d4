import { CompiledQuery, type Kysely } from "kysely";
import type { LogEntry } from "../shop/log-entry.ts";
import type { Projection } from "../shop/projection.ts";
import type { Database } from "./schema.ts";

/**
 * The one statement that writes what happened: compare-and-append. Every insert hangs off the row of `shops` that the
 * comparison updated, so either the head moves and everything is written, or nothing is. No other code writes the tables
 * named here, save the birth of a shop and the drain of a rebuild, which use `appendCommits` too.
 *
 * Rows travel as one JSON text per table: the log's own JSON is put in as it is, without being parsed and encoded again.
 */

/** Where a shop stood when it was last looked at, and the server that said so. */
export interface ShopHead {
  readonly epoch: number;
  readonly position: number;
  readonly commitId: string;
}

/** One table's share of the statement: its columns as they come in the JSON rows, and what becomes of them. */
interface Part {
  readonly name: string;
  rows(projection: Projection): string;
  readonly sql: (rows: string) => string;
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
    rows: (projection) => commitRows(projection.commits),
    sql: (rows) => `insert into commits (shop_id, position, commit_id, epoch, commit_time, request_id, call, events)
      select shop_id, r.p, r.c, r.e, ${time("t")}, r.call->>'request_id', r.call, r.events
      from cas, json_to_recordset(${rows}) as r(p bigint, c uuid, e bigint, t float8, call json, events json)`,
  },
  {
    name: "products",
    rows: (projection) => jsonRows(projection.products),
    sql: (
      rows,
    ) => `insert into products (shop_id, sku, title, price_minor, max_per_user, sale_start_time, sale_end_time, withdrawn,
        limit_tracked, create_time, update_time, position)
      select shop_id, r.sku, r.title, r.price_minor, r.max_per_user, ${farTime("sale_start_time")}, ${farTime("sale_end_time")}, r.withdrawn,
        r.max_per_user > 0, ${time("create_time")}, ${time("update_time")}, r.position
      from cas, json_to_recordset(${rows}) as r(sku text, title text, price_minor bigint, max_per_user bigint, sale_start_time float8,
        sale_end_time float8, withdrawn boolean, create_time float8, update_time float8, position bigint)
      ${orReplace("sku", ["title", "price_minor", "max_per_user", "sale_start_time", "sale_end_time", "withdrawn", "update_time", "position"])},
        limit_tracked = products.limit_tracked or excluded.limit_tracked`,
  },
  {
    name: "stock",
    rows: (projection) => jsonRows(projection.stock),
    sql: (rows) => `insert into stock (shop_id, sku, available_count, held_count, sold_count)
      select shop_id, r.sku, r.available_count, r.held_count, r.sold_count
      from cas, json_to_recordset(${rows}) as r(sku text, available_count bigint, held_count bigint, sold_count bigint)
      ${orReplace("sku", ["available_count", "held_count", "sold_count"])}`,
  },
  {
    name: "holds",
    rows: (projection) => jsonRows(projection.holds),
    sql: (
      rows,
    ) => `insert into holds (shop_id, hold_id, user_id, lines, state, create_time, expire_time, order_id, create_position, position)
      select shop_id, r.hold_id, r.user_id, r.lines, r.state, ${time("create_time")}, ${time("expire_time")}, r.order_id, r.create_position,
        r.position
      from cas, json_to_recordset(${rows}) as r(hold_id text, user_id text, lines json, state smallint, create_time float8,
        expire_time float8, order_id text, create_position bigint, position bigint)
      ${orReplace("hold_id", ["state", "expire_time", "order_id", "position"])}`,
  },
  {
    name: "orders",
    rows: (projection) => jsonRows(projection.orders),
    sql: (
      rows,
    ) => `insert into orders (shop_id, order_id, user_id, lines, item_count, amount_minor, refunded_minor, state, payment_method,
        hold_id, create_time, update_time, create_position, position)
      select shop_id, r.order_id, r.user_id, r.lines, r.item_count, r.amount_minor, r.refunded_minor, r.state, r.payment_method,
        r.hold_id, ${time("create_time")}, ${time("update_time")}, r.position, r.position
      from cas, json_to_recordset(${rows}) as r(order_id text, user_id text, lines json, item_count bigint, amount_minor bigint,
        refunded_minor bigint, state smallint, payment_method smallint, hold_id text, create_time float8, update_time float8, position bigint)
      ${orReplace("order_id", ["refunded_minor", "state", "update_time", "position"])}`,
  },
  {
    name: "new_users",
    rows: (projection) => jsonRows(projection.newUsers),
    sql: (
      rows,
    ) => `insert into users (shop_id, user_id, email, email_key, display_name, balance_minor, credits, order_count,
        lifetime_value_minor, create_time, update_time, create_position, position)
      select shop_id, r.user_id, r.email, r.email_key, r.display_name, r.balance_minor, r.credits, r.order_count, r.lifetime_value_minor,
        ${time("create_time")}, ${time("update_time")}, r.create_position, r.position
      from cas, json_to_recordset(${rows}) as r(user_id text, email text, email_key text, display_name text, balance_minor bigint,
        credits bigint, order_count bigint, lifetime_value_minor bigint, create_time float8, update_time float8, create_position bigint,
        position bigint)
      ${orReplace("user_id", ["balance_minor", "credits", "order_count", "lifetime_value_minor", "update_time", "position"])}`,
  },
  {
    name: "users_changed",
    rows: (projection) => jsonRows(projection.users),
    sql: (
      rows,
    ) => `update users u set balance_minor = coalesce(r.balance_minor, u.balance_minor), credits = coalesce(r.credits, u.credits),
        order_count = coalesce(r.order_count, u.order_count),
        lifetime_value_minor = coalesce(r.lifetime_value_minor, u.lifetime_value_minor),
        update_time = ${time("update_time")}, position = r.position
      from cas, json_to_recordset(${rows}) as r(user_id text, balance_minor bigint, credits bigint, order_count bigint,
        lifetime_value_minor bigint, update_time float8, position bigint)
      where u.shop_id = cas.shop_id and u.user_id = r.user_id`,
  },
  {
    name: "ledger",
    rows: (projection) => (projection.ledger.length === 0 ? "" : JSON.stringify(projection.ledger)),
    sql: (
      rows,
    ) => `insert into ledger_entries (shop_id, position, index, account, kind, delta, balance_after, cause, order_id, reference)
      select shop_id, r.position, r.index, r.account, r.kind, r.delta, r.balance_after, r.cause, r.order_id, r.reference
      from cas, json_to_recordset(${rows}) as r(position bigint, index integer, account text, kind smallint, delta bigint,
        balance_after bigint, cause text, order_id text, reference text)`,
  },
];

/** What the statement compares besides the head: null where a row lock is held instead (a rebuild's drain). */
export interface Comparison {
  readonly head: ShopHead;
  /** `pg_postmaster_start_time()` as text, read on this connection together with the head; null under the row lock. */
  readonly serverStart: string | null;
}

/**
 * Moves a shop's head over a batch of commits and writes what they did; autocommit. Returns whether it was done: false
 * means that the head, the epoch or the server is not what was expected, and nothing was written.
 */
export async function appendCommits(
  db: Kysely<Database>,
  shopId: string,
  { head, serverStart }: Comparison,
  projection: Projection,
): Promise<boolean> {
  const newest = projection.commits.at(-1) as LogEntry;
  const { products, users, openHolds, openOrders } = projection.counters;
  const parameters: unknown[] = [
    shopId,
    head.epoch,
    head.position,
    head.commitId,
    serverStart,
    newest.position,
    newest.commitId,
    products,
    users,
    openHolds,
    openOrders,
  ];
  let used = 0;
  for (const [index, part] of parts.entries()) {
    const rows = part.rows(projection);
    if (rows !== "") {
      used |= 1 << index;
      parameters.push(rows);
    }
  }
  const result = await db.executeQuery<{ moved: number }>(CompiledQuery.raw(statement(used), parameters));
  return result.rows[0]?.moved === 1;
}

const statements = new Map<number, string>();

/** The text for the tables a batch touches (bit i = part i); a handful of combinations, each prepared once per connection. */
function statement(used: number): string {
  const known = statements.get(used);
  if (known !== undefined) {
    return known;
  }
  let parameter = 11;
  const written = parts
    .filter((_, index) => used & (1 << index))
    .map((part) => {
      parameter += 1;
      return `, ${part.name}_written as (${part.sql(`$${parameter}::json`)})`;
    });
  const text = `with cas as (
      update shops set head_position = $6::bigint, head_commit_id = $7::uuid, product_count = product_count + $8::bigint,
        user_count = user_count + $9::bigint, open_hold_count = open_hold_count + $10::bigint,
        open_order_count = open_order_count + $11::bigint
      where shop_id = $1 and epoch = $2::bigint and head_position = $3::bigint and head_commit_id = $4::uuid
        and ($5::text is null or pg_postmaster_start_time()::text = $5::text)
      returning shop_id
    )${written.join("")} select count(*)::int as moved from cas`;
  statements.set(used, text);
  return text;
}

function jsonRows(rows: ReadonlyMap<string, unknown>): string {
  return rows.size === 0 ? "" : JSON.stringify([...rows.values()]);
}

/** The commits as JSON rows; `call` and `events` are JSON already. */
function commitRows(commits: readonly LogEntry[]): string {
  const rows = commits.map(
    (commit) =>
      `{"p":${commit.position},"c":"${commit.commitId}","e":${commit.epoch},"t":${commit.timeMs},"call":${commit.call},"events":${commit.events}}`,
  );
  return `[${rows.join(",")}]`;
}
