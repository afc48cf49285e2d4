import { describe, expect, test } from "vitest";
import { describeMismatch, describeRefusals, dueMs, type GoodCall, holdUntilDue } from "./decision-tables.ts";
import { cart, largest, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "getStock",
  given: async (shop) => {
    await shop.product("ps5", { count: largest, priceMinor: largest });
    await shop.product("tv", { count: 5, priceMinor: 0 });
    await shop.commit("placeOrder", { order_id: "o1" }, cart(["tv", 1]));
    await holdUntilDue(shop, "ps5", "h1");
    await shop.product("other", { count: 1 });
    await shop.hold("due-first", "other", 1, { hold_ms: dueMs - shop.nowMs - 2 });
  },
  args: {},
  tail: ["ps5", "tv", "ps5"],
};

describe("GetStock", () => {
  describeMismatch(shops, call);
  describeRefusals(shops, call, [
    { title: "one of the SKUs", tail: ["tv", "nope"], reason: "PRODUCT_NOT_FOUND", metadata: { sku: "nope" } },
  ]);

  test("gives levels and prices in the order they were asked for", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { commitId } = shop;
    const reply = await shop.run("getStock", { clock_ms: dueMs - 1 }, call.tail);
    const gold = ["ps5", String(largest - 1), "1", "0", String(largest)];
    const payload = [gold, ["tv", "4", "0", "1", "0"], gold];
    expect(reply).toEqual({ kind: "OK", position: 10, commitId, timeMs: dueMs - 1, payload });
  });

  test("asks for the expiry of a due hold of what it reads, not of others", async () => {
    const shop = await shops.open();
    await call.given(shop);
    expect(await shop.run("getStock", { clock_ms: dueMs }, ["tv", "ps5"])).toEqual({ kind: "DUE" });
    expect(await shop.run("getStock", { clock_ms: dueMs }, ["tv"])).toMatchObject({ kind: "OK" });
  });
});
