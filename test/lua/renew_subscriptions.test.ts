import { describe, expect, test } from "vitest";
import { entryFields } from "../../src/shop/log-entry.ts";
import {
  describeBadArguments,
  describeMismatch,
  expectNoChange,
  type GoodCall,
  notCounts,
  present,
} from "./decision-tables.ts";
import { type LuaShop, readEntries, startMs, useShops, type Value } from "./fixture.ts";
import {
  givenSubscriber,
  givenTiers,
  periodMs,
  renewalIdOf,
  reprice,
  schedule,
  setCredits,
  subscriptionJson,
  subscriptionText,
  type TierName,
} from "./subscriptions.ts";

const shops = useShops();
const call: GoodCall = {
  script: "renewSubscriptions",
  given: async (shop) => {
    await givenTiers(shop);
    await givenSubscriber(shop, "u1", "pro");
  },
  args: { clock_ms: startMs + 2 * periodMs, user_id: "" },
};
const renewalCall = '{"rpc":"RenewSubscriptions","request_id":"","request":{},"principal":""}';

/** Asserts that a run committed exactly these events as one renewal, and changed this state and no other. */
async function expectRenewal(shop: LuaShop, clock_ms: number, events: object[], state: object): Promise<void> {
  const at = Number((await shop.dump()).meta?.position) + 1;
  const { reply, changes } = await shop.observe("renewSubscriptions", { clock_ms, user_id: "" });
  const commitId = renewalIdOf(shop.commitId);
  expect(reply).toEqual({ kind: "OK", position: at, commitId, timeMs: clock_ms, payload: "[]" });
  expect((await readEntries(shop, at)).map((entry) => entry.events)).toEqual([events]);
  const text = (await shop.dump()).log?.[`${at}-0`]?.[11] ?? "";
  const entry = {
    position: at,
    commitId,
    epoch: Number(shop.epoch),
    timeMs: clock_ms,
    call: renewalCall,
    events: text,
    private: "",
  };
  expect(changes).toEqual({
    log: { [`${at}-0`]: entryFields(entry) },
    meta: { position: String(at), commit_id: commitId, time: String(clock_ms) },
    ...state,
  });
}

describe("RenewSubscriptions", () => {
  describeMismatch(shops, call);
  describeBadArguments(shops, call, { commit_id: ["", "x"], clock_ms: present(notCounts) });

  test("charges the tier's price of the moment for the next period", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const endMs = startMs + 1 + periodMs;
    await reprice(shop, "pro", 3000);
    const subscription = subscriptionJson("pro", endMs, { price_credits: 3000, update_time: endMs + 5, position: 5 });
    await expectRenewal(
      shop,
      endMs + 5,
      [{ subscription_renewed: { subscription, charged_credits: 3000, credits: 7000 } }],
      {
        users: {
          "u1:credits": "7000",
          "u1:sub": subscriptionText("pro", endMs, { price: 3000, position: 5, updatedMs: endMs + 5 }),
        },
        renewals: { u1: String(endMs + periodMs) },
      },
    );
  });

  test("a tier that has become free of charge renews once more and then rolls on", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const endMs = startMs + 1 + periodMs;
    await reprice(shop, "pro", 0);
    await shop.run("renewSubscriptions", { clock_ms: endMs, user_id: "" });
    expect(await shop.dump()).toMatchObject({
      users: {
        "u1:credits": "10000",
        "u1:sub": subscriptionText("pro", endMs, { price: 0, position: 5, updatedMs: endMs }),
      },
    });
    expect((await shop.dump()).renewals).toBeUndefined();
  });

  test.each<[string, TierName, TierName, number, number]>([
    ["an upgrade from free", "free", "pro", 2900, 0],
    ["an upgrade", "pro", "enterprise", 9900, 0],
    ["a downgrade", "enterprise", "pro", 10_000, 7100],
    ["a downgrade to free", "pro", "free", 0, 0],
  ])("makes a scheduled change instead of a renewal: %s", async (_, from, to, credits, creditsAfter) => {
    const shop = await shops.open();
    await givenTiers(shop);
    const endMs = (await givenSubscriber(shop, "u1", from)) + periodMs;
    await schedule(shop, "u1", to);
    await setCredits(shop, "u1", credits);
    const at = Number((await shop.dump()).meta?.position) + 1;
    const charged = credits - creditsAfter;
    const event = {
      subscription: subscriptionJson(to, endMs, { update_time: endMs, position: at }),
      from_tier: from,
      to_tier: to,
      proration: 0,
      cause: 2,
      charged_credits: charged,
      credited_credits: 0,
      credits: creditsAfter,
    };
    const counts = (await shop.dump()).stats ?? {};
    const upgrades = Number(counts.upgrade_credits ?? 0) + charged;
    await expectRenewal(shop, endMs, [{ tier_changed: event }], {
      users: {
        ...(charged > 0 && { "u1:credits": String(creditsAfter) }),
        "u1:sub": subscriptionText(to, endMs, { position: at, updatedMs: endMs }),
      },
      renewals: { u1: to === "free" ? null : String(endMs + periodMs) },
      stats: { [`tier:${from}`]: "0", [`tier:${to}`]: "1", ...(charged > 0 && { upgrade_credits: String(upgrades) }) },
    });
  });

  test.each<[string, TierName, TierName | ""]>([
    ["a renewal", "pro", ""],
    ["a scheduled change", "pro", "enterprise"],
    ["a scheduled change from free", "free", "pro"],
  ])("falls back to free when credits are too few for %s", async (_, from, to) => {
    const shop = await shops.open();
    await givenTiers(shop);
    const endMs = (await givenSubscriber(shop, "u1", from)) + periodMs;
    if (to !== "") {
      await schedule(shop, "u1", to);
    }
    const credits = { "": 2899, pro: 2899, enterprise: 9899, free: 0 }[to];
    await setCredits(shop, "u1", credits);
    const at = Number((await shop.dump()).meta?.position) + 1;
    const event = {
      subscription: subscriptionJson("free", endMs, { update_time: endMs, position: at }),
      from_tier: from,
      to_tier: "free",
      proration: 0,
      cause: 3,
      charged_credits: 0,
      credited_credits: 0,
      credits,
    };
    await expectRenewal(shop, endMs, [{ tier_changed: event }], {
      users: { "u1:sub": subscriptionText("free", endMs, { position: at, updatedMs: endMs }) },
      renewals: { u1: null },
      ...(from !== "free" && { stats: { "tier:free": "1", [`tier:${from}`]: "0" } }),
    });
    // From then on nothing is due for ever.
    await expectNoChange(shop, () => shop.run("renewSubscriptions", { clock_ms: endMs + 9 * periodMs, user_id: "" }));
  });

  test("settles periods one after the other, each at its own outcome", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const firstMs = await givenSubscriber(shop, "u1", "pro");
    await schedule(shop, "u1", "enterprise");
    await setCredits(shop, "u1", 9900 + 9900);
    const at = { clock_ms: firstMs + 5 * periodMs, user_id: "u1" };
    const kinds = [];
    do {
      kinds.push((await shop.run("renewSubscriptions", at)).kind);
    } while (kinds.at(-1) === "AGAIN");
    expect(kinds).toEqual(["AGAIN", "AGAIN", "OK"]);
    const entries = await readEntries(shop, 5);
    expect(entries.map(({ events }) => events)).toMatchObject([
      [
        {
          tier_changed: {
            cause: 2,
            charged_credits: 9900,
            credits: 9900,
            subscription: { period_start_time: firstMs + periodMs },
          },
        },
      ],
      [
        {
          subscription_renewed: {
            charged_credits: 9900,
            credits: 0,
            subscription: { period_start_time: firstMs + 2 * periodMs },
          },
        },
      ],
      [{ tier_changed: { cause: 3, to_tier: "free", subscription: { period_start_time: firstMs + 3 * periodMs } } }],
    ]);
    expect(new Set(entries.map(({ commitId }) => commitId)).size).toBe(3);
  });

  test.each<[string, Record<string, Value>]>([
    ["nothing is due", { clock_ms: startMs + periodMs, user_id: "" }],
    ["the user's period is not over", { clock_ms: startMs + periodMs, user_id: "u1" }],
    ["the user pays nothing", { user_id: "idle" }],
    ["there is no such user", { user_id: "nobody" }],
  ])("changes nothing when %s", async (_, args) => {
    const shop = await shops.open();
    await call.given(shop);
    await givenSubscriber(shop, "idle");
    const reply = await expectNoChange(shop, () => shop.run("renewSubscriptions", { ...call.args, ...args }));
    expect(reply).toMatchObject({ kind: "OK", payload: "[]" });
  });

  test("renews whom it is asked for, and only that one", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await givenSubscriber(shop, "u2", "pro");
    await shop.run("renewSubscriptions", { clock_ms: startMs + 100 + periodMs, user_id: "u2" });
    const { renewals } = await shop.dump();
    expect(renewals).toEqual({ u1: String(startMs + 1 + periodMs), u2: String(startMs + 3 + 2 * periodMs) });
  });

  test("renews 100 users at a time, the oldest first", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    for (let index = 0; index < 101; index += 1) {
      await givenSubscriber(shop, `u${index}`, "pro");
    }
    const clock_ms = startMs + 1000 + periodMs;
    expect(await shop.run("renewSubscriptions", { clock_ms, user_id: "" })).toMatchObject({ kind: "AGAIN" });
    const due = () => shop.redis.zrangebyscore(shop.keys.renewals as string, "-inf", clock_ms);
    expect(await due()).toEqual(["u100"]);
    expect(await shop.run("renewSubscriptions", { clock_ms, user_id: "" })).toMatchObject({ kind: "OK" });
    expect(await due()).toEqual([]);
    const entries = await readEntries(shop, 204);
    expect(entries.map(({ events }) => events.length)).toEqual([100, 1]);
    expect((await shop.dump()).stats).toMatchObject({ "tier:pro": "101", upgrade_credits: String(101 * 2900) });
  });
});
