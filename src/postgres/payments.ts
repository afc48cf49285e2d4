import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** An order that the payment gateway has to charge. */
export interface PendingCharge {
  readonly shopId: string;
  readonly orderId: string;
  readonly userId: string;
  readonly amountMinor: number;
  readonly currencyCode: string;
  readonly createTime: Date;
  /** The `traceparent` of the commit that placed the order; null where it has none, or nobody traces. */
  readonly traceParent: string | null;
}

/** A refund that the payment gateway has to make. */
export interface PendingRefund {
  readonly shopId: string;
  readonly orderId: string;
  readonly refundNumber: number;
  readonly amountMinor: number;
  readonly chargeId: string;
  readonly createTime: Date;
  /** The same of the commit that refunded it. */
  readonly traceParent: string | null;
}

/** Where a list of pending payments goes on; the first key there can be: `firstPayment`. */
export interface PaymentCursor {
  readonly shopId: string;
  readonly orderId: string;
  readonly refundNumber: number;
}

/** Before every pending payment. */
export const firstPayment: PaymentCursor = { shopId: "", orderId: "", refundNumber: 0 };

/** Orders that wait for the gateway, by shop and id, after one (exclusive). Without `isTraced` their commits are not looked up. */
export async function listPendingCharges(
  db: Kysely<Database>,
  { shopId, orderId }: PaymentCursor,
  count: number,
  isTraced: boolean,
): Promise<PendingCharge[]> {
  const { rows } = await sql<PendingCharge>`
    select o.shop_id as "shopId", o.order_id as "orderId", o.user_id as "userId", o.amount_minor as "amountMinor",
      s.currency_code as "currencyCode", o.create_time as "createTime",
      case when ${isTraced}::boolean then
        (select c.call->>'trace_parent' from commits c where c.shop_id = o.shop_id and c.position = o.create_position)
      end as "traceParent"
    from orders o join shops s on s.shop_id = o.shop_id
    where o.state = 1 and o.payment_method = 4 and (o.shop_id, o.order_id) > (${shopId}, ${orderId})
    order by o.shop_id, o.order_id limit ${count}`.execute(db);
  return rows;
}

/** Refunds that the gateway has not made yet, by shop, order and number, after one (exclusive). */
export async function listPendingRefunds(
  db: Kysely<Database>,
  { shopId, orderId, refundNumber }: PaymentCursor,
  count: number,
  isTraced: boolean,
): Promise<PendingRefund[]> {
  const { rows } = await sql<PendingRefund>`
    select r.shop_id as "shopId", r.order_id as "orderId", r.refund_number as "refundNumber",
      r.amount_minor as "amountMinor", o.charge_id as "chargeId", c.commit_time as "createTime",
      case when ${isTraced}::boolean then c.call->>'trace_parent' end as "traceParent"
    from refunds r
    join orders o on o.shop_id = r.shop_id and o.order_id = r.order_id
    join commits c on c.shop_id = r.shop_id and c.position = r.create_position
    where not r.settled and (r.shop_id, r.order_id, r.refund_number) > (${shopId}, ${orderId}, ${refundNumber})
    order by r.shop_id, r.order_id, r.refund_number limit ${count}`.execute(db);
  return rows;
}

/** An arbitrary number that only payment workers lock. */
const leaderLock = 7_340_121_809_455;

/** Tries to become the one payment worker of the database, for as long as this session lasts. */
export async function tryToLeadPayments(db: Kysely<Database>): Promise<boolean> {
  const { rows } = await sql<{ leads: boolean }>`
    select pg_try_advisory_lock(${leaderLock}::bigint) as leads`.execute(db);
  return rows[0]?.leads === true;
}
