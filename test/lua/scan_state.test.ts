import { describe, expect, test } from "vitest";
import { describeBadArguments, describeMismatch, type GoodCall, notPositive } from "./decision-tables.ts";
import { birthFields, cart, type LuaShop, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "scanState",
  given: async (shop) => {
    await shop.product("ps5", { count: 5 });
    await shop.user("u1");
    await shop.hold("h1", "ps5", 2, { user_id: "u1" });
  },
  args: { name: "stock", cursor: "0", count: 100 },
};

/** Every pair of one key, in as many pages as it takes. */
async function scanAll(shop: LuaShop, name: string, count: number): Promise<[string, unknown][]> {
  const found: [string, unknown][] = [];
  let cursor = "0";
  do {
    const reply = await shop.run("scanState", { name, cursor, count });
    const [next, items] = (reply as { payload: unknown }).payload as [string, (string | string[])[]];
    for (let index = 0; index < items.length; index += 2) {
      found.push([items[index] as string, items[index + 1]]);
    }
    cursor = next;
  } while (cursor !== "0");
  return found;
}

describe("ScanState", () => {
  describeMismatch(shops, call);
  describeBadArguments(shops, call, { name: ["nothing", "meta"], count: [...notPositive, 1, 3001] });

  test.each(["stock", "holds", "users", "codes", "stats", "recent_0"])("gives all of the hash %s", async (name) => {
    const shop = await shops.open();
    await call.given(shop);
    const found = Object.fromEntries(await scanAll(shop, name, 3));
    expect(found).toEqual((await shop.dump())[name]);
    expect(Object.keys(found).length).toBeGreaterThan(0);
  });

  test("gives members and scores of a sorted set", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const dueMs = shop.nowMs + 600_000;
    expect(await scanAll(shop, "due", 100)).toEqual([["h1", String(dueMs)]]);
    expect(await scanAll(shop, "due_skus", 100)).toEqual([[`ps5:000${dueMs}:h1`, "0"]]);
  });

  test("gives a long hash in pages, and nothing of a key that is not there", async () => {
    const shop = await shops.open();
    const fields = Object.fromEntries(Array.from({ length: 2000 }, (_, index) => [`s${index}:available`, `${index}`]));
    await shop.redis.hset(shop.keys.stock as string, fields);
    const reply = await shop.run("scanState", { name: "stock", cursor: "0", count: 100 });
    const [cursor, items] = (reply as { payload: unknown }).payload as [string, string[]];
    expect(cursor).not.toBe("0");
    expect(items.length).toBeLessThan(1000);
    expect(Object.fromEntries(await scanAll(shop, "stock", 100))).toEqual(fields);
    expect(await scanAll(shop, "orders", 100)).toEqual([]);
  });

  test("gives the log in pages, with the position it is true of", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { commitId, nowMs } = shop;
    const first = await shop.run("scanState", { name: "log", cursor: "0", count: 2, clock_ms: nowMs });
    const payload = ["2-0", ["1-0", birthFields, "2-0", expect.any(Array)]];
    expect(first).toEqual({ kind: "OK", position: 5, commitId, timeMs: nowMs, payload });
    const second = await shop.run("scanState", { name: "log", cursor: "2-0", count: 2, clock_ms: nowMs });
    expect(second).toMatchObject({ payload: ["3-0", ["2-0", expect.any(Array), "3-0", expect.any(Array)]] });
    expect(Object.fromEntries(await scanAll(shop, "log", 2))).toEqual((await shop.dump()).log);
  });

  test("gives the value that holds of a record that stands in both halves of the recent memory", async () => {
    const shop = await shops.open();
    await shop.redis.hset(shop.keys.recent_0 as string, { "order:o1": "5", "order:o2": "6" });
    await shop.redis.hset(shop.keys.recent_1 as string, { "order:o1": "5 9" });
    await shop.setMeta({ bucket: "1", turn_time: "1" });
    expect(await scanAll(shop, "recent_0", 100)).toEqual([
      ["order:o1", "5 9"],
      ["order:o2", "6"],
    ]);
    await shop.setMeta({ bucket: "0" });
    expect(await scanAll(shop, "recent_1", 100)).toEqual([["order:o1", "5"]]);
  });

  test("changes nothing", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.commit("releaseHold", { hold_id: "h1" });
    const { changes } = await shop.observe("scanState", call.args, cart());
    expect(changes).toEqual({});
  });
});
