import { describe, expect, test } from "vitest";
import { givenCart } from "./cart-refusals.ts";
import {
  describeBadArguments,
  describeMutation,
  describeRefusals,
  type GoodCall,
  notPositive,
} from "./decision-tables.ts";
import { expectCommit, threeLines, useShops } from "./fixture.ts";
import { badRecords, describeRecord, notFound, orderJson, recordOf, wrongState } from "./order-records.ts";

const shops = useShops();
const refunded = { state: 5, payment_method: 4, charge_id: "ch_1", refunded_minor: 400, refund_count: 2 };
const call: GoodCall = {
  script: "settleRefund",
  given: async (shop) => {
    await givenCart(shop);
    await shop.commit("placeOrder", { order_id: "o1", user_id: "u1" }, threeLines);
  },
  args: {
    order_id: "o1",
    ...recordOf(refunded),
    refund_number: 2,
    amount_minor: 300,
    refund_id_json: '"re \\"7\\" %d"',
  },
};

describe("SettleRefund", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, {
    ...badRecords,
    refund_number: notPositive,
    amount_minor: ["", "-1", "1.5"],
    refund_id_json: [""],
  });
  describeRecord(shops, call);
  describeRefusals(shops, call, [
    notFound,
    wrongState("no such refund was made", "REFUNDED", { args: { refund_number: 3 } }),
    wrongState("never refunded", "PAID", { args: { refund_number: 1, ...recordOf({ payment_method: 4 }) } }),
    wrongState("no gateway's order", "REFUNDED", { args: recordOf({ ...refunded, payment_method: 2 }) }),
  ]);

  test("notes that the gateway gave the refund back, and leaves the order as it is", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("settleRefund", call.args);
    const settled = { amount_minor: 300, refund_number: 2, refund_id: 're "7" %d' };
    expectCommit(shop, observed, [{ refund_settled: { order: orderJson(refunded), ...settled } }], {});
  });

  test("settles one refund once, however often the worker asks", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const once = { ...call.args, request_id: "o1.refund.2" };
    const at = await shop.commit("settleRefund", once);
    expect(await shop.run("settleRefund", once)).toMatchObject({ kind: "REPLAYED", at });
  });
});
