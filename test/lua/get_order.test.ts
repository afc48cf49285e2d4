import { describe, expect, test } from "vitest";
import { describeMismatch, type GoodCall } from "./decision-tables.ts";
import { cart, startMs, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "getOrder",
  given: async (shop) => {
    await shop.product("ps5", { count: 5 });
    const external = { order_id: "o1", payment_method: 2, clock_ms: startMs + 100, pending_ms: 1000 };
    await shop.commit("placeOrder", external, cart(["ps5", 1]));
    await shop.commit("placeOrder", { order_id: "charged", payment_method: 4 }, cart(["ps5", 1]));
    await shop.commit("placeOrder", { order_id: "free" }, cart(["ps5", 1]));
  },
  args: { order_id: "o1" },
};

describe("GetOrder", () => {
  describeMismatch(shops, call);

  test.each([
    ["an order that waits", "o1", 1099, { kind: "OK", position: 6, timeMs: startMs + 1099, payload: "1" }],
    ["an order from the millisecond it is due", "o1", 1100, { kind: "DUE" }],
    ["an order that only the payment worker ends", "charged", 99_999_999, { kind: "OK", payload: "1" }],
    ["an order that was paid", "free", 99_999_999, { kind: "OK", position: 6, payload: "0" }],
    ["no order", "nope", 1099, { kind: "OK", payload: "0" }],
  ])("tells of %s", async (_, order_id, ms, expected) => {
    const shop = await shops.open();
    await call.given(shop);
    expect(await shop.run("getOrder", { order_id, clock_ms: startMs + ms })).toMatchObject(expected);
  });
});
