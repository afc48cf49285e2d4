import { describe, expect, test } from "vitest";
import {
  describeBadArguments,
  describeMutation,
  describeRefusals,
  type GoodCall,
  notCounts,
  present,
} from "./decision-tables.ts";
import { expectCommit, largest, useShops } from "./fixture.ts";
import { givenSubscriber, givenTiers, putTierArguments } from "./subscriptions.ts";

const shops = useShops();
const call: GoodCall = {
  script: "putTier",
  given: givenTiers,
  args: { tier: "team", price_credits: 500, max_projects: 10, max_storage_mb: 20, max_api_calls: 30 },
};
const noLimits = { max_projects: "", max_storage_mb: "", max_api_calls: "" };

describe("PutTier", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, {
    tier: [""],
    price_credits: [...present(notCounts), 1_000_000_001],
    max_projects: notCounts,
    max_storage_mb: notCounts,
    max_api_calls: notCounts,
  });
  describeRefusals(shops, call, [
    {
      title: "a new tier",
      args: { price_credits: "", ...noLimits },
      reason: "TIER_PRICE_REQUIRED",
      metadata: { tier: "team" },
    },
    { title: "a new tier", args: noLimits, reason: "TIER_LIMITS_REQUIRED", metadata: { tier: "team" } },
    {
      title: "a price for what users fall back to",
      args: { tier: "free", price_credits: 1 },
      reason: "FREE_TIER_PRICE",
      metadata: { tier: "free" },
    },
  ]);

  test.each([0, 1_000_000_000])("creates a tier of %d credits", async (price) => {
    const shop = await shops.open();
    const args = { ...call.args, price_credits: price, max_projects: 0, max_api_calls: largest };
    const observed = await shop.observe("putTier", args);
    const limits = { max_projects: 0, max_storage_mb: 20, max_api_calls: largest };
    const event = { tier_put: { tier: { tier: "team", price_credits: price, limits } } };
    expectCommit(shop, observed, [event], { tiers: { "team:terms": `${price} 0 20 ${largest}` } });
  });

  test.each([
    ["the price", { tier: "pro", price_credits: 3000 }, "3000 100 102400 100000"],
    ["the limits", { tier: "pro", max_projects: 1, max_storage_mb: 2, max_api_calls: 3 }, "2900 1 2 3"],
    ["the limits of free", { tier: "free", max_projects: 1, max_storage_mb: 2, max_api_calls: 3 }, "0 1 2 3"],
    [
      "free, at its price",
      { tier: "free", price_credits: 0, max_projects: 1, max_storage_mb: 2, max_api_calls: 3 },
      "0 1 2 3",
    ],
  ])("changes %s and nothing else, no running subscription either", async (_, args, terms) => {
    const shop = await shops.open();
    await givenTiers(shop);
    await givenSubscriber(shop, "u1", "pro");
    const observed = await shop.observe("putTier", { ...putTierArguments, ...args });
    const [price, max_projects, max_storage_mb, max_api_calls] = terms.split(" ").map(Number);
    const tier = { tier: args.tier, price_credits: price, limits: { max_projects, max_storage_mb, max_api_calls } };
    expectCommit(shop, observed, [{ tier_put: { tier } }], { tiers: { [`${args.tier}:terms`]: terms } });
  });

  test("changes nothing but its position when nothing is given", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const { changes } = await shop.observe("putTier", { ...putTierArguments, tier: "pro" });
    expect(Object.keys(changes).sort()).toEqual(["log", "meta", "recent_0"]);
  });
});
