import { describe, expect, test } from "vitest";
import { badCarts, cartRefusals, givenCart } from "./cart-refusals.ts";
import {
  describeBadArguments,
  describeExpiry,
  describeMutation,
  describeRefusals,
  expectNoChange,
  type GoodCall,
  notPositive,
} from "./decision-tables.ts";
import { cart, dueSkus, expectCommit, holdJson, largest, level, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "holdStock",
  given: givenCart,
  args: { hold_id: "h1", user_id: "u1", hold_ms: 1000 },
  tail: cart(["ps5", 2], ["tv", 1, 100], ["ps5", 1]),
};

describe("HoldStock", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { hold_id: [""], hold_ms: [...notPositive, "86400001"] }, [[], ...badCarts]);
  describeRefusals(shops, call, cartRefusals);
  describeExpiry(shops, call, { touched: "ps5", refused: { tail: cart(["ps5", 999]), reason: "SOLD_OUT" } });

  test.each(["u1", ""])("sets the units of a cart aside for user %j", async (user_id) => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("holdStock", { ...call.args, user_id }, call.tail);
    const expireMs = shop.nowMs + 1000;
    const times = { create_time: shop.nowMs, expire_time: expireMs, create_position: 8, position: 8 };
    const hold = holdJson({ user_id, state: 1, ...times });
    const stocks = [level("ps5", [2, 3, 0], 100), level("tv", [4, 1, 0], 100)];
    expectCommit(shop, observed, [{ stock_held: { hold, stocks } }], {
      stock: { "ps5:available": "2", "ps5:held": "3", "tv:available": "4", "tv:held": "1" },
      holds: {
        "h1:user": user_id,
        "h1:expire": String(expireMs),
        "h1:created": `8 ${shop.nowMs}`,
        "h1:lines": "ps5 2 100,tv 1 100,ps5 1 100",
      },
      due: { h1: String(expireMs) },
      due_skus: dueSkus(expireMs, "0"),
    });
  });

  test("holds at the first millisecond of a sale, to the last unit, and at the limit", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const sale_start_ms = shop.nowMs + 2;
    await shop.commit("putProduct", { sku: "ps5", sale_start_ms, sale_end_ms: sale_start_ms + 1, max_per_user: 5 });
    const { changes } = await shop.observe("holdStock", call.args, cart(["ps5", 2], ["ps5", 3]));
    expect(shop.nowMs).toBe(sale_start_ms);
    expect(changes).toMatchObject({ stock: { "ps5:available": "0", "ps5:held": "5" }, limits: { "u1:ps5": "5" } });
  });

  test("keeps the largest price and count as they are", async () => {
    const shop = await shops.open();
    await shop.product("gold", { count: largest, priceMinor: largest });
    const { changes } = await shop.observe("holdStock", { hold_id: "h1" }, cart(["gold", 1, largest]));
    expect(changes).toMatchObject({
      stock: { "gold:available": String(largest - 1), "gold:held": "1" },
      holds: { "h1:lines": `gold 1 ${largest}` },
    });
  });

  test.each([
    ["open", []],
    ["released", [["releaseHold", { hold_id: "h1" }]]],
    ["committed", [["placeOrder", { order_id: "o1", hold_id: "h1" }]]],
    ["expired", [["expireHolds", { hold_id: "h1" }]]],
    ["due", []],
  ] as const)("answers an id in use with its creation, when that hold is %s", async (state, then) => {
    const shop = await shops.open();
    await call.given(shop);
    const at = await shop.commit("holdStock", call.args, call.tail);
    const { commitId } = shop;
    const clock_ms = state === "expired" || state === "due" ? shop.nowMs + 1000 : shop.nowMs;
    for (const [script, args] of then) {
      await shop.raw(script, { ...args, clock_ms });
    }
    const { position } = (await shop.dump()).meta as Record<string, string>;
    const repeated = { ...call.args, clock_ms };
    const reply = await expectNoChange(shop, () => shop.run("holdStock", repeated, cart(["nope", 1])));
    expect(reply).toMatchObject({
      kind: "EXISTS",
      position: Number(position),
      at,
      fields: expect.arrayContaining([commitId]),
    });
    await shop.forgetLog(at);
    expect(await shop.run("holdStock", repeated, call.tail)).toMatchObject({ kind: "EXISTS", at, fields: undefined });
  });
});
