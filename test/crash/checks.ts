import { auditShop } from "../helpers/audit.ts";
import type { HoldfastProcess } from "../helpers/holdfast.ts";
import { until } from "../helpers/until.ts";
import type { Callers } from "./callers.ts";
import type { Stage } from "./stage.ts";
import type { Watchers } from "./watchers.ts";

/** What is checked after a crash. */
export interface Aftermath {
  readonly stage: Stage;
  readonly shopId: string;
  readonly callers: Callers;
  readonly watchers: Watchers;
  readonly rescuer: HoldfastProcess;
  /** Whether VerifyShop is asked too. */
  readonly isVerified: boolean;
}

/**
 * Throws what is wrong: what was acknowledged is there, once; what was refused is not; both stores agree and add up; the
 * gateway's book says what the orders say; watchers were sent the history.
 */
export async function checkAftermath(after: Aftermath): Promise<void> {
  const { stage, shopId, callers, watchers } = after;
  await paymentsSettled(after);
  const acknowledged = callers.accepted.map(({ commit }) => ({
    requestId: commit.request_id,
    position: BigInt(commit.position),
    commitId: commit.commit_id,
  }));
  for (const { call, commit } of callers.accepted) {
    // A state that was reached already with the same arguments answers with the commit that reached it.
    if (commit.request_id !== call.requestId && commit.replayed !== true)
      throw new Error(`${call.requestId} was told of ${commit.request_id}`);
  }
  await auditShop({ ...stage.urls, shopId }, acknowledged);
  await expectNone(after, "what was refused took no effect", {
    text: "select position, request_id from commits where shop_id = $1 and request_id = any($2)",
    values: [shopId, callers.refusedIds],
  });
  await expectNone(after, "a shop that was created is there, with its first commit", {
    text: "select id from unnest($1::text[]) id left join shops on shop_id = id where head_position is distinct from 1",
    values: [callers.shopIds],
  });
  await checkBook(after);
  if (after.isVerified) await checkVerify(after);
  const { rows } = await stage.postgres.query<{ commit_id: string }>(
    "select commit_id from commits where shop_id = $1 order by position",
    [shopId],
  );
  await watchers.check(rows.map((row) => row.commit_id));
}

async function paymentsSettled({ stage, shopId }: Aftermath): Promise<void> {
  const pending = `select from orders where shop_id = $1 and state = 1 and payment_method = 4
    union all select from refunds where shop_id = $1 and not settled`;
  const isSettled = async () => (await stage.postgres.query(pending, [shopId])).rows.length === 0;
  await until("every GATEWAY order and refund is settled", isSettled, 30_000);
}

async function expectNone(
  { stage }: Aftermath,
  promise: string,
  query: { readonly text: string; readonly values: unknown[] },
): Promise<void> {
  const { rows } = await stage.postgres.query(query);
  if (rows.length > 0) throw new Error(`${promise}, but: ${JSON.stringify(rows)}`);
}

/** Every paid GATEWAY order has one charge, every other has none; every refund was made once. */
async function checkBook({ stage, shopId }: Aftermath): Promise<void> {
  const { rows: orders } = await stage.postgres.query<{ order_id: string; state: number; charge_id: string }>(
    "select order_id, state, charge_id from orders where shop_id = $1 and payment_method = 4",
    [shopId],
  );
  for (const { order_id: orderId, state, charge_id } of orders) {
    const booked = stage.stripe.charges.filter(
      ({ metadata }) => metadata.order_id === orderId && metadata.shop_id === shopId,
    );
    const wanted = state === 4 ? [] : [charge_id];
    if (JSON.stringify(booked.map(({ id }) => id)) !== JSON.stringify(wanted)) {
      throw new Error(`order ${orderId} (state ${state}) was charged ${JSON.stringify(booked)}, and has ${charge_id}`);
    }
  }
  const { rows: refunds } = await stage.postgres.query<{ refund_id: string }>(
    "select refund_id from refunds where shop_id = $1 order by refund_id",
    [shopId],
  );
  const made = stage.stripe.refunds.filter(({ key }) => key.startsWith(`${shopId}/`)).map(({ id }) => id);
  const noted = refunds.map((row) => row.refund_id);
  if (JSON.stringify(made.sort()) !== JSON.stringify(noted.sort())) {
    throw new Error(`refunds were made: ${made}; noted: ${noted}`);
  }
}

async function checkVerify({ rescuer, shopId }: Aftermath): Promise<void> {
  for await (const { discrepancies } of rescuer.grpc.admin.verifyShop({ shopId })) {
    if (discrepancies.length > 0) throw new Error(`VerifyShop found ${JSON.stringify(discrepancies, writable)}`);
  }
}

function writable(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? Number(value) : value;
}
