import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import { OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import type { Clients } from "../helpers/holdfast.ts";
import { expectRefusal, refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** The shops' clock stands still until a test moves it on; it is ahead of the real one, which CreateShop reads. */
const clock = { nowMs: Date.now() + 3_600_000 };
/** The gateway answers nobody, so that a GATEWAY order is pending for as long as a test looks at it. */
const holdfast = useHoldfast({ clock: () => clock.nowMs, settings: { HOLDFAST_SIMULATED_TIMEOUT_RATE: "1" } });

/** How long an unpaid order waits: HOLDFAST_HOLD_SECONDS is 600. */
const pendingMs = 600_000;
const external = { paymentMethod: PaymentMethod.EXTERNAL };
const line = (sku: string, quantity: number) => ({ sku, quantity });
const level = (sku: string, availableCount: bigint, heldCount: bigint, soldCount: bigint) => ({
  sku,
  availableCount,
  heldCount,
  soldCount,
});

/** Redis loses everything it has. */
async function emptyRedis(): Promise<void> {
  const redis = new Redis(holdfast.redis.url);
  await redis.flushall();
  redis.disconnect();
}

/** An order that was replayed is answered as it was the first time. */
const asReplay = <Answer extends { commit?: object | undefined }>(answer: Answer) => ({
  ...answer,
  commit: { ...answer.commit, replayed: true },
});

describe.each(["grpc", "http"] as const)("Orders on the %s door", (door) => {
  const clients = (): Clients => holdfast[door];
  const content = { stock: { a: 10, b: 5 }, users: { ann: 1000 } };
  const orders = () => clients().orders;

  /** A shop with the order `o1` of ann: two `a` and one `b`, 300 minor units. */
  async function withOrder(fields: object): Promise<{ shopId: string; orderId: string }> {
    const shopId = await createShop(clients(), content);
    await orders().placeOrder({ shopId, orderId: "o1", userId: "ann", lines: [line("a", 2), line("b", 1)], ...fields });
    return { shopId, orderId: "o1" };
  }
  const paid = () => withOrder({});
  const stockOf = async (shopId: string) =>
    (await clients().inventory.batchGetStock({ shopId, skus: ["a", "b"] })).stocks;
  const userOf = async (shopId: string) => (await clients().users.getUser({ shopId, userId: "ann" })).user;

  test("an external payment is waited for, confirmed and delivered", async () => {
    const it = await withOrder(external);
    const { order: waiting, asOf } = await orders().getOrder(it);
    expect(waiting).toMatchObject({
      state: OrderState.PENDING_PAYMENT,
      ...external,
      amountMinor: 300n,
      expireTime: timestampFromMs(clock.nowMs + pendingMs),
    });
    expect(waiting?.position).toBe(asOf?.position);
    expect(await stockOf(it.shopId)).toMatchObject([level("a", 8n, 2n, 0n), level("b", 4n, 1n, 0n)]);
    expect(await userOf(it.shopId)).toMatchObject({ balanceMinor: 1000n, orderCount: 1n, lifetimeValueMinor: 0n });
    expect((await clients().admin.getShop(it)).shop).toMatchObject({ openOrderCount: 1n });

    clock.nowMs += 1000;
    const confirmed = await orders().confirmOrder({ ...it, paymentReference: "wire \u{1F4B6} 7" });
    const { expireTime: _, ...kept } = waiting ?? {};
    expect(confirmed.order).toEqual({
      ...kept,
      state: OrderState.PAID,
      paymentReference: "wire \u{1F4B6} 7",
      updateTime: timestampFromMs(clock.nowMs),
      position: confirmed.commit?.position,
    });
    expect(confirmed.stocks).toMatchObject([level("a", 8n, 0n, 2n), level("b", 4n, 0n, 1n)]);
    expect((await orders().getOrder(it)).order).toEqual(confirmed.order);
    expect(await userOf(it.shopId)).toMatchObject({ balanceMinor: 1000n, lifetimeValueMinor: 300n });
    expect((await clients().admin.getShop(it)).shop).toMatchObject({ openOrderCount: 0n });

    clock.nowMs += 1000;
    const fulfilled = await orders().fulfillOrder({ ...it, reference: "parcel 7" });
    expect(fulfilled.order).toEqual({
      ...confirmed.order,
      state: OrderState.FULFILLED,
      fulfillReference: "parcel 7",
      updateTime: timestampFromMs(clock.nowMs),
      position: fulfilled.commit?.position,
    });
    expect((await orders().getOrder(it)).order).toEqual(fulfilled.order);
  });

  test("an order that is not paid is cancelled, and its units are there again", async () => {
    const it = await withOrder(external);
    const cancelled = await orders().cancelOrder({ ...it, reason: "changed my mind" });
    expect(cancelled.order).toMatchObject({ state: OrderState.CANCELLED, cancelReason: "changed my mind" });
    expect(cancelled.order?.expireTime).toBeUndefined();
    expect(cancelled.stocks).toMatchObject([level("a", 10n, 0n, 0n), level("b", 5n, 0n, 0n)]);
    expect((await orders().getOrder(it)).order).toEqual(cancelled.order);
    expect(await userOf(it.shopId)).toMatchObject({ orderCount: 1n, lifetimeValueMinor: 0n });
  });

  test("a hold's units wait for their payment at the hold's price", async () => {
    const shopId = await createShop(clients(), content);
    await clients().inventory.holdStock({ shopId, holdId: "h1", userId: "ann", lines: [line("a", 2)] });
    await clients().inventory.putProduct({ shopId, sku: "a", priceMinor: 7n });
    const placed = await orders().placeOrder({ shopId, orderId: "o1", holdId: "h1", ...external });
    expect(placed.order).toMatchObject({ state: OrderState.PENDING_PAYMENT, amountMinor: 200n, holdId: "h1" });
    expect(placed.stocks).toMatchObject([level("a", 8n, 2n, 0n)]);
    expect(placed.balanceMinor).toBeUndefined();
    const confirmed = await orders().confirmOrder({ shopId, orderId: "o1" });
    expect(confirmed.order).toMatchObject({ state: OrderState.PAID, amountMinor: 200n, holdId: "h1" });
    expect(confirmed.stocks).toMatchObject([level("a", 8n, 0n, 2n)]);
  });

  test("an order waits to the very millisecond, whoever looks first", async () => {
    const it = await withOrder({ ...external, lines: [line("a", 10)] });
    clock.nowMs += pendingMs - 1;
    expect((await orders().getOrder(it)).order?.state).toBe(OrderState.PENDING_PAYMENT);
    const others = { shopId: it.shopId, orderId: "o2", paymentMethod: PaymentMethod.NONE, lines: [line("a", 10)] };
    await expectRefusal(clients(), it.shopId, () => orders().placeOrder(others), {
      reason: "HELD_OUT",
      retryMs: 1000,
    });
    clock.nowMs += 1;
    const { order } = await orders().getOrder(it);
    expect(order).toMatchObject({
      state: OrderState.CANCELLED,
      cancelReason: "EXPIRED",
      updateTime: timestampFromMs(clock.nowMs),
    });
    expect(order?.expireTime).toBeUndefined();
    expect(await stockOf(it.shopId)).toMatchObject([level("a", 10n, 0n, 0n), {}]);
    await orders().placeOrder(others);
  });

  test.each(["confirmOrder", "cancelOrder", "fulfillOrder", "refundOrder"] as const)(
    "%s finds an order cancelled from the millisecond it is due",
    async (method) => {
      const it = await withOrder(external);
      clock.nowMs += pendingMs;
      const refusal = await refusalOf(orders()[method](it));
      expect(refusal).toMatchObject({ code: Code.FailedPrecondition, reason: "ORDER_STATE_INVALID" });
      expect(refusal.metadata).toMatchObject({ order_id: "o1", state: "CANCELLED", cancel_reason: "EXPIRED" });
      const cancelledBefore = 'order "o1" is CANCELLED already (EXPIRED), by another call: "rpc" differs';
      expect(refusal.message).toBe(method === "cancelOrder" ? cancelledBefore : 'order "o1" is CANCELLED: EXPIRED');
      expect(await stockOf(it.shopId)).toMatchObject([level("a", 10n, 0n, 0n), level("b", 5n, 0n, 0n)]);
    },
  );

  test("the longest reason of a cancelled order is told whole", async () => {
    const it = await withOrder(external);
    const reason = "\u{1f3ae}".repeat(256);
    await orders().cancelOrder({ ...it, reason });
    expect(await refusalOf(orders().confirmOrder(it))).toMatchObject({
      reason: "ORDER_STATE_INVALID",
      metadata: { state: "CANCELLED", cancel_reason: reason },
    });
  });

  test("a gateway's order is the payment worker's, and nothing but its answer ends it", async () => {
    const it = await withOrder({ paymentMethod: PaymentMethod.GATEWAY });
    expect((await orders().getOrder(it)).order?.expireTime).toBeUndefined();
    clock.nowMs += 24 * 3_600_000;
    for (const method of ["confirmOrder", "cancelOrder"] as const) {
      expect(await refusalOf(orders()[method](it))).toMatchObject({
        reason: "ORDER_STATE_INVALID",
        message: 'order "o1" is PENDING_PAYMENT; it is paid through the gateway: the payment worker ends it',
        metadata: { state: "PENDING_PAYMENT", payment_method: "GATEWAY" },
      });
    }
    expect((await orders().getOrder(it)).order?.cancelReason).toBe("");
  });

  test.each([
    [PaymentMethod.WALLET, "WALLET", "it was paid from the wallet when it was placed"],
    [PaymentMethod.NONE, "NONE", "it is sold without payment"],
  ])(
    "who asks to end the payment of an order by method %d learns how it was paid",
    async (paymentMethod, name, why) => {
      const it = await withOrder({ paymentMethod });
      for (const method of ["confirmOrder", "cancelOrder"] as const) {
        expect(await refusalOf(orders()[method](it))).toMatchObject({
          reason: "ORDER_STATE_INVALID",
          message: `order "o1" is PAID; ${why}`,
          metadata: { state: "PAID", payment_method: name },
        });
      }
    },
  );

  test.each([
    ["confirmOrder", { paymentReference: "7" }, { paymentReference: "8" }, "payment_reference", "PAID", "PAID already"],
    ["cancelOrder", { reason: "no" }, { reason: "never" }, "reason", "CANCELLED", "CANCELLED already (no)"],
  ] as const)("%s is repeated by an equal body, and by no other", async (method, fields, others, field, state, is) => {
    const it = await withOrder(external);
    const first = await orders()[method]({ ...it, ...fields });
    clock.nowMs += pendingMs;
    expect(await orders()[method]({ ...it, ...fields })).toEqual(asReplay(first));
    await expectRefusal(clients(), it.shopId, () => orders()[method]({ ...it, ...others }), {
      code: Code.FailedPrecondition,
      reason: "ORDER_STATE_INVALID",
      message: `order "o1" is ${is}, by another call: "${field}" differs`,
      metadata: expect.objectContaining({ order_id: "o1", state, field }),
    });
  });

  test("fulfillOrder and a whole refund are repeated by an equal body, and by no other", async () => {
    const it = await paid();
    const fulfilled = await orders().fulfillOrder({ ...it, reference: "p" });
    expect(await orders().fulfillOrder({ ...it, reference: "p" })).toEqual(asReplay(fulfilled));
    const invalid = (state: string, field: string) => ({
      reason: "ORDER_STATE_INVALID",
      metadata: expect.objectContaining({ order_id: "o1", state, field }),
    });
    const otherParcel = () => orders().fulfillOrder({ ...it, reference: "q" });
    await expectRefusal(clients(), it.shopId, otherParcel, invalid("FULFILLED", "reference"));
    const refunded = await orders().refundOrder({ ...it, reason: "r", restock: true });
    expect(await orders().refundOrder({ ...it, reason: "r", restock: true })).toEqual(asReplay(refunded));
    const otherRefund = () => orders().refundOrder({ ...it, reason: "r" });
    await expectRefusal(clients(), it.shopId, otherRefund, invalid("REFUNDED", "restock"));
  });

  test("confirmOrder and fulfillOrder are repeated whatever became of the order since", async () => {
    const it = await withOrder(external);
    const confirm = (paymentReference: string) => orders().confirmOrder({ ...it, paymentReference });
    const fulfill = (reference: string) => orders().fulfillOrder({ ...it, reference });
    const refuses = (call: () => Promise<unknown>, state: string, field: string) =>
      expectRefusal(clients(), it.shopId, call, {
        code: Code.FailedPrecondition,
        reason: "ORDER_STATE_INVALID",
        metadata: expect.objectContaining({ order_id: "o1", state, field }),
      });
    const confirmed = await confirm("7");
    await orders().refundOrder({ ...it, amountMinor: 50n });
    expect(await confirm("7")).toEqual(asReplay(confirmed));
    await refuses(() => confirm("8"), "PAID", "payment_reference");
    const fulfilled = await fulfill("p");
    expect(await confirm("7")).toEqual(asReplay(confirmed));
    await orders().refundOrder({ ...it, amountMinor: 50n });
    const expectAnswered = async (state: string) => {
      expect(await confirm("7")).toEqual(asReplay(confirmed));
      expect(await fulfill("p")).toEqual(asReplay(fulfilled));
      await refuses(() => confirm("8"), state, "payment_reference");
      await refuses(() => fulfill("q"), state, "reference");
      await emptyRedis();
      expect(await confirm("7")).toEqual(asReplay(confirmed));
      expect(await fulfill("p")).toEqual(asReplay(fulfilled));
      await refuses(() => confirm("8"), state, "payment_reference");
    };
    await expectAnswered("FULFILLED");
    await orders().refundOrder(it);
    await expectAnswered("REFUNDED");
  });

  test("money and units are given back in parts until nothing is left", async () => {
    const it = await paid();
    const first = await orders().refundOrder({ ...it, amountMinor: 50n, restockLines: [line("a", 1)], reason: "late" });
    expect(first.order).toMatchObject({ state: OrderState.PAID, refundedMinor: 50n, amountMinor: 300n });
    expect(first.stocks).toMatchObject([level("a", 9n, 0n, 1n)]);
    expect(first.balanceMinor).toBe(750n);
    await orders().fulfillOrder(it);
    const second = await orders().refundOrder({ ...it, amountMinor: 249n });
    expect(second.order).toMatchObject({ state: OrderState.FULFILLED, refundedMinor: 299n });
    expect(second.stocks).toEqual([]);
    const last = await orders().refundOrder({ ...it, restock: true });
    expect(last.order).toMatchObject({ state: OrderState.REFUNDED, refundedMinor: 300n });
    expect(last.stocks).toMatchObject([level("a", 10n, 0n, 0n), level("b", 5n, 0n, 0n)]);
    expect(last.balanceMinor).toBe(1000n);
    expect((await orders().getOrder(it)).order).toEqual(last.order);
    expect(await userOf(it.shopId)).toMatchObject({ balanceMinor: 1000n, lifetimeValueMinor: 0n, orderCount: 1n });
  });

  test("no refund moves money that was never here", async () => {
    const shopId = await createShop(clients(), content);
    const order = { shopId, userId: "ann", lines: [line("a", 2)] };
    await orders().placeOrder({ ...order, orderId: "free", paymentMethod: PaymentMethod.NONE });
    await orders().placeOrder({ ...order, orderId: "charged", ...external });
    await orders().confirmOrder({ shopId, orderId: "charged" });
    expect(await userOf(shopId)).toMatchObject({ lifetimeValueMinor: 200n });
    for (const orderId of ["free", "charged"]) {
      const answer = await orders().refundOrder({ shopId, orderId, restock: true });
      expect(answer.order).toMatchObject({ state: OrderState.REFUNDED, refundedMinor: 200n });
      expect(answer.balanceMinor).toBeUndefined();
    }
    expect(await userOf(shopId)).toMatchObject({ balanceMinor: 1000n, lifetimeValueMinor: 0n });
    expect(await stockOf(shopId)).toMatchObject([level("a", 10n, 0n, 0n), {}]);
  });

  test.each<[string, object, Partial<Awaited<ReturnType<typeof refusalOf>>>]>([
    [
      "more than was paid",
      { amountMinor: 301n },
      {
        code: Code.FailedPrecondition,
        reason: "REFUND_EXCEEDS_PAID",
        metadata: expect.objectContaining({ paid_minor: "300", refunded_minor: "0", amount_minor: "301" }),
      },
    ],
    [
      "all units for a part of the money",
      { amountMinor: 299n, restock: true },
      { code: Code.InvalidArgument, reason: "VALIDATION_FAILED", fields: ["restock"] },
    ],
    [
      "more units than were sold",
      { restockLines: [line("a", 1), line("a", 2)] },
      { code: Code.InvalidArgument, reason: "VALIDATION_FAILED", fields: ["restock_lines"] },
    ],
    [
      "units of what was not sold",
      { restockLines: [line("c", 1)] },
      { code: Code.InvalidArgument, reason: "VALIDATION_FAILED", fields: ["restock_lines"] },
    ],
    ["nothing", { amountMinor: 0n }, { code: Code.InvalidArgument, fields: ["amount_minor"] }],
    ["all and some", { restock: true, restockLines: [line("a", 1)] }, { code: Code.InvalidArgument }],
  ])("RefundOrder refuses %s", async (_, fields, expected) => {
    const it = await paid();
    await expectRefusal(clients(), it.shopId, () => orders().refundOrder({ ...it, ...fields }), expected);
  });

  test("RefundOrder refuses one minor unit more than is left, and units that came back before", async () => {
    const it = await paid();
    await orders().refundOrder({ ...it, amountMinor: 100n, restockLines: [line("a", 1)] });
    await expectRefusal(clients(), it.shopId, () => orders().refundOrder({ ...it, amountMinor: 201n }), {
      reason: "REFUND_EXCEEDS_PAID",
      metadata: expect.objectContaining({ paid_minor: "300", refunded_minor: "100" }),
    });
    const twice = { ...it, amountMinor: 1n, restockLines: [line("a", 2)] };
    await expectRefusal(clients(), it.shopId, () => orders().refundOrder(twice), { fields: ["restock_lines"] });
    await orders().refundOrder({ ...it, amountMinor: 200n, restockLines: [line("a", 1)] });
  });

  test.each(["confirmOrder", "cancelOrder", "refundOrder", "fulfillOrder", "getOrder"] as const)(
    "%s refuses an unknown order",
    async (method) => {
      const shopId = await createShop(clients());
      await expectRefusal(clients(), shopId, () => orders()[method]({ shopId, orderId: "none" }), {
        code: Code.NotFound,
        reason: "ORDER_NOT_FOUND",
        metadata: expect.objectContaining({ order_id: "none" }),
      });
    },
  );

  const reach = {
    PENDING_PAYMENT: () => withOrder(external),
    PAID: () => paid(),
    FULFILLED: async () => {
      const it = await paid();
      await orders().fulfillOrder(it);
      return it;
    },
    CANCELLED: async () => {
      const it = await withOrder(external);
      await orders().cancelOrder({ ...it, reason: "x" });
      return it;
    },
    REFUNDED: async () => {
      const it = await paid();
      await orders().refundOrder({ ...it, reason: "x" });
      return it;
    },
  };
  test.each([
    ["confirmOrder", ["PAID", "FULFILLED", "CANCELLED", "REFUNDED"]],
    ["cancelOrder", ["PAID", "FULFILLED", "CANCELLED", "REFUNDED"]],
    ["fulfillOrder", ["PENDING_PAYMENT", "FULFILLED", "CANCELLED", "REFUNDED"]],
    ["refundOrder", ["PENDING_PAYMENT", "CANCELLED", "REFUNDED"]],
  ] as const)("%s refuses an order that is %j", async (method, states) => {
    for (const state of states) {
      const it = await reach[state]();
      const other = method === "fulfillOrder" ? { ...it, reference: "other" } : it;
      await expectRefusal(clients(), it.shopId, () => orders()[method](other), {
        code: Code.FailedPrecondition,
        reason: "ORDER_STATE_INVALID",
        metadata: expect.objectContaining({ order_id: "o1", state }),
      });
    }
  });

  test("an order id stays used, whatever became of its order", async () => {
    for (const state of ["PENDING_PAYMENT", "CANCELLED", "REFUNDED", "FULFILLED"] as const) {
      const it = await reach[state]();
      const body = { ...it, userId: "ann", lines: [line("a", 2), line("b", 1)] };
      const method = state === "PENDING_PAYMENT" || state === "CANCELLED" ? external : {};
      const again = await orders().placeOrder({ ...body, ...method });
      expect(again.commit?.replayed).toBe(true);
      expect(again.order?.position).toBe(again.commit?.position);
      const other = () => orders().placeOrder({ ...body, lines: [line("a", 1)] });
      await expectRefusal(clients(), it.shopId, other, { code: Code.AlreadyExists, reason: "ORDER_EXISTS" });
    }
  });

  test("max_per_user counts over the whole history, less what was cancelled, expired or given back", async () => {
    const shopId = await createShop(clients(), content);
    await clients().inventory.putProduct({ shopId, sku: "a", maxPerUser: 3 });
    const place = (orderId: string, quantity: number, fields: object = {}) =>
      orders().placeOrder({ shopId, orderId, userId: "ann", lines: [line("a", quantity)], ...fields });
    const expectFull = () =>
      expectRefusal(clients(), shopId, () => place("more", 1), {
        reason: "PER_USER_LIMIT",
        metadata: expect.objectContaining({ had_count: "3", limit: "3" }),
      });
    await place("kept", 1);
    await place("cancelled", 2, external);
    await expectFull();
    await orders().cancelOrder({ shopId, orderId: "cancelled" });
    await place("expired", 2, external);
    await expectFull();
    clock.nowMs += pendingMs;
    await place("returned", 2);
    await expectFull();
    await emptyRedis();
    await expectFull();
    await orders().refundOrder({ shopId, orderId: "returned", amountMinor: 1n, restockLines: [line("a", 1)] });
    await place("again", 1);
    await expectFull();
    await emptyRedis();
    await expectFull();
    await orders().refundOrder({ shopId, orderId: "returned", restock: true });
    await place("last", 1);
    await expectFull();
  });

  test("a first limit counts what was sold before it, less what came back", async () => {
    const shopId = await createShop(clients(), content);
    const place = (orderId: string, quantity: number, fields: object = {}) =>
      orders().placeOrder({ shopId, orderId, userId: "ann", lines: [line("a", quantity)], ...fields });
    await place("kept", 3);
    await place("cancelled", 1, external);
    await place("pending", 1, external);
    await orders().cancelOrder({ shopId, orderId: "cancelled" });
    await orders().refundOrder({ shopId, orderId: "kept", amountMinor: 1n, restockLines: [line("a", 2)] });
    await clients().inventory.putProduct({ shopId, sku: "a", maxPerUser: 3 });
    await expectRefusal(clients(), shopId, () => place("two", 2), {
      reason: "PER_USER_LIMIT",
      metadata: expect.objectContaining({ had_count: "2" }),
    });
    await place("one", 1);
  });

  test("a cart of a hundred SKUs is told of every one that fails", async () => {
    const skus = Array.from({ length: 100 }, (_, index) => `s${index}`);
    const stock = Object.fromEntries(skus.map((sku, index) => [sku, index % 2 === 0 ? 1 : 5]));
    const shopId = await createShop(clients(), { stock });
    const cart = { shopId, lines: skus.map((sku) => line(sku, 2)) };
    const failing = skus.filter((sku) => stock[sku] === 1).map((sku) => `SOLD_OUT sku:${sku}`);
    await expectRefusal(clients(), shopId, () => orders().placeOrder({ ...cart, ...external }), {
      reason: "SOLD_OUT",
      violations: failing,
    });
  });

  test("orders live on when Redis loses everything between their steps", async () => {
    const it = await withOrder(external);
    const { order: waiting } = await orders().getOrder(it);
    await emptyRedis();
    expect((await orders().getOrder(it)).order).toEqual(waiting);
    await orders().confirmOrder({ ...it, paymentReference: "7" });
    await emptyRedis();
    expect((await orders().confirmOrder({ ...it, paymentReference: "7" })).commit?.replayed).toBe(true);
    await orders().fulfillOrder({ ...it, reference: "p" });
    await emptyRedis();
    const part = await orders().refundOrder({ ...it, amountMinor: 100n, restockLines: [line("b", 1)] });
    expect(part.order).toMatchObject({ state: OrderState.FULFILLED, paymentReference: "7", fulfillReference: "p" });
    await emptyRedis();
    const rest = await orders().refundOrder({ ...it, restock: true });
    expect(rest.order).toMatchObject({ state: OrderState.REFUNDED, refundedMinor: 300n });
    expect(rest.stocks).toMatchObject([level("a", 10n, 0n, 0n)]);
    expect(await stockOf(it.shopId)).toMatchObject([level("a", 10n, 0n, 0n), level("b", 5n, 0n, 0n)]);
  });

  test("an order whose time passed while Redis was empty is cancelled", async () => {
    const it = await withOrder(external);
    await emptyRedis();
    clock.nowMs += pendingMs;
    expect((await orders().getOrder(it)).order).toMatchObject({ state: OrderState.CANCELLED, cancelReason: "EXPIRED" });
    expect(await stockOf(it.shopId)).toMatchObject([level("a", 10n, 0n, 0n), level("b", 5n, 0n, 0n)]);
  });

  test("twenty callers at once never refund more than was paid", async () => {
    const it = await paid();
    const answers = await Promise.allSettled(
      Array.from({ length: 20 }, () => orders().refundOrder({ ...it, amountMinor: 29n })),
    );
    // Ten parts of 29 leave 10 of 300, which no caller asked for.
    expect(answers.filter(({ status }) => status === "fulfilled")).toHaveLength(10);
    for (const answer of answers.filter((each) => each.status === "rejected")) {
      expect(await refusalOf(Promise.reject(answer.reason))).toMatchObject({ reason: "REFUND_EXCEEDS_PAID" });
    }
    expect((await orders().getOrder(it)).order).toMatchObject({ state: OrderState.PAID, refundedMinor: 290n });
    expect(await userOf(it.shopId)).toMatchObject({ balanceMinor: 990n, lifetimeValueMinor: 10n });
  });

  test("twenty callers at once end an order in one way", async () => {
    const it = await withOrder(external);
    const calls = Array.from({ length: 20 }, (_, index) =>
      index % 2 === 0 ? orders().confirmOrder(it) : orders().cancelOrder(it),
    );
    const answers = await Promise.allSettled(calls);
    const done = answers.filter((each) => each.status === "fulfilled").map(({ value }) => value.order?.state);
    expect(new Set(done).size).toBe(1);
    expect(done).toHaveLength(10);
    const { order } = await orders().getOrder(it);
    const held = order?.state === OrderState.PAID ? level("a", 8n, 0n, 2n) : level("a", 10n, 0n, 0n);
    expect(await stockOf(it.shopId)).toMatchObject([held, {}]);
  });
});
