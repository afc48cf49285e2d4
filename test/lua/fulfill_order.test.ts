import { describe, expect, test } from "vitest";
import { givenCart } from "./cart-refusals.ts";
import {
  describeBadArguments,
  describeMutation,
  describeRefusals,
  expectNoChange,
  type GoodCall,
} from "./decision-tables.ts";
import { cart, expectCommit, threeLines, useShops } from "./fixture.ts";
import { badRecords, describeRecord, notFound, orderJson, recordOf, wrongState } from "./order-records.ts";

const shops = useShops();
const call: GoodCall = {
  script: "fulfillOrder",
  given: async (shop) => {
    await givenCart(shop);
    await shop.commit("placeOrder", { order_id: "o1", user_id: "u1", payment_method: 1 }, threeLines);
  },
  args: { order_id: "o1", ...recordOf(), reference_json: '"parcel \\"7\\" %d"' },
};

describe("FulfillOrder", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { ...badRecords, reference_json: [""] });
  describeRecord(shops, call, { state: 3, fields: { fulfill_position: 8 } });
  describeRefusals(shops, call, [
    notFound,
    wrongState("it waits for its payment", "PENDING_PAYMENT", {
      given: (shop) => shop.commit("placeOrder", { order_id: "o2", payment_method: 2 }, cart(["ps5", 1])),
      args: { order_id: "o2", record: "" },
      metadata: { order_id: "o2", state: "PENDING_PAYMENT" },
    }),
    wrongState("cancelled", "CANCELLED", { args: recordOf({ state: 4 }) }),
    wrongState("refunded", "REFUNDED", { args: recordOf({ state: 5 }) }),
  ]);

  test.each([3, 5])(
    "answers an order in state %i that was refunded since with the commit that fulfilled it",
    async (state) => {
      const shop = await shops.open();
      await call.given(shop);
      const record = recordOf({ state, refunded_minor: 400, refund_count: 1, fulfill_position: 8, position: 10 }, 10);
      const reply = await expectNoChange(shop, () => shop.run("fulfillOrder", { ...call.args, ...record }));
      expect(reply).toMatchObject({ kind: "EXISTS", at: 8, fields: expect.arrayContaining(["commit"]) });
    },
  );

  test("notes the delivery, and keeps what the order has", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const before = {
      payment_method: 4,
      payment_reference: "a/b é\u{1F600}",
      charge_id: "ch_1",
      hold_id: "h1",
      refunded_minor: 100,
      refund_count: 2,
      restocked: [{ sku: "tv", quantity: 1 }],
      confirm_position: 7,
    };
    const observed = await shop.observe("fulfillOrder", { ...call.args, ...recordOf(before) });
    const after = {
      state: 3,
      fulfill_reference: 'parcel "7" %d',
      fulfill_position: 9,
      update_time: shop.nowMs,
      position: 9,
    };
    const order = orderJson({ ...before, ...after });
    expectCommit(shop, observed, [{ order_fulfilled: { order } }], { recent_0: { "order:o1": "8 9" } });
  });

  test("takes what Postgres has as null for empty", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const texts = { payment_reference: null, charge_id: null };
    const numbers = { confirm_position: null, fulfill_position: null, refund_count: null, expire_time: null };
    const empty = { ...texts, ...numbers, restocked: null };
    const { reply } = await shop.observe("fulfillOrder", { ...call.args, ...recordOf(empty), reference_json: '""' });
    const [event] = JSON.parse((reply as { payload: string }).payload);
    expect(event.order_fulfilled.order).toEqual(
      orderJson({ state: 3, fulfill_position: 9, update_time: shop.nowMs, position: 9 }),
    );
  });

  test("sees an order that was due as cancelled", async () => {
    const shop = await shops.open();
    await givenCart(shop);
    await shop.commit("placeOrder", { order_id: "o1", payment_method: 2, pending_ms: 1000 }, cart(["ps5", 1]));
    const late = { order_id: "o1", reference_json: '""', clock_ms: shop.nowMs + 1000 };
    expect(await shop.run("fulfillOrder", late)).toMatchObject({ kind: "LOAD_FIRST", position: 9 });
    expect((await shop.dump()).stock).toMatchObject({ "ps5:available": "5", "ps5:held": "0" });
  });
});
