import { describe, expect, test } from "vitest";
import { describeMismatch, describeRefusals, type GoodCall } from "./decision-tables.ts";
import { type LuaShop, useShops } from "./fixture.ts";
import { givenSubscriber, givenTiers, periodMs, reprice, schedule, subscriptionJson } from "./subscriptions.ts";

const shops = useShops();
const call: GoodCall = {
  script: "getSubscription",
  given: async (shop) => {
    await givenTiers(shop);
    await givenSubscriber(shop, "u1");
  },
  args: { user_id: "u1" },
};

/** What the script reads, parsed. */
async function read(shop: LuaShop, clockMs: number): Promise<unknown> {
  const reply = await shop.run("getSubscription", { user_id: "u1", clock_ms: clockMs });
  expect(reply).toMatchObject({ kind: "OK", timeMs: clockMs });
  return JSON.parse((reply as { payload: string }).payload);
}

describe("GetSubscription", () => {
  describeMismatch(shops, call);
  describeRefusals(shops, call, [
    { title: "nobody", args: { user_id: "nobody" }, reason: "USER_NOT_FOUND", metadata: { user_id: "nobody" } },
    { title: "the empty id", args: { user_id: "" }, reason: "USER_NOT_FOUND", metadata: { user_id: "" } },
  ]);

  test.each([
    [0, 0],
    [periodMs - 1, 0],
    [periodMs, 1],
    [100 * periodMs - 1, 99],
    [100 * periodMs, 100],
  ])("shows free since creation, %d ms later in period %d", async (afterMs, periods) => {
    const shop = await shops.open();
    await givenTiers(shop);
    const startMs = await givenSubscriber(shop, "u1");
    expect(await read(shop, startMs + Math.max(afterMs, 1))).toEqual(
      subscriptionJson("free", startMs + periods * periodMs, { update_time: startMs, position: 2 }),
    );
  });

  test("shows the price of the period, not the tier's present one, and the tier's present limits", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const startMs = await givenSubscriber(shop, "u1", "pro");
    const update = { update_time: shop.nowMs, position: 3 };
    await reprice(shop, "pro", 5);
    expect(await read(shop, startMs + periodMs - 1)).toEqual(subscriptionJson("pro", startMs, update));
  });

  test("shows what is scheduled", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const startMs = await givenSubscriber(shop, "u1");
    await schedule(shop, "u1", "enterprise");
    const update = { update_time: shop.nowMs, position: 3 };
    expect(await read(shop, startMs + periodMs - 1)).toEqual(
      subscriptionJson("free", startMs, {
        scheduled_tier: "enterprise",
        scheduled_time: startMs + periodMs,
        ...update,
      }),
    );
  });

  test.each(["a price", "a scheduled change"])("answers DUE from the end of a period with %s", async (what) => {
    const shop = await shops.open();
    await givenTiers(shop);
    const startMs = await givenSubscriber(shop, "u1", what === "a price" ? "pro" : "free");
    if (what !== "a price") {
      await schedule(shop, "u1", "pro");
    }
    const at = (clock_ms: number) => shop.run("getSubscription", { user_id: "u1", clock_ms });
    expect(await at(startMs + periodMs - 1)).toMatchObject({ kind: "OK" });
    expect(await at(startMs + periodMs)).toEqual({ kind: "DUE" });
  });
});
