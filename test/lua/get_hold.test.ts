import { describe, expect, test } from "vitest";
import { describeMismatch, type GoodCall } from "./decision-tables.ts";
import { startMs, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "getHold",
  given: async (shop) => {
    await shop.product("ps5", { count: 5 });
    await shop.hold("h1", "ps5", 1, { clock_ms: startMs + 100, hold_ms: 1000 });
  },
  args: { hold_id: "h1" },
};

describe("GetHold", () => {
  describeMismatch(shops, call);

  test.each([
    ["an open hold", "h1", startMs + 1099, { kind: "OK", position: 4, timeMs: startMs + 1099, payload: "1" }],
    ["no open hold", "nope", startMs + 1099, { kind: "OK", position: 4, timeMs: startMs + 1099, payload: "0" }],
    ["a hold from the millisecond it is due", "h1", startMs + 1100, { kind: "DUE" }],
  ])("tells of %s", async (_, hold_id, clock_ms, expected) => {
    const shop = await shops.open();
    await call.given(shop);
    expect(await shop.run("getHold", { hold_id, clock_ms })).toMatchObject(expected);
  });
});
