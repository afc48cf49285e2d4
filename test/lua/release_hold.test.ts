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
import { cart, expectCommit, level, useShops } from "./fixture.ts";
import { holdRefusals } from "./hold-refusals.ts";

const shops = useShops();
const lines = cart(["ps5", 2], ["tv", 1], ["ps5", 1]);
const call: GoodCall = {
  script: "releaseHold",
  given: async (shop) => {
    await givenCart(shop);
    await shop.commit("holdStock", { hold_id: "h1", user_id: "u1" }, lines);
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
    const line = (sku: string, quantity: number) => ({ sku, quantity, price_minor: 100 });
    const hold = {
      hold_id: "h1",
      user_id: "u1",
      lines: [line("ps5", 2), line("tv", 1), line("ps5", 1)],
      state: 3,
      create_time: createdMs,
      expire_time: createdMs + 600_000,
      order_id: "",
      create_position: 8,
      position: 9,
    };
    const stocks = [level("ps5", [5, 0, 0], 100), level("tv", [5, 0, 0], 100)];
    const expire = `000${createdMs + 600_000}`;
    expectCommit(shop, observed, [{ hold_released: { hold, stocks } }], {
      stock: { "ps5:available": "5", "ps5:held": "0", "tv:available": "5", "tv:held": "0" },
      holds: { "h1:user": null, "h1:expire": null, "h1:created": null, "h1:lines": null },
      due: { h1: null },
      due_skus: { [`ps5:${expire}:h1`]: null, [`tv:${expire}:h1`]: null },
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
