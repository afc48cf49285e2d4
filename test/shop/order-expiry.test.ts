import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import type { Event } from "../../gen/holdfast/v1/event_service_pb.js";
import { AdjustReason, OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** The shops' clock stands still until a test moves it on; it is ahead of the real one, which CreateShop reads. */
const clock = { nowMs: Date.now() + 3_600_000 };
const holdfast = useHoldfast({ clock: () => clock.nowMs, settings: { HOLDFAST_HOLD_SECONDS: "5" } });
const pendingMs = 5000;
const external = { paymentMethod: PaymentMethod.EXTERNAL };
const none = { paymentMethod: PaymentMethod.NONE };
const line = (sku: string, quantity: number) => ({ sku, quantity });

async function eventsOf(shopId: string, ...eventTypes: string[]): Promise<Event[]> {
  return (await holdfast.grpc.events.listEvents({ shopId, eventTypes, pageSize: 1000 })).events;
}

describe("an unpaid order", () => {
  const touches: Record<string, (shopId: string) => Promise<unknown>> = {
    GetStock: (shopId) => holdfast.grpc.inventory.getStock({ shopId, sku: "a" }),
    GetOrder: (shopId) => holdfast.http.orders.getOrder({ shopId, orderId: "o" }),
    HoldStock: (shopId) => holdfast.grpc.inventory.holdStock({ shopId, lines: [line("a", 5)] }),
    PlaceOrder: (shopId) => holdfast.grpc.orders.placeOrder({ shopId, lines: [line("a", 5)], ...none }),
    AdjustStock: (shopId) =>
      holdfast.grpc.inventory.adjustStock({ shopId, sku: "a", deltaCount: -5n, reason: AdjustReason.DAMAGE }),
    ConfirmOrder: (shopId) => refusalOf(holdfast.grpc.orders.confirmOrder({ shopId, orderId: "o" })),
    CancelOrder: (shopId) => refusalOf(holdfast.grpc.orders.cancelOrder({ shopId, orderId: "o" })),
    RefundOrder: (shopId) => refusalOf(holdfast.grpc.orders.refundOrder({ shopId, orderId: "o" })),
    "a refused PlaceOrder": (shopId) =>
      refusalOf(holdfast.grpc.orders.placeOrder({ shopId, lines: [line("a", 6)], ...none })),
  };

  test.each(Object.entries(touches))(
    "whose time is over was cancelled, committed and durable, before %s is answered",
    async (_, touch) => {
      const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
      await holdfast.grpc.orders.placeOrder({ shopId, orderId: "o", lines: [line("a", 5)], ...external });
      clock.nowMs += pendingMs;
      const answer = await touch(shopId);
      if (typeof answer === "object" && answer !== null && "reason" in answer) {
        expect(["ORDER_STATE_INVALID", "SOLD_OUT"]).toContain(answer.reason);
      }
      expect(await eventsOf(shopId, "order_cancelled")).toMatchObject([
        {
          subjects: ["order:o", "sku:a"],
          payload: {
            value: {
              order: { orderId: "o", state: OrderState.CANCELLED, cancelReason: "EXPIRED" },
              stocks: [{ sku: "a", availableCount: 5n, heldCount: 0n }],
            },
          },
        },
      ]);
      await auditShop({ ...holdfast.urls, shopId });
    },
  );

  test("ends with holds and orders of its SKU, more than a script takes at once, and makes room for one order", async () => {
    const { inventory, orders } = holdfast.grpc;
    const shopId = await createShop(holdfast.grpc, { stock: { a: 250 } });
    await Promise.all(
      Array.from({ length: 250 }, (_, index) =>
        index % 2 === 0
          ? inventory.holdStock({ shopId, lines: [line("a", 1)] })
          : orders.placeOrder({ shopId, lines: [line("a", 1)], ...external }),
      ),
    );
    clock.nowMs += pendingMs;
    const { stocks } = await orders.placeOrder({ shopId, lines: [line("a", 250)], ...none });
    expect(stocks).toMatchObject([{ availableCount: 0n, heldCount: 0n, soldCount: 250n }]);
    expect(await eventsOf(shopId, "order_cancelled")).toHaveLength(125);
    expect(await eventsOf(shopId, "hold_expired")).toHaveLength(125);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("is cancelled by the sweeper when nobody asks", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
    await holdfast.grpc.orders.placeOrder({ shopId, orderId: "o", lines: [line("a", 5)], ...external });
    clock.nowMs += pendingMs;
    await expect
      .poll(async () => (await eventsOf(shopId, "order_cancelled")).length, { timeout: 8000, interval: 50 })
      .toBe(1);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("is confirmed or cancelled by time, never both, when both come at once", async () => {
    for (let round = 0; round < 5; round += 1) {
      const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
      await holdfast.grpc.orders.placeOrder({ shopId, orderId: "o", lines: [line("a", 5)], ...external });
      clock.nowMs += pendingMs - 1;
      const confirmed = holdfast.grpc.orders.confirmOrder({ shopId, orderId: "o" }).then(
        () => true,
        () => false,
      );
      clock.nowMs += 1;
      const [isPaid] = await Promise.all([confirmed, holdfast.http.orders.getOrder({ shopId, orderId: "o" })]);
      const { order } = await holdfast.grpc.orders.getOrder({ shopId, orderId: "o" });
      expect(order?.state).toBe(isPaid ? OrderState.PAID : OrderState.CANCELLED);
      await auditShop({ ...holdfast.urls, shopId });
    }
  });

  test("stays cancelled when Redis is emptied and the clock goes back", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
    const it = { shopId, orderId: "o" };
    await holdfast.grpc.orders.placeOrder({ ...it, lines: [line("a", 5)], ...external });
    clock.nowMs += pendingMs;
    expect((await holdfast.grpc.orders.getOrder(it)).order?.state).toBe(OrderState.CANCELLED);
    const redis = new Redis(holdfast.redis.url);
    await redis.flushall();
    redis.disconnect();
    clock.nowMs -= 4000;
    expect(await refusalOf(holdfast.grpc.orders.confirmOrder(it))).toMatchObject({
      reason: "ORDER_STATE_INVALID",
      metadata: { state: "CANCELLED" },
    });
    clock.nowMs += 4000;
  });
});

describe("the whole of a shop", () => {
  test("adds up after every way an order can go, and after a rebuild", async () => {
    const { inventory, orders } = holdfast.grpc;
    const shopId = await createShop(holdfast.grpc, { stock: { a: 100, b: 100 }, users: { ann: 10_000, bob: 10_000 } });
    await inventory.putProduct({ shopId, sku: "b", maxPerUser: 50 });
    const place = async (orderId: string, fields: object = {}) => {
      const lines = [line("a", 2), line("b", 1), line("a", 1)];
      await orders.placeOrder({ shopId, orderId, userId: "ann", lines, ...fields });
    };
    await inventory.holdStock({ shopId, holdId: "h", userId: "bob", lines: [line("a", 3), line("b", 2)] });
    await orders.placeOrder({ shopId, orderId: "held", holdId: "h", ...external });
    await place("paid");
    await place("free", none);
    await place("guests", { userId: "", lines: [line("a", 1)], ...external });
    for (const orderId of ["waiting", "confirmed", "cancelled", "returned"]) await place(orderId, external);
    for (const orderId of ["held", "confirmed", "returned", "guests"]) await orders.confirmOrder({ shopId, orderId });
    await orders.cancelOrder({ shopId, orderId: "cancelled" });
    await orders.fulfillOrder({ shopId, orderId: "confirmed" });
    await orders.refundOrder({ shopId, orderId: "returned", restock: true });
    await orders.refundOrder({ shopId, orderId: "free", restockLines: [line("b", 1)] });
    await orders.refundOrder({ shopId, orderId: "paid", amountMinor: 100n, restockLines: [line("a", 1)] });
    await orders.refundOrder({ shopId, orderId: "held", amountMinor: 1n });
    await auditShop({ ...holdfast.urls, shopId });
    const redis = new Redis(holdfast.redis.url);
    await redis.flushall();
    redis.disconnect();
    await orders.refundOrder({ shopId, orderId: "paid", restock: true });
    await orders.confirmOrder({ shopId, orderId: "waiting" });
    await auditShop({ ...holdfast.urls, shopId });
  });
});

test("nothing of all this is a fault of ours", () => {
  expect(holdfast.faults).toEqual([]);
});
