import { describe, expect, test } from "vitest";
import { describeBadArguments, describeMismatch, describeRefusals, type GoodCall } from "./decision-tables.ts";
import { type LuaShop, useShops, type Value } from "./fixture.ts";
import { givenSubscriber, givenTiers, periodMs, reprice, schedule } from "./subscriptions.ts";

const shops = useShops();
const call: GoodCall = {
  script: "previewTierChange",
  given: async (shop) => {
    await givenTiers(shop);
    await givenSubscriber(shop, "u1", "pro");
  },
  args: { user_id: "u1", tier: "enterprise", proration: 1, timing: 1 },
};

async function preview(shop: LuaShop, args: Record<string, Value>): Promise<unknown> {
  const reply = await shop.run("previewTierChange", { ...call.args, ...args });
  expect(reply).toMatchObject({ kind: "OK" });
  return JSON.parse((reply as { payload: string }).payload);
}

describe("PreviewTierChange", () => {
  describeMismatch(shops, call);
  describeBadArguments(shops, call, { proration: ["", 0, 3, "x"], timing: ["", 0, 3, "x"] });
  describeRefusals(shops, call, [
    { title: "nobody", args: { user_id: "x" }, reason: "USER_NOT_FOUND", metadata: { user_id: "x" } },
    { title: "no tier", args: { tier: "none" }, reason: "TIER_NOT_FOUND", metadata: { tier: "none" } },
    {
      title: "the present tier",
      args: { tier: "pro", timing: 2 },
      reason: "ALREADY_ON_TIER",
      metadata: { user_id: "u1", tier: "pro" },
    },
  ]);

  test.each<[string, Record<string, Value>, object]>([
    ["an upgrade for the full difference", {}, { charged_credits: 7000, cost_credits: 9900, back_credits: 2900 }],
    [
      "an upgrade for the time left",
      { proration: 2 },
      { charged_credits: 2334, cost_credits: 3300, back_credits: 966, proration: 2 },
    ],
    [
      "a downgrade for the full difference",
      { tier: "free" },
      { credited_credits: 2900, back_credits: 2900, to_tier: "free", price_credits: 0 },
    ],
    [
      "a downgrade for the time left",
      { tier: "free", proration: 2 },
      { credited_credits: 966, back_credits: 966, to_tier: "free", price_credits: 0, proration: 2 },
    ],
  ])("tells what is charged or credited for %s", async (_, args, expected) => {
    const shop = await shops.open();
    await call.given(shop);
    // A third of the period is left, and some milliseconds that do not make a second.
    const clock_ms = shop.nowMs - 1 + (periodMs * 2) / 3 - 999;
    const quote = await preview(shop, { ...args, clock_ms });
    expect(quote).toEqual({
      user_id: "u1",
      from_tier: "pro",
      to_tier: "enterprise",
      proration: 1,
      timing: 1,
      charged_credits: 0,
      credited_credits: 0,
      cost_credits: 0,
      back_credits: 0,
      price_credits: 9900,
      seconds_left: 864_000,
      effective_time: clock_ms,
      expire_time: clock_ms + 300_000,
      position: 3,
      ...expected,
    });
  });

  test("tells that the period's end charges nothing now, whatever is scheduled", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const startMs = await givenSubscriber(shop, "u1", "free");
    await schedule(shop, "u1", "pro");
    const quote = await preview(shop, { timing: 2, proration: 2 });
    expect(quote).toMatchObject({
      charged_credits: 0,
      credited_credits: 0,
      effective_time: startMs + periodMs,
      position: 3,
    });
  });

  test("is good for five minutes, and not past the period's end", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const endMs = (await givenSubscriber(shop, "u1", "free")) + periodMs;
    for (const [clock_ms, expire_time] of [
      [endMs - 300_001, endMs - 1],
      [endMs - 300_000, endMs],
      [endMs - 1, endMs],
      [endMs, endMs + 300_000],
    ] as const) {
      expect(await preview(shop, { clock_ms })).toMatchObject({ expire_time });
    }
  });

  test("compares the tier's present price with what the subscription paid", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await reprice(shop, "pro", 1);
    await reprice(shop, "enterprise", 10_000);
    expect(await preview(shop, {})).toMatchObject({ cost_credits: 10_000, back_credits: 2900, charged_credits: 7100 });
  });

  test("answers DUE from the end of a paid period", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const endMs = (await givenSubscriber(shop, "u1", "pro")) + periodMs;
    expect(await shop.run("previewTierChange", { ...call.args, clock_ms: endMs })).toEqual({ kind: "DUE" });
    expect(await preview(shop, { clock_ms: endMs - 1, proration: 2 })).toMatchObject({ charged_credits: 0 });
  });
});
