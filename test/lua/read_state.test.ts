import { describe, expect, test } from "vitest";
import { describeBadArguments, describeMismatch, type GoodCall } from "./decision-tables.ts";
import { useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "readState",
  given: async (shop) => {
    await shop.product("ps5", { count: 5 });
    await shop.hold("h1", "ps5", 2);
  },
  args: { name: "stock" },
  tail: ["ps5:held", "nope:held", "ps5:available"],
};

describe("ReadState", () => {
  describeMismatch(shops, call);
  describeBadArguments(shops, call, { name: ["nothing", "log"] }, [[], Array.from({ length: 3001 }, () => "x")]);

  test("gives fields of a hash in the order they were asked for, with where the shop stands", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { commitId, nowMs } = shop;
    const reply = await shop.run("readState", { ...call.args, clock_ms: nowMs }, call.tail);
    const payload = ["0", "1", ["2", null, "3"]];
    expect(reply).toEqual({ kind: "OK", position: 4, commitId, timeMs: nowMs, payload });
  });

  test("gives scores of a sorted set", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const dueMs = shop.nowMs + 600_000;
    const reply = await shop.run("readState", { name: "due" }, ["nope", "h1"]);
    expect(reply).toMatchObject({ payload: ["0", "1", [null, String(dueMs)]] });
  });

  test("gives what the recent memory recalls, and what it let go", async () => {
    const shop = await shops.open();
    await shop.redis.hset(shop.keys.recent_0 as string, { "order:o1": "5", "order:o2": "6" });
    await shop.redis.hset(shop.keys.recent_1 as string, { "order:o1": "5 9" });
    await shop.setMeta({ bucket: "1", turn_time: "1", forgotten: "1700000000000", forgotten_position: "4" });
    const reply = await shop.run("readState", { name: "recent" }, ["order:o1", "order:o2", "order:o3"]);
    expect(reply).toMatchObject({ payload: ["1700000000000", "4", ["5 9", "6", null]] });
  });
});
