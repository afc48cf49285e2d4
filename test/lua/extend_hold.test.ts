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
import { dueSkus, expectCommit, holdJson, type LuaShop, startMs, threeLines, useShops } from "./fixture.ts";
import { holdRefusals } from "./hold-refusals.ts";

const shops = useShops();
const dayMs = 86_400_000;
const createdMs = startMs + 1000;
const holdAtCreation = (shop: LuaShop) =>
  shop.commit("holdStock", { hold_id: "h1", user_id: "u1", clock_ms: createdMs }, threeLines);
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
    const times = { create_time: createdMs, expire_time: after, create_position: 8, position: 9 };
    const hold = holdJson({ state: 1, ...times });
    expectCommit(shop, observed, [{ hold_extended: { hold } }], {
      holds: { "h1:expire": String(after) },
      due: { h1: String(after) },
      due_skus: { ...dueSkus(before, null), ...dueSkus(after, "0") },
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
