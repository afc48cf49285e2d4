import { describe, expect, test } from "vitest";
import { describeMismatch, type GoodCall } from "./decision-tables.ts";
import { largest, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = { script: "getShopStats", given: (shop) => shop.user("u1"), args: {} };

describe("GetShopStats", () => {
  describeMismatch(shops, call);

  test("gives every figure as text, and none of a shop without any", async () => {
    const shop = await shops.open();
    expect(await shop.run("getShopStats")).toMatchObject({ kind: "OK", position: 1, payload: [] });
    await call.given(shop);
    await shop.redis.hset(shop.keys.stats as string, "revenue", String(largest));
    const { commitId, nowMs } = shop;
    const reply = await shop.run("getShopStats", { clock_ms: nowMs });
    expect(reply).toMatchObject({ kind: "OK", position: 2, commitId, timeMs: nowMs });
    const { payload } = reply as unknown as { payload: string[] };
    const figures = Object.fromEntries(payload.flatMap((name, at) => (at % 2 === 0 ? [[name, payload[at + 1]]] : [])));
    expect(figures).toEqual({ users: "1", "tier:free": "1", revenue: String(largest) });
  });
});
