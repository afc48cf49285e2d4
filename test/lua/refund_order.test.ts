import { describe, expect, test } from "vitest";
import { givenCart } from "./cart-refusals.ts";
import {
  boundaryNumbers,
  describeBadArguments,
  describeExpiry,
  describeMutation,
  describeRefusals,
  type GoodCall,
  notPositive,
  present,
} from "./decision-tables.ts";
import { cart, expectCommit, type LuaShop, largest, level, threeLines, useShops, type Value } from "./fixture.ts";
import { badRecords, describeRecord, notFound, orderJson, readRecord, recordOf, wrongState } from "./order-records.ts";

const shops = useShops();
const [wallet, external, none, gateway] = [1, 2, 3, 4];
const place =
  (payment_method: number, args: Record<string, Value> = {}) =>
  async (shop: LuaShop) => {
    await givenCart(shop);
    await shop.commit("placeOrder", { order_id: "o1", user_id: "u1", payment_method, ...args }, threeLines);
  };
const call: GoodCall = {
  script: "refundOrder",
  given: place(wallet),
  args: { order_id: "o1", ...recordOf(), restock: 1, reason_json: '"sorry \\"7\\" %d"' },
};
const partial = { ...call.args, amount_minor: 100, restock: 0 };
const overflow = { reason: "BALANCE_LIMIT", metadata: { amount_minor: "400" } };
const set = (key: string, field: string, value: number) => (shop: LuaShop) =>
  shop.redis.hset(shop.keys[key] as string, field, String(value));
const excess = (title: string, sku: string, tail: Value[], args: Record<string, Value> = {}) => ({
  title,
  args: { restock: 0, ...args },
  tail,
  reason: "RESTOCK_EXCEEDS_SOLD",
  metadata: { order_id: "o1", sku },
});

describe("RefundOrder", () => {
  describeMutation(shops, call);
  describeBadArguments(
    shops,
    call,
    { ...badRecords, amount_minor: present(notPositive), reason_json: [""], restock: ["", "2"] },
    [["ps5"], ["ps5", 1], ["", 1], ["ps5", 0], ["ps5", "x"], Array.from({ length: 101 }, () => ["ps5", 1]).flat()],
  );
  describeRecord(shops, call, { state: 5, fields: { refunded_minor: 400 } });
  describeExpiry(shops, call, {
    touched: "ps5",
    refused: { args: { amount_minor: 401 }, reason: "REFUND_EXCEEDS_PAID" },
  });
  describeRefusals(shops, call, [
    notFound,
    wrongState("it waits for its payment", "PENDING_PAYMENT", {
      given: (shop) => shop.commit("placeOrder", { order_id: "o2", payment_method: external }, cart(["ps5", 1])),
      args: { order_id: "o2", record: "" },
      metadata: { order_id: "o2", state: "PENDING_PAYMENT" },
    }),
    wrongState("cancelled", "CANCELLED", { args: recordOf({ state: 4 }) }),
    wrongState("another part when nothing is left", "REFUNDED", {
      args: { amount_minor: 100, restock: 0, ...recordOf({ state: 5, refunded_minor: 400, refund_count: 2 }) },
    }),
    {
      title: "one minor unit more than is left",
      args: { amount_minor: 301, ...recordOf({ refunded_minor: 100 }) },
      reason: "REFUND_EXCEEDS_PAID",
      metadata: { order_id: "o1", amount_minor: "301", paid_minor: "400", refunded_minor: "100" },
    },
    {
      title: "a part of the money, all of the units",
      args: { amount_minor: 299, ...recordOf({ refunded_minor: 100 }) },
      reason: "RESTOCK_PARTIAL",
      metadata: { order_id: "o1" },
    },
    excess("a SKU that the order does not have", "nope", ["ps5", 1, "nope", 1]),
    excess("more than was sold, on two lines", "ps5", ["ps5", 2, "tv", 1, "ps5", 2]),
    excess("what was given back before", "ps5", ["ps5", 2], recordOf({ restocked: [{ sku: "ps5", quantity: 2 }] })),
    { title: "a wallet past 2^53-1", given: set("users", "u1:balance", largest - 399), ...overflow },
    { title: "the shop's refunds past 2^53-1", given: set("stats", "refunded", largest - 399), ...overflow },
  ]);

  const restocked = [
    { sku: "ps5", quantity: 3 },
    { sku: "tv", quantity: 1 },
  ];
  const all = {
    stocks: [level("ps5", [5, 0, 0], 100), level("tv", [5, 0, 0], 100)],
    stock: { "ps5:available": "5", "ps5:sold": "0", "tv:available": "5", "tv:sold": "0" },
    event: { amount_minor: 400, reason: 'sorry "7" %d', restock_lines: restocked, refund_number: 1 },
  };

  test("gives everything back into wallet and stock; what was ever sold stays counted", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("refundOrder", call.args);
    const order = orderJson({
      state: 5,
      refunded_minor: 400,
      refund_count: 1,
      restocked,
      update_time: shop.nowMs,
      position: 9,
    });
    const buyer = { balance_minor: 1_000_000, lifetime_value_minor: 0 };
    expectCommit(shop, observed, [{ order_refunded: { order, stocks: all.stocks, ...buyer, ...all.event } }], {
      stock: all.stock,
      users: { "u1:balance": "1000000", "u1:purchases": "1 0" },
      stats: { refunded: "400" },
      recent_0: { "order:o1": "8 9" },
    });
    expect((await shop.dump()).stock).toMatchObject({ "ps5:sales": "1 3 300", "tv:sales": "1 1 100" });
  });

  test("answers a repeat of the one refund that took everything", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const everything = { ...call.args, amount_minor: 400 };
    const at = await shop.commit("refundOrder", everything);
    const again = { ...everything, ...(await readRecord(shop, "o1")) };
    expect(await shop.run("refundOrder", again)).toMatchObject({ kind: "EXISTS", at });
  });

  test("gives a part of the money and of the units back, in the order of the order's lines", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("refundOrder", partial, ["tv", 1, "ps5", 1, "ps5", 1]);
    const restock_lines = [
      { sku: "ps5", quantity: 2 },
      { sku: "tv", quantity: 1 },
    ];
    const order = orderJson({
      refunded_minor: 100,
      refund_count: 1,
      restocked: restock_lines,
      update_time: shop.nowMs,
      position: 9,
    });
    const stocks = [level("ps5", [4, 0, 1], 100), level("tv", [5, 0, 0], 100)];
    const event = { ...all.event, amount_minor: 100, restock_lines, balance_minor: 999_700, lifetime_value_minor: 300 };
    expectCommit(shop, observed, [{ order_refunded: { order, stocks, ...event } }], {
      stock: { "ps5:available": "4", "ps5:sold": "1", "tv:available": "5", "tv:sold": "0" },
      users: { "u1:balance": "999700", "u1:purchases": "1 300" },
      stats: { refunded: "100" },
      recent_0: { "order:o1": "8 9" },
    });
  });

  test("goes on where the refunds before it stopped, and ends with nothing left", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const events: Record<string, object>[] = [];
    const refund = async (args: Record<string, Value>, tail: Value[] = []) => {
      const { reply } = await shop.observe(
        "refundOrder",
        { ...partial, ...(await readRecord(shop, "o1")), ...args },
        tail,
      );
      events.push(JSON.parse((reply as { payload: string }).payload)[0].order_refunded);
    };
    await refund({ amount_minor: 1 }, ["ps5", 1]);
    await refund({ amount_minor: 2 });
    await refund({ amount_minor: "", restock: 1 });
    expect(events).toMatchObject([
      {
        refund_number: 1,
        order: { state: 2, refunded_minor: 1, restocked: [{ sku: "ps5", quantity: 1 }] },
        balance_minor: 999_601,
      },
      {
        refund_number: 2,
        order: { state: 2, refunded_minor: 3, restocked: [{ sku: "ps5", quantity: 1 }] },
        stocks: [],
        restock_lines: [],
      },
      { refund_number: 3, order: { state: 5, refunded_minor: 400, refund_count: 3, restocked }, amount_minor: 397 },
    ]);
    expect((await shop.dump()).stock).toMatchObject({
      "ps5:available": "5",
      "ps5:sold": "0",
      "tv:available": "5",
      "tv:sold": "0",
    });
    expect((await shop.dump()).users).toMatchObject({ "u1:balance": "1000000", "u1:purchases": "1 0" });
    const again = { ...partial, ...(await readRecord(shop, "o1")) };
    expect(await shop.run("refundOrder", { ...again, amount_minor: "" })).toMatchObject({ kind: "EXISTS", at: 11 });
    expect(await shop.run("refundOrder", again)).toMatchObject({
      reason: "ORDER_STATE_INVALID",
      metadata: { state: "REFUNDED" },
    });
  });

  test("refunds a fulfilled order, which stays fulfilled until nothing is left", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const fulfilled = recordOf({ state: 3, fulfill_reference: "parcel" });
    const { reply } = await shop.observe("refundOrder", { ...partial, ...fulfilled });
    const [event] = JSON.parse((reply as { payload: string }).payload);
    expect(event.order_refunded.order).toMatchObject({ state: 3, fulfill_reference: "parcel", refunded_minor: 100 });
    const rest = { ...call.args, ...(await readRecord(shop, "o1")) };
    const last = await shop.observe("refundOrder", rest);
    expect(JSON.parse((last.reply as { payload: string }).payload)).toMatchObject([
      { order_refunded: { order: { state: 5 } } },
    ]);
  });

  test.each([external, gateway])(
    "leaves the wallet alone where the money is elsewhere: method %d",
    async (payment_method) => {
      const shop = await shops.open();
      await place(payment_method)(shop);
      await shop.commit("confirmOrder", { order_id: "o1", by_worker: payment_method === gateway ? 1 : 0 });
      const { reply, changes } = await shop.observe("refundOrder", { ...call.args, ...(await readRecord(shop, "o1")) });
      const [event] = JSON.parse((reply as { payload: string }).payload);
      expect(event.order_refunded).toMatchObject({ lifetime_value_minor: 0, amount_minor: 400, order: { state: 5 } });
      expect(event.order_refunded).not.toHaveProperty("balance_minor");
      expect(changes).toMatchObject({ users: { "u1:purchases": "1 0" }, stats: { refunded: "400" }, stock: all.stock });
      expect(changes.users).not.toHaveProperty("u1:balance");
    },
  );

  test("moves no money and counts nothing for an order without payment", async () => {
    const shop = await shops.open();
    await place(none)(shop);
    const { reply, changes } = await shop.observe("refundOrder", { ...call.args, ...(await readRecord(shop, "o1")) });
    const [event] = JSON.parse((reply as { payload: string }).payload);
    expect(event.order_refunded).toMatchObject({ amount_minor: 400, order: { state: 5, refunded_minor: 400 } });
    expect(event.order_refunded).not.toHaveProperty("balance_minor");
    expect(event.order_refunded).not.toHaveProperty("lifetime_value_minor");
    expect(changes).toMatchObject({ stock: all.stock });
    expect(changes).not.toHaveProperty("users");
    expect(changes).not.toHaveProperty("stats");
  });

  test("refunds a guest's external order", async () => {
    const shop = await shops.open();
    await place(external, { user_id: "" })(shop);
    await shop.commit("confirmOrder", { order_id: "o1" });
    const { changes } = await shop.observe("refundOrder", { ...call.args, ...(await readRecord(shop, "o1")) });
    expect(changes).toMatchObject({ stats: { refunded: "400" } });
    expect(changes).not.toHaveProperty("users");
  });

  test("refunds an order that cost nothing: it is refunded at once", async () => {
    const shop = await shops.open();
    await shop.user("u1");
    await shop.product("gift", { count: 1, priceMinor: 0 });
    await shop.commit("placeOrder", { order_id: "o1", user_id: "u1", payment_method: wallet }, cart(["gift", 1]));
    const { reply } = await shop.observe("refundOrder", { ...call.args, ...(await readRecord(shop, "o1")) });
    expect(JSON.parse((reply as { payload: string }).payload)).toMatchObject([
      { order_refunded: { amount_minor: 0, order: { state: 5 }, stocks: [{ available_count: 1 }] } },
    ]);
  });

  test("gives back what counted towards a limit", async () => {
    const shop = await shops.open();
    await shop.user("u1", 1000);
    await shop.product("few", { count: 10, maxPerUser: 4 });
    const order = { order_id: "o1", user_id: "u1", payment_method: wallet };
    await shop.commit("placeOrder", order, cart(["few", 4]));
    await shop.commit("refundOrder", { ...partial, ...(await readRecord(shop, "o1")) }, ["few", 3]);
    expect((await shop.dump()).limits).toEqual({ "u1:few": "1" });
    await shop.commit("placeOrder", { ...order, order_id: "o2" }, cart(["few", 3]));
    await shop.commit("refundOrder", { ...call.args, ...(await readRecord(shop, "o1")) });
    expect((await shop.dump()).limits).toEqual({ "u1:few": "3" });
  });

  test.each(boundaryNumbers)("refunds %d to the last minor unit", async (amount) => {
    const shop = await shops.open();
    await shop.user("u1", amount);
    await shop.product("gold", { count: 1, priceMinor: amount });
    await shop.commit("placeOrder", { order_id: "o1", user_id: "u1", payment_method: wallet }, cart(["gold", 1]));
    const record = await readRecord(shop, "o1");
    const { changes } = await shop.observe("refundOrder", { ...call.args, ...record, amount_minor: amount });
    expect(changes).toMatchObject({
      users: { "u1:balance": String(amount), "u1:purchases": "1 0" },
      stats: { refunded: String(amount) },
    });
  });

  test("keeps the memory of an order's creation, for whoever uses its id again", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.commit("refundOrder", call.args);
    const again = await shop.run("placeOrder", { order_id: "o1" }, cart(["ps5", 1]));
    expect(again).toMatchObject({ kind: "EXISTS", at: 8 });
  });
});
