import { describe, expect, test } from "vitest";
import { birthId, lookArguments, useShops } from "./fixture.ts";

const shops = useShops();

describe("Peek", () => {
  test("tells where an open shop stands, and when its next hold is due", async () => {
    const shop = await shops.open();
    const clock = expect.any(Number);
    expect(await shop.raw("peek")).toEqual([shop.epoch, 1, birthId, -1, clock]);
    await shop.product("ps5", { count: 5 });
    const dueMs = await shop.hold("h1", "ps5");
    await shop.hold("later", "ps5");
    const [, , commitId, , nowMs] = (await shop.raw("peek")) as [string, number, string, number, number];
    expect(await shop.raw("peek")).toEqual([shop.epoch, 5, shop.commitId, dueMs, clock]);
    expect(commitId).toBe(shop.commitId);
    expect(Math.abs(nowMs - Date.now())).toBeLessThan(60_000);
  });

  test("gives no epoch for a sealed shop, and nothing for one that Redis does not know", async () => {
    const shop = await shops.open();
    await shop.raw("look", { ...lookArguments, force: 1 });
    expect(await shop.raw("peek")).toEqual(["", 1, birthId, -1, expect.any(Number)]);
    await shop.redis.flushall();
    expect(await shop.raw("peek")).toEqual(["", 0, "", -1, expect.any(Number)]);
  });
});
