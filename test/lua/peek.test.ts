import { describe, expect, test } from "vitest";
import { birthId, lookArguments, useShops } from "./fixture.ts";
import { givenSubscriber, givenTiers, periodMs } from "./subscriptions.ts";

const shops = useShops();

describe("Peek", () => {
  test("tells where an open shop stands, how far Postgres is known to be, and when its next hold is due", async () => {
    const shop = await shops.open();
    const clock = expect.any(Number);
    expect(await shop.raw("peek")).toEqual([shop.epoch, 1, birthId, -1, clock, -1, -1, 1]);
    await shop.product("ps5", { count: 5 });
    const dueMs = await shop.hold("h1", "ps5");
    await shop.hold("later", "ps5");
    await shop.raw("trimLog", { head_position: 4, margin: 50 });
    const [, , commitId, , nowMs] = (await shop.raw("peek")) as [string, number, string, number, number];
    expect(await shop.raw("peek")).toEqual([shop.epoch, 5, shop.commitId, dueMs, clock, -1, -1, 4]);
    expect(commitId).toBe(shop.commitId);
    expect(Math.abs(nowMs - Date.now())).toBeLessThan(60_000);
  });

  test("tells when the next subscription is to be renewed", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const first = await givenSubscriber(shop, "u1", "pro");
    await givenSubscriber(shop, "u2", "pro");
    expect(await shop.raw("peek")).toMatchObject({ 5: first + periodMs });
  });

  test("gives no epoch for a sealed shop, and nothing for one that Redis does not know", async () => {
    const shop = await shops.open();
    await shop.raw("look", { ...lookArguments, force: 1 });
    expect(await shop.raw("peek")).toEqual(["", 1, birthId, -1, expect.any(Number), -1, -1, 1]);
    await shop.redis.flushall();
    expect(await shop.raw("peek")).toEqual(["", 0, "", -1, expect.any(Number), -1, -1, 0]);
  });
});
