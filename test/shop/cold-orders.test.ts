import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdjustReason, OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

/**
 * Orders that were paid are not in Redis: a change of one rests on a row of Postgres, which must not be older than what
 * Redis decided since. Here Redis remembers little of what changed, and acknowledges before Postgres has it.
 */
const clock = { nowMs: Date.now() + 3_600_000 };
const stores = useStores();
const external = { paymentMethod: PaymentMethod.EXTERNAL };
const lines = [{ sku: "a", quantity: 4 }];

describe.each(["postgres", "redis"])("with durability in %s, an order that Redis does not have", (durability) => {
  let holdfast: Holdfast;
  beforeAll(async () => {
    const settings = { HOLDFAST_REQUEST_MEMORY_COUNT: "100", HOLDFAST_DURABILITY: durability };
    holdfast = await startHoldfast({ ...stores.urls, settings, clock: () => clock.nowMs });
  });
  afterAll(() => holdfast?.stop());

  const open = () => createShop(holdfast.grpc, { stock: { a: 1000 }, users: { ann: 100_000 } });

  /** Lets so much happen that Redis forgets what changed until now. */
  async function forget(shopId: string): Promise<number> {
    const adjust = { shopId, sku: "a", deltaCount: 1n, reason: AdjustReason.RESTOCK };
    for (let turn = 0; turn < 3; turn += 1) {
      clock.nowMs += 600_000;
      await Promise.all(Array.from({ length: 100 }, () => holdfast.grpc.inventory.adjustStock(adjust)));
    }
    const redis = new Redis(stores.redis.url);
    const forgotten = Number(await redis.hget(`{${shopId}}:meta`, "forgotten_position"));
    redis.disconnect();
    return forgotten;
  }

  test("changes step by step, each step seeing the one before", async () => {
    const { orders } = holdfast.grpc;
    const shopId = await open();
    for (let round = 0; round < 10; round += 1) {
      const it = { shopId, orderId: `o${round}` };
      await orders.placeOrder({ ...it, userId: "ann", lines, ...external });
      await orders.confirmOrder(it);
      await orders.fulfillOrder({ ...it, reference: "p" });
      for (let part = 1; part <= 3; part += 1) {
        const { order } = await orders.refundOrder({ ...it, amountMinor: 100n });
        expect(order).toMatchObject({ state: OrderState.FULFILLED, refundedMinor: BigInt(part * 100) });
      }
      const { order } = await orders.refundOrder({ ...it, restock: true });
      expect(order).toMatchObject({ state: OrderState.REFUNDED, refundedMinor: 400n, fulfillReference: "p" });
    }
    await auditShop({ ...stores.urls, shopId });
  });

  test("is not changed once its call has ended, however long its row took to read", async () => {
    const { orders } = holdfast.grpc;
    const shopId = await open();
    const it = { shopId, orderId: "o" };
    const { order } = await orders.placeOrder({ ...it, userId: "ann", lines });
    await orders.getOrder(it);
    const postgres = new Client(stores.database.url);
    await postgres.connect();
    await postgres.query("begin");
    await postgres.query("lock table orders in access exclusive mode");
    await expect(orders.refundOrder(it, { timeoutMs: 300 })).rejects.toMatchObject({ code: Code.DeadlineExceeded });
    // An answer on the same connection: by then the server has heard that the call before has ended.
    await holdfast.grpc.admin.getShop({ shopId });
    await postgres.query("rollback");
    await postgres.end();
    // It reads its row after the one that had ended: a replay of that one, had that one gone on.
    const refunded = await orders.refundOrder(it);
    expect(refunded).toMatchObject({
      order: { state: OrderState.REFUNDED, refundedMinor: order?.amountMinor },
      commit: { replayed: false },
    });
    await auditShop({ ...stores.urls, shopId });
  });

  test("is changed once by many callers at once", async () => {
    const { grpc, http } = holdfast;
    const shopId = await open();
    const it = { shopId, orderId: "o" };
    await grpc.orders.placeOrder({ ...it, userId: "ann", lines });
    const calls = Array.from({ length: 20 }, (_, index) =>
      (index % 2 === 0 ? grpc : http).orders.refundOrder({ ...it, amountMinor: 30n, restockLines: [] }),
    );
    const answers = await Promise.allSettled(calls);
    const refunded = answers.flatMap((each) => (each.status === "fulfilled" ? [each.value.order?.refundedMinor] : []));
    // Every one that was made saw those before it: 30, 60, ... 390 of 400.
    expect(refunded.sort((a, b) => Number((a ?? 0n) - (b ?? 0n)))).toEqual(
      Array.from({ length: 13 }, (_, index) => BigInt(30 * (index + 1))),
    );
    await auditShop({ ...stores.urls, shopId });
  });

  test("is known after Redis forgot that it changed", async () => {
    const { orders } = holdfast.grpc;
    const shopId = await open();
    const it = { shopId, orderId: "o" };
    await orders.placeOrder({ ...it, userId: "ann", lines });
    const { commit } = await orders.refundOrder({
      ...it,
      amountMinor: 100n,
      restockLines: [{ sku: "a", quantity: 1 }],
    });
    expect(await forget(shopId)).toBeGreaterThan(Number(commit?.position));
    expect(await refusalOf(orders.refundOrder({ ...it, amountMinor: 301n }))).toMatchObject({
      reason: "REFUND_EXCEEDS_PAID",
    });
    const { order, stocks } = await orders.refundOrder({ ...it, restock: true });
    expect(order).toMatchObject({ state: OrderState.REFUNDED, refundedMinor: 400n });
    expect(stocks).toMatchObject([{ sku: "a", soldCount: 0n }]);
    await forget(shopId);
    expect((await orders.refundOrder({ ...it, restock: true })).commit?.replayed).toBe(true);
    expect(await refusalOf(orders.fulfillOrder(it))).toMatchObject({
      reason: "ORDER_STATE_INVALID",
      metadata: { state: "REFUNDED" },
    });
    expect((await orders.placeOrder({ ...it, userId: "ann", lines })).commit?.replayed).toBe(true);
    await auditShop({ ...stores.urls, shopId });
  });

  test("has not been a fault of ours", () => {
    expect(holdfast.faults).toEqual([]);
  });
});
