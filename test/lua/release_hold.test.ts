import { describe, expect, test } from "vitest";
import { givenCart } from "./cart-refusals.ts";
import {
  describeBadArguments,
  describeExpiry,
  describeMutation,
  describeOwnExpiry,
  describeRefusals,
  expectNoChange,
  type GoodCall,
} from "./decision-tables.ts";
import { dueSkus, endedFields, expectCommit, holdJson, level, threeLines, useShops } from "./fixture.ts";
import { holdRefusals } from "./hold-refusals.ts";

const shops = useShops();
const call: GoodCall = {
  script: "releaseHold",
  given: async (shop) => {
    await givenCart(shop);
    await shop.commit("holdStock", { hold_id: "h1", user_id: "u1" }, threeLines);
  },
  args: { hold_id: "h1" },
};

describe("ReleaseHold", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { hold_id: [""] });
  describeRefusals(
    shops,
    call,
    holdRefusals.filter(({ reason }) => reason !== "HOLD_RELEASED"),
  );
  describeExpiry(shops, call, { touched: "ps5" });
  describeOwnExpiry(shops, { ...call, given: givenCart }, "h1", "ps5");

  test("gives the units of every line back", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const createdMs = shop.nowMs;
    const observed = await shop.observe("releaseHold", call.args);
    const expireMs = createdMs + 600_000;
    const times = { create_time: createdMs, expire_time: expireMs, create_position: 8, position: 9 };
    const hold = holdJson({ state: 3, ...times });
    const stocks = [level("ps5", [5, 0, 0], 100), level("tv", [5, 0, 0], 100)];
    expectCommit(shop, observed, [{ hold_released: { hold, stocks } }], {
      stock: { "ps5:available": "5", "ps5:held": "0", "tv:available": "5", "tv:held": "0" },
      holds: endedFields("h1"),
      due: { h1: null },
      due_skus: dueSkus(expireMs, null),
      recent_0: { "hold:h1": "8 9 RELEASED" },
    });
  });

  test("answers a hold that was released with its release", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const at = await shop.commit("releaseHold", call.args);
    const { commitId } = shop;
    const reply = await expectNoChange(shop, () => shop.run("releaseHold", call.args));
    expect(reply).toMatchObject({ kind: "EXISTS", position: at, at, fields: expect.arrayContaining([commitId]) });
    await shop.forgetLog(at);
    expect(await shop.run("releaseHold", call.args)).toMatchObject({ kind: "EXISTS", at, fields: undefined });
  });
});
