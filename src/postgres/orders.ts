import { type Kysely, type Selectable, sql } from "kysely";
import type { StoredRecord } from "../shop/mutation.ts";
import type { Database, OrderRow } from "./schema.ts";

/** Reads one order. */
export function findOrder(db: Kysely<Database>, shopId: string, orderId: string) {
  return db
    .selectFrom("orders")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("order_id", "=", orderId)
    .executeTakeFirst();
}

/** Which orders a list shows. */
export interface OrderFilter {
  /** Empty = everybody's, guests included. */
  readonly userId: string;
  /** An OrderState of the contract; 0 = every state. */
  readonly state: number;
}

/** Every OrderState of the contract. */
export const orderStates = [1, 2, 3, 4, 5] as const;

/**
 * Lists orders newest first, from before the position of an order's creation (undefined = the newest). Both indexes that serve
 * it have the state before the position: a list of every state merges one range of the index per state, and none reads an
 * order that it does not show.
 */
export async function listOrders(
  db: Kysely<Database>,
  shopId: string,
  { userId, state }: OrderFilter,
  before: number | undefined,
  count: number,
): Promise<Selectable<OrderRow>[]> {
  const page = (filter: ReturnType<typeof sql>) => sql`(
    select * from orders where shop_id = ${shopId} and ${filter} and create_position < ${before ?? Number.MAX_SAFE_INTEGER}
    order by create_position desc limit ${count})`;
  const owner = userId === "" ? sql`` : sql`user_id = ${userId} and`;
  const pages = (state === 0 ? orderStates : [state]).map((each) => page(sql`${owner} state = ${each}`));
  const { rows } = await sql<Selectable<OrderRow>>`
    select * from (${sql.join(pages, sql` union all `)}) as found order by create_position desc limit ${count}`.execute(
    db,
  );
  return rows;
}

/** An order's row for a script, and the shop's epoch when it was read. */
export interface OrderRecord extends StoredRecord {
  readonly epoch: number;
  readonly row: { readonly state: number; readonly cancel_reason?: string } | null;
}

/**
 * Reads what a script needs of an order that Redis let go, and the shop's head, in one statement, so that both are of one
 * moment. The row has the names of an order in events, times in milliseconds, and nothing that is null.
 */
export async function readOrderRecord(db: Kysely<Database>, shopId: string, orderId: string): Promise<OrderRecord> {
  const { rows } = await sql<
    { as_of: number; epoch: number } & { [Name in keyof OrderRow]: Selectable<OrderRow>[Name] | null }
  >`
    select s.head_position as as_of, s.epoch, o.* from shops s
    left join orders o on o.shop_id = s.shop_id and o.order_id = ${orderId}
    where s.shop_id = ${shopId}`.execute(db);
  const { as_of, epoch, shop_id: _, ...order } = rows[0] ?? { as_of: 0, epoch: 0, shop_id: null, state: null };
  return { asOf: as_of, epoch, row: order.state === null ? null : { ...withMs(order), state: order.state } };
}

function withMs(row: object): object {
  const present = Object.entries(row).filter(([, value]) => value !== null);
  return Object.fromEntries(present.map(([name, value]) => [name, value instanceof Date ? value.getTime() : value]));
}
