import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Reply } from "../../src/shop/reply.ts";
import {
  describeBadArguments,
  describeMutation,
  describeRefusals,
  type GoodCall,
  notCounts,
  notPositive,
  present,
} from "./decision-tables.ts";
import { type Arguments, expectCommit, type LuaShop, largest, startMs, useShops } from "./fixture.ts";
import { describeRenewal } from "./renewal-first.ts";
import {
  changeArguments,
  givenSubscriber,
  givenTiers,
  periodMs,
  putTierArguments,
  reprice,
  schedule,
  setCredits,
  subscriptionJson,
  subscriptionText,
} from "./subscriptions.ts";

const shops = useShops();
const call: GoodCall = {
  script: "changeTier",
  given: async (shop) => {
    await givenTiers(shop);
    await givenSubscriber(shop, "u1");
  },
  args: changeArguments,
};

/** A quote for the good call, of less than the price. */
const quote: Arguments = {
  quote_position: 2,
  quote_price: 2900,
  quote_charged: 7,
  quote_credited: 0,
  quote_expire_ms: startMs + 1000,
};
const nobody = { user_id: "nobody", tier: "none" };

describe("ChangeTier", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, {
    user_id: [""],
    tier: [""],
    proration: ["", 0, 3, "x"],
    timing: ["", 0, 3, "x"],
    quote_position: notPositive.filter((value) => value !== "" && value !== "0"),
    quote_price: [0],
  });
  describeBadArguments(
    shops,
    { ...call, args: { ...call.args, ...quote } },
    {
      tier: [""],
      quote_price: [...notCounts, 1_000_000_001],
      quote_charged: [...notCounts, 1_000_000_001],
      quote_credited: [...notCounts, 1_000_000_001],
      quote_expire_ms: notCounts,
    },
  );
  describeBadArguments(shops, call, {
    quote_charged: present(["0", "1"]),
    quote_credited: ["0"],
    quote_expire_ms: ["0"],
  });

  const insufficient = (required: number, credits: number) => ({
    user_id: "u1",
    required_credits: String(required),
    credits: String(credits),
  });
  const limit = (credits: number, credited: number) => ({
    user_id: "u1",
    credits: String(credits),
    credited_credits: String(credited),
  });
  const stats = (fields: Arguments) => (shop: LuaShop) => shop.redis.hset(shop.keys.stats as string, fields);
  const onPro = (credits: number) => async (shop: LuaShop) => {
    await shop.commit("changeTier", changeArguments);
    await setCredits(shop, "u1", credits);
  };
  const stale = { user_id: "u1", tier: "pro" };
  describeRefusals(shops, call, [
    { title: "of nobody", args: { ...nobody, tier: "", quote_position: 0 }, reason: "QUOTE_INVALID", metadata: {} },
    { title: "nobody", args: nobody, reason: "USER_NOT_FOUND", metadata: { user_id: "nobody" } },
    {
      title: "no such tier, with a quote",
      args: { ...quote, quote_position: 1, tier: "none" },
      reason: "TIER_NOT_FOUND",
      metadata: { tier: "none" },
    },
    {
      title: "from the millisecond it expires",
      args: { ...quote, clock_ms: startMs + 1000 },
      reason: "QUOTE_STALE",
      metadata: stale,
    },
    { title: "of another state", args: { ...quote, quote_position: 1 }, reason: "QUOTE_STALE", metadata: stale },
    { title: "of another price", args: { ...quote, quote_price: 2901 }, reason: "QUOTE_STALE", metadata: stale },
    { title: "of a change already made", given: onPro(0), args: quote, reason: "QUOTE_STALE", metadata: stale },
    {
      title: "the present tier, at the period's end",
      args: { tier: "free", timing: 2 },
      reason: "ALREADY_ON_TIER",
      metadata: { user_id: "u1", tier: "free" },
    },
    {
      title: "the present tier, without credits",
      given: onPro(0),
      reason: "ALREADY_ON_TIER",
      metadata: { user_id: "u1", tier: "pro" },
    },
    {
      title: "one too few",
      given: (shop) => setCredits(shop, "u1", 2899),
      reason: "INSUFFICIENT_CREDITS",
      metadata: insufficient(2900, 2899),
    },
    {
      title: "one too few for what was quoted",
      given: (shop) => setCredits(shop, "u1", 6),
      args: quote,
      reason: "INSUFFICIENT_CREDITS",
      metadata: insufficient(7, 6),
    },
    {
      title: "one too few for the time left",
      given: (shop) => setCredits(shop, "u1", 1449),
      args: { proration: 2, clock_ms: startMs + 1 + periodMs / 2 },
      reason: "INSUFFICIENT_CREDITS",
      metadata: insufficient(1450, 1449),
    },
    {
      title: "a credit past 2^53-1",
      given: onPro(largest - 2899),
      args: { tier: "free" },
      reason: "BALANCE_LIMIT",
      metadata: limit(largest - 2899, 2900),
    },
    {
      title: "upgrades past 2^53-1",
      given: stats({ upgrade_credits: largest - 2899 }),
      reason: "BALANCE_LIMIT",
      metadata: limit(10_000, 0),
    },
    {
      title: "downgrades past 2^53-1",
      given: async (shop) => {
        await onPro(0)(shop);
        await stats({ downgrade_credits: largest - 2899 })(shop);
      },
      args: { tier: "free" },
      reason: "BALANCE_LIMIT",
      metadata: limit(0, 2900),
    },
  ]);
  describeRenewal(shops, { ...call, args: { ...changeArguments, tier: "enterprise" } });

  test("charges the full difference, keeps the period and moves the user to the renewals", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const createdMs = shop.nowMs;
    const clock_ms = createdMs + periodMs / 2;
    const observed = await shop.observe("changeTier", { ...changeArguments, clock_ms });
    const subscription = subscriptionJson("pro", createdMs, { update_time: clock_ms, position: 3 });
    const event = {
      subscription,
      from_tier: "free",
      to_tier: "pro",
      proration: 1,
      cause: 1,
      charged_credits: 2900,
      credited_credits: 0,
      credits: 7100,
    };
    expectCommit(shop, observed, [{ tier_changed: event }], {
      users: {
        "u1:credits": "7100",
        "u1:sub": subscriptionText("pro", createdMs, { position: 3, updatedMs: clock_ms }),
      },
      renewals: { u1: String(createdMs + periodMs) },
      stats: { "tier:free": "0", "tier:pro": "1", upgrade_credits: "2900" },
    });
  });

  test("credits a downgrade at the price that was paid, and leaves the renewals", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const createdMs = await givenSubscriber(shop, "u1", "pro", 50);
    await reprice(shop, "pro", 5);
    const observed = await shop.observe("changeTier", { ...changeArguments, tier: "free" });
    const event = {
      subscription: subscriptionJson("free", createdMs, { update_time: shop.nowMs, position: 5 }),
      from_tier: "pro",
      to_tier: "free",
      proration: 1,
      cause: 1,
      charged_credits: 0,
      credited_credits: 2900,
      credits: 2950,
    };
    expectCommit(shop, observed, [{ tier_changed: event }], {
      users: {
        "u1:credits": "2950",
        "u1:sub": subscriptionText("free", createdMs, { position: 5, updatedMs: shop.nowMs }),
      },
      renewals: { u1: null },
      stats: { "tier:free": "1", "tier:pro": "0", downgrade_credits: "2900" },
    });
  });

  test("schedules a change without a charge, in place of an older one", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const createdMs = shop.nowMs;
    await setCredits(shop, "u1", 0);
    await schedule(shop, "u1", "pro");
    const args = { ...changeArguments, tier: "enterprise", timing: 2, proration: 2 };
    const observed = await shop.observe("changeTier", args);
    const scheduled = { scheduled_tier: "enterprise", scheduled_time: createdMs + periodMs };
    const update = { update_time: shop.nowMs, position: 4 };
    const subscription = subscriptionJson("free", createdMs, { ...scheduled, ...update });
    const event = { tier_change_scheduled: { subscription, from_tier: "free", to_tier: "enterprise" } };
    const text = { scheduled: "enterprise", position: 4, updatedMs: shop.nowMs };
    expectCommit(shop, observed, [event], { users: { "u1:sub": subscriptionText("free", createdMs, text) } });
    expect((await shop.dump()).renewals).toEqual({ u1: String(createdMs + periodMs) });
  });

  test("drops what is scheduled when the tier changes now", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const createdMs = await givenSubscriber(shop, "u1", "pro");
    await schedule(shop, "u1", "enterprise");
    const { changes } = await shop.observe("changeTier", { ...changeArguments, tier: "free" });
    const text = subscriptionText("free", createdMs, { position: 5, updatedMs: shop.nowMs });
    expect(changes).toMatchObject({ users: { "u1:sub": text }, renewals: { u1: null } });
  });

  test("charges and credits what a quote says, not what it would cost now", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.commit("changeTier", { ...changeArguments, ...quote, clock_ms: startMs + 999 });
    expect((await shop.dump()).users).toMatchObject({ "u1:credits": "9993" });
    const back = { ...quote, quote_position: 3, quote_price: 0, quote_charged: 0, quote_credited: 11 };
    await shop.commit("changeTier", { ...changeArguments, ...back, tier: "free", clock_ms: startMs + 999 });
    expect((await shop.dump()).users).toMatchObject({ "u1:credits": "10004" });
    expect((await shop.dump()).stats).toMatchObject({ upgrade_credits: "7", downgrade_credits: "11" });
  });

  test("a quote is stale when something was scheduled or called off since", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await schedule(shop, "u1", "enterprise");
    expect(await shop.run("changeTier", { ...changeArguments, ...quote })).toMatchObject({ reason: "QUOTE_STALE" });
    await shop.commit("cancelScheduledChange", { user_id: "u1" });
    expect(await shop.run("changeTier", { ...changeArguments, ...quote })).toMatchObject({ reason: "QUOTE_STALE" });
  });

  test("starts in the period that free has rolled to", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const thirdMs = shop.nowMs + 2 * periodMs;
    await shop.commit("changeTier", { ...changeArguments, proration: 2, clock_ms: thirdMs + periodMs - 1000 });
    expect((await shop.dump()).users).toMatchObject({
      "u1:credits": "10000",
      "u1:sub": subscriptionText("pro", thirdMs, { position: 3, updatedMs: shop.nowMs }),
    });
  });

  test("starts in the present period of a free tier that a renewal fell back to long ago", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const createdMs = shop.nowMs;
    await schedule(shop, "u1", "enterprise");
    await setCredits(shop, "u1", 200);
    const present = createdMs + 2 * periodMs;
    const args = { ...changeArguments, clock_ms: present + periodMs / 2, proration: 2 };
    // Half of pro's price is more than there is: with a period that is over the change would have paid the user.
    expect(await shop.run("changeTier", args)).toMatchObject({
      reason: "INSUFFICIENT_CREDITS",
      metadata: { required_credits: "1450", credits: "200" },
    });
    await shop.commit("changeTier", { ...args, timing: 2 });
    expect((await shop.dump()).renewals).toEqual({ u1: String(present + periodMs) });
  });

  test("a quote for the period's end schedules", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.commit("changeTier", { ...changeArguments, ...quote, timing: 2, quote_charged: 0 });
    expect((await shop.dump()).users).toMatchObject({ "u1:sub": expect.stringContaining(" pro 3 ") });
  });
});

describe("a chain of changes within one period", () => {
  const names = ["free", "a", "b", "c"];
  const price = fc.oneof(fc.constantFrom(0, 1, 2900, 999_999_999, 1_000_000_000), fc.nat(1_000_000_000));
  const chain = fc.record({
    prices: fc.tuple(price, price, price),
    proration: fc.constantFrom(1, 2),
    steps: fc.array(
      fc.record({
        tier: fc.constantFrom(...names),
        atMs: fc.nat(periodMs - 10_000),
        newPrice: fc.option(price, { freq: 4 }),
      }),
      { minLength: 1, maxLength: 8 },
    ),
  });
  const credits = 1_000_000_000_000;
  const secondsInPeriod = 2_592_000n;

  /** What is left of a price, computed apart from the script. */
  const left = (paid: number, atMs: number) =>
    (BigInt(paid) * BigInt(Math.floor((periodMs - atMs) / 1000))) / secondsInPeriod;

  test("costs what its segments cost, to the credit", async () => {
    let changeCount = 0;
    await fc.assert(
      fc.asyncProperty(chain, async ({ prices, proration, steps }) => {
        const shop = await shops.open();
        await givenTiers(shop);
        for (const [index, price_credits] of prices.entries()) {
          const limits = { max_projects: 1, max_storage_mb: 1, max_api_calls: 1 };
          await shop.commit("putTier", { ...putTierArguments, ...limits, tier: `${names[index + 1]}`, price_credits });
        }
        const createdMs = await givenSubscriber(shop, "u1", "free", credits);
        const terms = new Map([
          ["free", 0],
          ...prices.map((each, index) => [names[index + 1] as string, each] as const),
        ]);
        const segments = [{ tier: "free", paid: 0, fromMs: 0 }];
        for (const { tier, atMs, newPrice } of steps.sort((one, other) => one.atMs - other.atMs)) {
          const clock_ms = Math.max(createdMs + atMs, shop.nowMs);
          if (newPrice !== null && tier !== "free") {
            await shop.commit("putTier", { ...putTierArguments, tier, price_credits: newPrice, clock_ms });
            terms.set(tier, newPrice);
          }
          const reply = await shop.run("changeTier", { ...changeArguments, tier, proration, clock_ms });
          if (tier === segments.at(-1)?.tier) {
            expect(reply).toMatchObject({ reason: "ALREADY_ON_TIER" });
          } else {
            expect(reply).toMatchObject({ kind: "OK" });
            segments.push({ tier, paid: terms.get(tier) as number, fromMs: clock_ms - createdMs });
          }
        }
        changeCount += segments.length - 1;
        const cost = segments.reduce((sum, { paid, fromMs }, index) => {
          const next = segments[index + 1];
          const begun = proration === 1 ? BigInt(paid) : left(paid, fromMs);
          const unused = next === undefined ? 0n : proration === 1 ? BigInt(paid) : left(paid, next.fromMs);
          return sum + begun - unused;
        }, 0n);
        const { users, stats } = await shop.dump();
        expect(BigInt(credits) - BigInt(users?.["u1:credits"] as string)).toBe(cost);
        const net = BigInt(`${stats?.upgrade_credits ?? 0}`) - BigInt(`${stats?.downgrade_credits ?? 0}`);
        expect(net).toBe(cost);
      }),
      { numRuns: 60 },
    );
    expect(changeCount).toBeGreaterThan(60);
  });

  test("in both directions ends where it began", async () => {
    const shop = await shops.open();
    await call.given(shop);
    for (const tier of ["enterprise", "pro", "enterprise", "free"]) {
      const reply: Reply = await shop.run("changeTier", {
        ...changeArguments,
        tier,
        proration: 2,
        clock_ms: startMs + 1e9 + 7,
      });
      expect(reply).toMatchObject({ kind: "OK" });
    }
    expect((await shop.dump()).users).toMatchObject({ "u1:credits": "10000" });
  });
});
