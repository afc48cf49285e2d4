import { describe, expect, test } from "vitest";
import { describeMismatch, type GoodCall } from "./decision-tables.ts";
import { startMs, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = { script: "observe", given: (shop) => shop.user("u1"), args: {} };

describe("Observe", () => {
  describeMismatch(shops, call);

  test("tells where the shop stands, at a time no earlier than its last commit", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { commitId, nowMs: timeMs } = shop;
    const reply = await shop.run("observe", { clock_ms: startMs });
    expect(reply).toEqual({ kind: "OK", position: 2, commitId, timeMs, payload: "" });
  });
});
