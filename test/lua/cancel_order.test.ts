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
import { cart, expectCommit, type LuaShop, level, threeLines, useShops } from "./fixture.ts";
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
const [external, gateway] = [2, 4];
const place = (payment_method: number) => async (shop: LuaShop) => {
  await givenCart(shop);
  await shop.commit("placeOrder", { order_id: "o1", user_id: "u1", payment_method }, threeLines);
};
const call: GoodCall = {
  script: "cancelOrder",
  given: place(external),
  args: { order_id: "o1", reason_json: '"no \\"7\\" %d"' },
};
const byWorker = { by_worker: 1, reason_json: '"card declined"' };

describe("CancelOrder", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { ...badRecords, reason_json: [""], by_worker: ["", "2"] });
  describeExpiry(shops, call, { touched: "ps5", refused: { args: { by_worker: 1 }, reason: "ORDER_STATE_INVALID" } });

  const dueMs = placedMs + 600_000;
  describeRefusals(shops, call, [
    notFound,
    wrongState("paid", "PAID", { args: { order_id: "o2", ...recordOf({ payment_method: 2 }) } }),
    wrongState("fulfilled", "FULFILLED", { args: { order_id: "o2", ...recordOf({ state: 3, payment_method: 2 }) } }),
    wrongState("refunded", "REFUNDED", { args: { order_id: "o2", ...recordOf({ state: 5, payment_method: 2 }) } }),
    wrongState("a wallet's order", "PAID", {
      args: { order_id: "o2", ...recordOf() },
      metadata: { order_id: "o1", state: "PAID", payment_method: "WALLET" },
    }),
    wrongState("without payment", "PAID", {
      args: { order_id: "o2", ...recordOf({ payment_method: 3 }) },
      metadata: { order_id: "o1", state: "PAID", payment_method: "NONE" },
    }),
    wrongState("the worker has nothing to say of an external payment", "PENDING_PAYMENT", {
      args: byWorker,
      metadata: { order_id: "o1", state: "PENDING_PAYMENT", payment_method: "EXTERNAL" },
    }),
    wrongState("the outcome of a gateway's charge is the worker's to know", "PENDING_PAYMENT", {
      given: (shop) =>
        shop.commit("placeOrder", { order_id: "o2", user_id: "u1", payment_method: gateway }, cart(["ps5", 1])),
      args: { order_id: "o2" },
      metadata: { order_id: "o2", state: "PENDING_PAYMENT", payment_method: "GATEWAY" },
    }),
  ]);

  const givenBack = {
    stocks: [level("ps5", [5, 0, 0], 100), level("tv", [5, 0, 0], 100)],
    stock: { "ps5:available": "5", "ps5:held": "0", "tv:available": "5", "tv:held": "0" },
  };

  test("gives the units of every line back", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("cancelOrder", call.args);
    const order = orderJson({
      state: 4,
      payment_method: external,
      cancel_reason: 'no "7" %d',
      update_time: shop.nowMs,
      position: 9,
    });
    expectCommit(shop, observed, [{ order_cancelled: { order, stocks: givenBack.stocks } }], {
      stock: givenBack.stock,
      stats: { pending: "0" },
      orders: goneFields("o1"),
      due: { "order/o1": null },
      due_skus: { [`ps5:000${dueMs}:order/o1`]: null, [`tv:000${dueMs}:order/o1`]: null },
      recent_0: { "order:o1": "8 9" },
    });
  });

  test("is how the payment worker ends what the gateway did not charge", async () => {
    const shop = await shops.open();
    await place(gateway)(shop);
    const observed = await shop.observe("cancelOrder", { order_id: "o1", ...byWorker });
    const order = orderJson({
      state: 4,
      payment_method: gateway,
      cancel_reason: "card declined",
      update_time: shop.nowMs,
      position: 9,
    });
    expectCommit(shop, observed, [{ order_cancelled: { order, stocks: givenBack.stocks } }], {
      stock: givenBack.stock,
      stats: { pending: "0" },
      orders: goneFields("o1"),
      recent_0: { "order:o1": "8 9" },
    });
  });

  test("gives back what counted towards a limit, of lines and of a hold alike", async () => {
    const shop = await shops.open();
    await shop.user("u1");
    await shop.product("few", { count: 10, maxPerUser: 4 });
    const had = async () => (await shop.dump()).limits ?? {};
    const order = { user_id: "u1", payment_method: external };
    await shop.commit("placeOrder", { ...order, order_id: "o1" }, cart(["few", 1]));
    await shop.hold("h1", "few", 3, { user_id: "u1" });
    await shop.commit("placeOrder", { ...order, order_id: "o2", hold_id: "h1" });
    expect(await had()).toEqual({ "u1:few": "4" });
    await shop.commit("cancelOrder", { order_id: "o2" });
    expect(await had()).toEqual({ "u1:few": "1" });
    await shop.commit("cancelOrder", { order_id: "o1" });
    expect(await had()).toEqual({});
  });

  test("cancels once: the row answers with the cancellation", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const at = await shop.commit("cancelOrder", call.args);
    expect(await shop.run("cancelOrder", call.args)).toMatchObject({ kind: "LOAD_FIRST", position: at });
    const record = await readRecord(shop, "o1");
    const reply = await expectNoChange(shop, () => shop.run("cancelOrder", { ...call.args, ...record }));
    expect(reply).toMatchObject({ kind: "EXISTS", at, fields: expect.arrayContaining(["commit"]) });
  });
});
