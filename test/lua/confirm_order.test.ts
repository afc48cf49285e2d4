import { describe, expect, test } from "vitest";
import { givenCart } from "./cart-refusals.ts";
import {
  describeBadArguments,
  describeExpiry,
  describeMutation,
  describeRefusals,
  expectNoChange,
  type GoodCall,
} from "./decision-tables.ts";
import { expectCommit, type LuaShop, largest, level, threeLines, useShops } from "./fixture.ts";
import {
  badRecords,
  goneFields,
  notFound,
  orderJson,
  placedMs,
  readRecord,
  recordOf,
  wrongState,
} from "./order-records.ts";

const shops = useShops();
const [wallet, external, none, gateway] = [1, 2, 3, 4];
const place = (payment_method: number) => async (shop: LuaShop) => {
  await givenCart(shop);
  await shop.commit("placeOrder", { order_id: "o1", user_id: "u1", payment_method }, threeLines);
};
const call: GoodCall = {
  script: "confirmOrder",
  given: place(external),
  args: { order_id: "o1", payment_reference_json: '"ch \\"7\\" %d"' },
};
const byWorker = { by_worker: 1, charge_id_json: '"ch_1"', payment_reference_json: '""' };

describe("ConfirmOrder", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, {
    ...badRecords,
    payment_reference_json: [""],
    charge_id_json: [""],
    by_worker: ["", "2"],
  });
  describeExpiry(shops, call, { touched: "ps5", refused: { args: { by_worker: 1 }, reason: "ORDER_STATE_INVALID" } });

  const dueMs = placedMs + 600_000;
  describeRefusals(shops, call, [
    notFound,
    wrongState("fulfilled", "FULFILLED", { args: { order_id: "o2", ...recordOf({ state: 3, payment_method: 2 }) } }),
    wrongState("refunded", "REFUNDED", { args: { order_id: "o2", ...recordOf({ state: 5, payment_method: 2 }) } }),
    wrongState("cancelled", "CANCELLED", { args: { order_id: "o2", ...recordOf({ state: 4, payment_method: 2 }) } }),
    wrongState("a wallet's order is paid already", "PAID", {
      args: { order_id: "o2", ...recordOf() },
      metadata: { order_id: "o1", state: "PAID", payment_method: "WALLET" },
    }),
    wrongState("the worker has nothing to say of an external payment", "PENDING_PAYMENT", {
      args: byWorker,
      metadata: { order_id: "o1", state: "PENDING_PAYMENT", payment_method: "EXTERNAL" },
    }),
    wrongState("cancelled, for a reason", "CANCELLED", {
      args: { order_id: "o2", ...recordOf({ state: 4, payment_method: 2, cancel_reason: 'no "7"/8' }) },
      metadata: { order_id: "o1", state: "CANCELLED", cancel_reason: 'no "7"/8' },
    }),
  ]);

  test("leaves a payment gateway's order to the worker, in every state", async () => {
    const shop = await shops.open();
    await place(gateway)(shop);
    expect(await shop.run("confirmOrder", call.args)).toMatchObject({
      reason: "ORDER_STATE_INVALID",
      metadata: { state: "PENDING_PAYMENT", payment_method: "GATEWAY" },
    });
    await shop.commit("confirmOrder", { order_id: "o1", ...byWorker });
    const record = await readRecord(shop, "o1");
    expect(await shop.run("confirmOrder", { ...call.args, ...record })).toMatchObject({
      reason: "ORDER_STATE_INVALID",
      metadata: { state: "PAID" },
    });
    expect(await shop.run("confirmOrder", { order_id: "o1", ...byWorker, ...record })).toMatchObject({
      kind: "EXISTS",
      at: 9,
    });
  });

  const sold = {
    stocks: [level("ps5", [2, 0, 3], 100), level("tv", [4, 0, 1], 100)],
    stock: {
      "ps5:held": "0",
      "ps5:sold": "3",
      "ps5:sales": "1 3 300",
      "tv:held": "0",
      "tv:sold": "1",
      "tv:sales": "1 1 100",
    },
    stats: { orders: "1", items: "4", revenue: "400", pending: "0" },
  };

  test("sells the held units, and counts the order as paid", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("confirmOrder", call.args);
    const order = orderJson({
      payment_method: external,
      payment_reference: 'ch "7" %d',
      confirm_position: 9,
      update_time: shop.nowMs,
      position: 9,
    });
    expectCommit(shop, observed, [{ order_confirmed: { order, stocks: sold.stocks, lifetime_value_minor: 400 } }], {
      stock: sold.stock,
      stats: sold.stats,
      users: { "u1:purchases": "1 400" },
      orders: goneFields("o1"),
      due: { "order/o1": null },
      due_skus: { [`ps5:000${dueMs}:order/o1`]: null, [`tv:000${dueMs}:order/o1`]: null },
      recent_0: { "order:o1": "8 9" },
    });
  });

  test("is how the payment worker settles what the gateway charged", async () => {
    const shop = await shops.open();
    await place(gateway)(shop);
    const observed = await shop.observe("confirmOrder", { order_id: "o1", ...byWorker });
    const settled = { payment_method: gateway, charge_id: "ch_1", confirm_position: 9 };
    const order = orderJson({ ...settled, update_time: shop.nowMs, position: 9 });
    expectCommit(shop, observed, [{ order_confirmed: { order, stocks: sold.stocks, lifetime_value_minor: 400 } }], {
      stock: sold.stock,
      stats: sold.stats,
      users: { "u1:purchases": "1 400" },
      orders: goneFields("o1"),
      recent_0: { "order:o1": "8 9" },
    });
  });

  test("confirms a guest's order of what was held, at the price it was held at", async () => {
    const shop = await shops.open();
    await givenCart(shop);
    await shop.hold("h1", "ps5", 2);
    await shop.commit("putProduct", { sku: "ps5", price_minor: 7 });
    await shop.commit("placeOrder", { order_id: "o1", payment_method: external, hold_id: "h1" });
    const { reply, changes } = await shop.observe("confirmOrder", call.args);
    const [event] = JSON.parse((reply as { payload: string }).payload);
    expect(event.order_confirmed).toMatchObject({ order: { user_id: "", hold_id: "h1", amount_minor: 200, state: 2 } });
    expect(event.order_confirmed).not.toHaveProperty("lifetime_value_minor");
    expect(changes).toMatchObject({ stock: { "ps5:held": "0", "ps5:sold": "2", "ps5:sales": "1 2 200" } });
    expect(changes).not.toHaveProperty("users");
  });

  test("takes sums to exactly 2^53-1", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.redis.hset(shop.keys.users as string, "u1:purchases", `1 ${largest - 400}`);
    await shop.redis.hset(shop.keys.stats as string, { revenue: String(largest - 400), items: String(largest - 4) });
    const { changes } = await shop.observe("confirmOrder", call.args);
    expect(changes).toMatchObject({
      users: { "u1:purchases": `1 ${largest}` },
      stats: { revenue: String(largest), items: String(largest) },
    });
  });

  test("refuses an order from the millisecond it is due, which is cancelled first", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const restore = await shop.snapshot();
    await shop.commit("confirmOrder", { ...call.args, clock_ms: dueMs - 1 });
    await restore();
    const late = { ...call.args, clock_ms: dueMs };
    expect(await shop.run("confirmOrder", late)).toMatchObject({ kind: "LOAD_FIRST", position: 9 });
    expect(await shop.run("confirmOrder", { ...late, ...(await readRecord(shop, "o1")) })).toMatchObject({
      reason: "ORDER_STATE_INVALID",
      metadata: { state: "CANCELLED", cancel_reason: "EXPIRED" },
    });
  });

  test.each([wallet, none])("never asks who paid for an order by method %d", async (payment_method) => {
    const shop = await shops.open();
    await place(payment_method)(shop);
    for (const by_worker of [0, 1]) {
      const reply = await shop.run("confirmOrder", { ...call.args, by_worker, ...(await readRecord(shop, "o1")) });
      expect(reply).toMatchObject({ reason: "ORDER_STATE_INVALID", metadata: { state: "PAID" } });
    }
  });

  test("asks for the row of an order that was paid, and answers with the commit that confirmed it", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const at = await shop.commit("confirmOrder", call.args);
    expect(await shop.run("confirmOrder", call.args)).toMatchObject({ kind: "LOAD_FIRST", position: at });
    const stale = { ...(await readRecord(shop, "o1")), as_of_position: at - 1 };
    expect(await shop.run("confirmOrder", { ...call.args, ...stale })).toMatchObject({ kind: "LOAD_FIRST" });
    const confirmed = { kind: "EXISTS", at, fields: expect.arrayContaining(["commit"]) };
    const again = async () => {
      const record = await readRecord(shop, "o1");
      return expectNoChange(shop, () => shop.run("confirmOrder", { ...call.args, ...record }));
    };
    expect(await again()).toMatchObject(confirmed);
    const refund = { order_id: "o1", amount_minor: 1, reason_json: '""', restock: 0 };
    await shop.commit("refundOrder", { ...refund, ...(await readRecord(shop, "o1")) });
    expect(await again()).toMatchObject(confirmed);
    await shop.commit("fulfillOrder", { order_id: "o1", reference_json: '""', ...(await readRecord(shop, "o1")) });
    expect(await again()).toMatchObject(confirmed);
    await shop.commit("refundOrder", { ...refund, amount_minor: "", ...(await readRecord(shop, "o1")) });
    expect(await again()).toMatchObject(confirmed);
  });
});
