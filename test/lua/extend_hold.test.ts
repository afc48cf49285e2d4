import { describe, expect, test } from "vitest";
import { givenCart } from "./cart-refusals.ts";
import {
  describeBadArguments,
  describeMutation,
  describeOwnExpiry,
  describeRefusals,
  dueMs,
  type GoodCall,
  holdUntilDue,
  notPositive,
} from "./decision-tables.ts";
import { cart, expectCommit, type LuaShop, startMs, useShops } from "./fixture.ts";
import { holdRefusals } from "./hold-refusals.ts";

const shops = useShops();
const dayMs = 86_400_000;
const createdMs = startMs + 1000;
const holdAtCreation = (shop: LuaShop) =>
  shop.commit(
    "holdStock",
    { hold_id: "h1", user_id: "u1", clock_ms: createdMs },
    cart(["ps5", 2], ["tv", 1], ["ps5", 1]),
  );
const call: GoodCall = {
  script: "extendHold",
  given: async (shop) => {
    await givenCart(shop);
    await holdAtCreation(shop);
  },
  args: { hold_id: "h1", hold_ms: 700_000 },
};

describe("ExtendHold", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { hold_id: [""], hold_ms: [...notPositive, "86400001"] });
  describeRefusals(shops, call, [
    ...holdRefusals,
    {
      title: "a millisecond more than a day after it was made",
      args: { hold_ms: dayMs, clock_ms: createdMs + 1 },
      reason: "HOLD_LIMIT_REACHED",
      metadata: { hold_id: "h1", last_expire_ms: String(createdMs + dayMs) },
    },
  ]);
  describeOwnExpiry(shops, { ...call, given: givenCart }, "h1", "ps5");

  test("lets the hold live longer", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("extendHold", call.args);
    const [before, after] = [createdMs + 600_000, shop.nowMs + 700_000];
    const line = (sku: string, quantity: number) => ({ sku, quantity, price_minor: 100 });
    const hold = {
      hold_id: "h1",
      user_id: "u1",
      lines: [line("ps5", 2), line("tv", 1), line("ps5", 1)],
      state: 1,
      create_time: createdMs,
      expire_time: after,
      order_id: "",
      create_position: 8,
      position: 9,
    };
    expectCommit(shop, observed, [{ hold_extended: { hold } }], {
      holds: { "h1:expire": String(after) },
      due: { h1: String(after) },
      due_skus: {
        [`ps5:000${before}:h1`]: null,
        [`tv:000${before}:h1`]: null,
        [`ps5:000${after}:h1`]: "0",
        [`tv:000${after}:h1`]: "0",
      },
    });
  });

  test("reaches a day of life, and ends then", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.commit("extendHold", { hold_id: "h1", hold_ms: dayMs - 5, clock_ms: createdMs + 5 });
    expect((await shop.dump()).due).toEqual({ h1: String(createdMs + dayMs) });
    expect(await shop.raw("getHold", { hold_id: "h1", clock_ms: createdMs + dayMs })).toEqual(["DUE"]);
  });

  test("never makes a hold's life shorter", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { changes } = await shop.observe("extendHold", { hold_id: "h1", hold_ms: 1 });
    expect(Object.keys(changes)).toEqual(["log", "meta", "recent_0"]);
  });

  test("leaves other due holds to those they concern", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await holdUntilDue(shop, "ps5", "due1");
    await shop.commit("extendHold", { ...call.args, clock_ms: dueMs });
    expect((await shop.dump()).due).toHaveProperty("due1");
  });
});
