import { describe, expect, test } from "vitest";
import { describeBadArguments, expectNoChange, type GoodCall, notCounts } from "./decision-tables.ts";
import { birthFields, type LuaShop, lookArguments, useShops, type Value } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = { script: "lookBack", given: seal, args: { token: "token", to_position: 9, count: 9 } };

async function seal(shop: LuaShop): Promise<void> {
  await shop.raw("look", { ...lookArguments, force: 1 });
}

const lookBack = (shop: LuaShop, to_position: Value, count: Value, skus: readonly Value[] = [], token = "token") =>
  expectNoChange(shop, () => shop.raw("lookBack", { token, to_position, count }, skus));

describe("LookBack", () => {
  describeBadArguments(shops, call, { token: [""], to_position: notCounts, count: [...notCounts, "1001"] });

  test("reads the log backwards, from a position on", async () => {
    const shop = await shops.open();
    for (let count = 0; count < 250; count += 1) await shop.product("ps5");
    await seal(shop);
    const read = async (to: number, count: number) =>
      ((await lookBack(shop, to, count)) as [[string, string[]][]])[0].map(([id]) => Number.parseInt(id, 10));
    expect(await read(3, 2)).toEqual([3, 2]);
    expect(await read(3, 9)).toEqual([3, 2, 1]);
    expect(await read(999, 1)).toEqual([251]);
    expect(await read(251, 240)).toEqual(Array.from({ length: 240 }, (_, index) => 251 - index));
    expect(await read(0, 9)).toEqual([]);
    expect(((await lookBack(shop, 1, 1)) as unknown[])[0]).toEqual([["1-0", birthFields]]);
  });

  test("ends a look at large entries early, but not without one", async () => {
    const shop = await shops.open();
    const large = "x".repeat(4_100_000);
    for (const position of [2, 3]) {
      const fields = ["v", "1", "commit", "id", "epoch", "1", "time", "1", "call", "{}", "events", large];
      await shop.redis.xadd(shop.keys.log as string, position, ...fields);
    }
    for (let count = 4; count <= 103; count += 1) await shop.redis.xadd(shop.keys.log as string, count, ...birthFields);
    await seal(shop);
    const ids = async (to: number) => ((await lookBack(shop, to, 300)) as [[string][]])[0].map(([id]) => id);
    expect(await ids(103)).toHaveLength(103);
    expect((await ids(102)).at(-1), "a page with a large entry is the last").toBe("3-0");
  });

  test("tells of which products it counts what users have had", async () => {
    const shop = await shops.open();
    await shop.product("free");
    await shop.product("few", { maxPerUser: 2 });
    await shop.product("soon", { count: 2 });
    await shop.redis.hset(shop.keys.stock as string, "soon:loading", "id");
    await seal(shop);
    const skus = ["free", "few", "soon", "none"];
    expect(await lookBack(shop, 0, 0, skus)).toEqual([[], ["0", "1", "loading", ""]]);
  });

  test("tells nothing under another token, once loading has begun, or of a shop that is open", async () => {
    const shop = await shops.open();
    expect(await lookBack(shop, 9, 9)).toBe(0);
    await seal(shop);
    expect(await lookBack(shop, 9, 9, [], "theirs")).toBe(0);
    await shop.raw("load", { token: "token", step_number: 0, rest_ms: -1, step: "stats" }, ["orders", 1]);
    expect(await lookBack(shop, 9, 9)).toBe(0);
    await shop.redis.flushall();
    expect(await lookBack(shop, 9, 9)).toBe(0);
  });
});
