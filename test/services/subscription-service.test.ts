import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ChangeTiming, ProrationMode, TierChangeCause } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Clients, type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { expectRefusal } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** The shops' clock stands still until a test moves it on; it is ahead of the real one, which CreateShop reads. */
const clock = { nowMs: Date.now() + 3_600_000 };
const options = { clock: () => clock.nowMs };
const holdfast = useHoldfast(options);
/** A second server on the same stores. */
let other: Holdfast;
let redis: Redis;

beforeAll(async () => {
  other = await startHoldfast({ ...holdfast.urls, ...options });
  redis = new Redis(holdfast.redis.url);
});
afterAll(async () => {
  redis?.disconnect();
  await other?.stop();
});

const periodMs = 30 * 24 * 3_600_000;
const { NOW, PERIOD_END } = ChangeTiming;
const { FULL_DIFFERENCE, TIME_BASED } = ProrationMode;
const proLimits = { maxProjects: 100n, maxStorageMb: 102_400n, maxApiCalls: 100_000n };
const none = { code: Code.NotFound, reason: "USER_NOT_FOUND", metadata: expect.objectContaining({ user_id: "none" }) };

/** A shop with the users `ann` and `bob`, who have so many credits each. */
async function createPayers(clients: Clients, credits = 20_000n): Promise<string> {
  const shopId = await createShop(clients, { users: { ann: 0, bob: 0 } });
  for (const userId of ["ann", "bob"]) {
    await clients.users.grantCredits({ shopId, userId, credits: credits - 100n });
  }
  return shopId;
}

async function creditsOf(clients: Clients, shopId: string, userId = "ann"): Promise<bigint | undefined> {
  return (await clients.users.getUser({ shopId, userId })).user?.credits;
}

describe.each(["grpc", "http"] as const)("SubscriptionService on the %s door", (door) => {
  const clients = () => holdfast[door];
  const subscriptions = () => holdfast[door].subscriptions;

  test("every shop has free, pro and enterprise", async () => {
    const shopId = await createShop(clients());
    const { tiers, nextPageToken } = await subscriptions().listTiers({ shopId });
    expect(nextPageToken).toBe("");
    expect(tiers).toMatchObject([
      {
        tier: "enterprise",
        priceCredits: 9900n,
        limits: { maxProjects: 999n, maxStorageMb: 1_048_576n, maxApiCalls: 999_999_999n },
      },
      { tier: "free", priceCredits: 0n, limits: { maxProjects: 3n, maxStorageMb: 1024n, maxApiCalls: 1000n } },
      { tier: "pro", priceCredits: 2900n, limits: proLimits },
    ]);
  });

  test("PutTier creates a tier and changes what is given of it; ListTiers lists by name, in pages", async () => {
    const shopId = await createShop(clients());
    const limits = { maxProjects: 1n, maxStorageMb: 2n, maxApiCalls: 9_007_199_254_740_991n };
    const made = await subscriptions().putTier({ shopId, tier: "Team", priceCredits: 1_000_000_000n, limits });
    expect(made.tier).toMatchObject({ tier: "Team", priceCredits: 1_000_000_000n, limits });
    expect(made.commit).toMatchObject({ replayed: false, durable: true });
    const cheaper = await subscriptions().putTier({ shopId, tier: "Team", priceCredits: 5n });
    expect(cheaper.tier).toMatchObject({ tier: "Team", priceCredits: 5n, limits });
    const larger = await subscriptions().putTier({ shopId, tier: "free", limits });
    expect(larger.tier).toMatchObject({ tier: "free", priceCredits: 0n, limits });

    const names: string[] = [];
    for (let pageToken = ""; ; ) {
      const page = await subscriptions().listTiers({ shopId, pageSize: 3, pageToken });
      names.push(...page.tiers.map(({ tier }) => tier));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    expect(names).toEqual(["Team", "enterprise", "free", "pro"]);
    const { tiers } = await subscriptions().listTiers({ shopId, pageSize: 1 });
    expect(tiers).toEqual([cheaper.tier]);
    const { events } = await clients().events.listEvents({ shopId, eventTypes: ["tier_put"], newestFirst: true });
    expect(events[0]).toMatchObject({ subjects: ["tier:free"], payload: { value: { tier: larger.tier } } });
  });

  test.each([
    ["without a price", { tier: "team", limits: {} }, ["price_credits"]],
    ["without limits", { tier: "team", priceCredits: 5n }, ["limits"]],
    ["dearer than 10^9", { tier: "team", priceCredits: 1_000_000_001n, limits: {} }, ["price_credits"]],
    ["of a negative price", { tier: "team", priceCredits: -1n, limits: {} }, ["price_credits"]],
    ["of negative limits", { tier: "team", priceCredits: 1n, limits: { maxProjects: -1n } }, ["limits.max_projects"]],
    ["without a name", { priceCredits: 1n, limits: {} }, ["tier"]],
  ])("PutTier refuses a new tier %s", async (_, request, fields) => {
    const shopId = await createShop(clients());
    await expectRefusal(clients(), shopId, () => subscriptions().putTier({ shopId, ...request }), {
      code: Code.InvalidArgument,
      reason: "VALIDATION_FAILED",
      fields,
    });
  });

  test("PutTier refuses a price for what users fall back to", async () => {
    const shopId = await createShop(clients());
    await expectRefusal(clients(), shopId, () => subscriptions().putTier({ shopId, tier: "free", priceCredits: 1n }), {
      code: Code.InvalidArgument,
      reason: "VALIDATION_FAILED",
    });
  });

  test("a user who never changed is on free since creation, in periods of 30 days", async () => {
    const shopId = await createPayers(clients());
    const { user } = await clients().users.createUser({ shopId, userId: "new" });
    const createdMs = clock.nowMs;
    const first = await subscriptions().getSubscription({ shopId, userId: "new" });
    expect(first).toMatchObject({
      subscription: {
        userId: "new",
        tier: "free",
        priceCredits: 0n,
        limits: { maxProjects: 3n, maxStorageMb: 1024n, maxApiCalls: 1000n },
        periodStartTime: user?.createTime,
        periodEndTime: timestampFromMs(createdMs + periodMs),
        scheduledTier: "",
        updateTime: user?.createTime,
        position: user?.position,
      },
      asOf: { position: user?.position },
    });
    expect(first.subscription?.scheduledTime).toBeUndefined();
    clock.nowMs += 2 * periodMs;
    const later = await subscriptions().getSubscription({ shopId, userId: "new" });
    expect(later.subscription).toMatchObject({
      periodStartTime: timestampFromMs(createdMs + 2 * periodMs),
      position: user?.position,
    });
    await expectRefusal(clients(), shopId, () => subscriptions().getSubscription({ shopId, userId: "none" }), none);
  });

  test("ChangeTier charges, keeps the period, is remembered and shows everywhere", async () => {
    const shopId = await createPayers(clients());
    const { subscription: before } = await subscriptions().getSubscription({ shopId, userId: "ann" });
    clock.nowMs += 1000;
    const request = { shopId, requestId: "up", userId: "ann", tier: "pro" };
    const changed = await subscriptions().changeTier(request);
    expect(changed).toMatchObject({
      subscription: {
        ...before,
        tier: "pro",
        priceCredits: 2900n,
        limits: proLimits,
        updateTime: timestampFromMs(clock.nowMs),
        position: changed.commit?.position,
      },
      chargedCredits: 2900n,
      creditedCredits: 0n,
      commit: { requestId: "up", replayed: false, durable: true },
    });
    const { subscription } = changed;
    expect(await subscriptions().getSubscription({ shopId, userId: "ann" })).toMatchObject({ subscription });
    const { user } = await clients().users.getUser({ shopId, userId: "ann" });
    expect(user).toMatchObject({ tier: "pro", credits: 17_100n, position: changed.commit?.position });

    const back = await subscriptions().changeTier({ shopId, userId: "ann", tier: "free" });
    expect(back).toMatchObject({ chargedCredits: 0n, creditedCredits: 2900n, subscription: { tier: "free" } });
    const replayed = await subscriptions().changeTier(request);
    expect(replayed).toEqual({ ...changed, commit: { ...changed.commit, replayed: true } });
    expect(await creditsOf(clients(), shopId)).toBe(20_000n);

    const { changes } = await subscriptions().listTierChanges({ shopId, userId: "ann" });
    const shared = { proration: FULL_DIFFERENCE, cause: TierChangeCause.CALLER };
    expect(changes).toMatchObject([
      { ...shared, position: back.commit?.position, fromTier: "pro", toTier: "free", creditedCredits: 2900n },
      {
        ...shared,
        position: changed.commit?.position,
        fromTier: "free",
        toTier: "pro",
        chargedCredits: 2900n,
        creditedCredits: 0n,
        commitTime: changed.commit?.commitTime,
      },
    ]);
    const { events } = await clients().events.listEvents({ shopId, eventTypes: ["tier_changed"] });
    expect(events[0]).toMatchObject({
      subjects: ["user:ann"],
      payload: { case: "tierChanged", value: { subscription, fromTier: "free", toTier: "pro", credits: 17_100n } },
    });
    const { entries } = await clients().users.listWalletEntries({ shopId, userId: "ann", pageSize: 2 });
    expect(entries.map(({ delta, balanceAfter }) => [delta, balanceAfter])).toEqual([
      [2900n, 20_000n],
      [-2900n, 17_100n],
    ]);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("ListTierChanges lists in pages, with tokens good for that user only", async () => {
    const shopId = await createPayers(clients(), 1_000_000n);
    const positions: (bigint | undefined)[] = [];
    for (const tier of ["pro", "enterprise", "pro", "free", "enterprise"]) {
      const { commit } = await subscriptions().changeTier({ shopId, userId: "ann", tier });
      positions.unshift(commit?.position);
    }
    const page = await subscriptions().listTierChanges({ shopId, userId: "ann", pageSize: 2 });
    const next = { shopId, userId: "ann", pageSize: 2, pageToken: page.nextPageToken };
    const second = await subscriptions().listTierChanges(next);
    const last = await subscriptions().listTierChanges({ ...next, pageToken: second.nextPageToken });
    const listed = [page, second, last].flatMap(({ changes }) => changes.map(({ position }) => position));
    expect(listed).toEqual(positions);
    expect(last.nextPageToken).toBe("");
    await expectRefusal(clients(), shopId, () => subscriptions().listTierChanges({ ...next, userId: "bob" }), {
      code: Code.InvalidArgument,
      reason: "VALIDATION_FAILED",
      fields: ["page_token"],
    });
    expect((await subscriptions().listTierChanges({ shopId, userId: "none" })).changes).toEqual([]);
  });

  test("a change for the time left costs what is left of the period", async () => {
    const shopId = await createPayers(clients());
    const proration = TIME_BASED;
    clock.nowMs += periodMs / 4;
    const up = await subscriptions().changeTier({ shopId, userId: "ann", tier: "enterprise", proration });
    expect(up.chargedCredits).toBe(7425n);
    clock.nowMs += periodMs / 4;
    const down = await subscriptions().changeTier({ shopId, userId: "ann", tier: "pro", proration });
    expect(down.creditedCredits).toBe(3500n);
    clock.nowMs += periodMs / 4;
    const end = await subscriptions().changeTier({ shopId, userId: "ann", tier: "free", proration });
    expect(end.creditedCredits).toBe(725n);
    expect(await creditsOf(clients(), shopId)).toBe(20_000n - 7425n + 3500n + 725n);
    expect(await subscriptions().listTierChanges({ shopId, userId: "ann", pageSize: 1 })).toMatchObject({
      changes: [{ proration: TIME_BASED }],
    });
  });

  test("CancelScheduledChange calls off what was scheduled last", async () => {
    const shopId = await createPayers(clients());
    const timing = PERIOD_END;
    const first = await subscriptions().changeTier({ shopId, userId: "ann", tier: "pro", timing });
    const { periodEndTime } = first.subscription ?? {};
    expect(first).toMatchObject({
      subscription: { tier: "free", scheduledTier: "pro", scheduledTime: periodEndTime },
      chargedCredits: 0n,
      creditedCredits: 0n,
    });
    const second = await subscriptions().changeTier({ shopId, userId: "ann", tier: "enterprise", timing });
    expect(second.subscription).toMatchObject({ tier: "free", scheduledTier: "enterprise" });
    const request = { shopId, requestId: "off", userId: "ann" };
    const cancelled = await subscriptions().cancelScheduledChange(request);
    expect(cancelled.subscription).toMatchObject({ tier: "free", scheduledTier: "" });
    expect(cancelled.subscription?.scheduledTime).toBeUndefined();
    expect(await subscriptions().cancelScheduledChange(request)).toEqual({
      ...cancelled,
      commit: { ...cancelled.commit, replayed: true },
    });
    await expectRefusal(clients(), shopId, () => subscriptions().cancelScheduledChange({ shopId, userId: "ann" }), {
      code: Code.FailedPrecondition,
      reason: "NO_SCHEDULED_CHANGE",
    });
    await expectRefusal(
      clients(),
      shopId,
      () => subscriptions().cancelScheduledChange({ shopId, userId: "none" }),
      none,
    );
    const { events } = await clients().events.listEvents({ shopId, subjects: ["user:ann"], newestFirst: true });
    expect(events.slice(0, 3).map(({ payload }) => payload.case)).toEqual([
      "tierChangeCancelled",
      "tierChangeScheduled",
      "tierChangeScheduled",
    ]);
    expect((await subscriptions().listTierChanges({ shopId, userId: "ann" })).changes).toEqual([]);
  });

  test.each([
    ["an unknown user", { userId: "none", tier: "none" }, none],
    [
      "an unknown tier",
      { tier: "none" },
      { code: Code.NotFound, reason: "TIER_NOT_FOUND", metadata: expect.objectContaining({ tier: "none" }) },
    ],
    ["the present tier", { tier: "free" }, { code: Code.FailedPrecondition, reason: "ALREADY_ON_TIER" }],
    [
      "the present tier at the period's end",
      { tier: "free", timing: PERIOD_END },
      { code: Code.FailedPrecondition, reason: "ALREADY_ON_TIER" },
    ],
    [
      "too few credits",
      { tier: "enterprise" },
      {
        code: Code.FailedPrecondition,
        reason: "INSUFFICIENT_CREDITS",
        metadata: expect.objectContaining({ required_credits: "9900", credits: "9899" }),
      },
    ],
    ["neither tier nor quote", { tier: "" }, { code: Code.InvalidArgument, reason: "VALIDATION_FAILED" }],
    [
      "an unknown proration",
      { proration: 3 as ProrationMode },
      { code: Code.InvalidArgument, reason: "VALIDATION_FAILED", fields: ["proration"] },
    ],
    [
      "an unknown timing",
      { timing: 3 as ChangeTiming },
      { code: Code.InvalidArgument, reason: "VALIDATION_FAILED", fields: ["timing"] },
    ],
  ])("ChangeTier refuses %s, and PreviewTierChange as far as it is asked", async (_, fields, expected) => {
    const shopId = await createPayers(clients(), 9899n);
    const request = { shopId, userId: "ann", tier: "pro", ...fields };
    await expectRefusal(clients(), shopId, () => subscriptions().changeTier(request), expected);
    if (expected.reason !== "INSUFFICIENT_CREDITS") {
      await expectRefusal(clients(), shopId, () => subscriptions().previewTierChange(request), expected);
    } else {
      const { quote } = await subscriptions().previewTierChange(request);
      expect(quote).toMatchObject({ chargedCredits: 9900n });
    }
  });

  test("ChangeTier refuses a credit past 2^53-1", async () => {
    const shopId = await createPayers(clients());
    await subscriptions().changeTier({ shopId, userId: "ann", tier: "pro" });
    const credits = 9_007_199_254_740_991n - 17_100n - 2899n;
    await clients().users.grantCredits({ shopId, userId: "ann", credits });
    const change = { shopId, userId: "ann", tier: "free" };
    const expected = { code: Code.OutOfRange, reason: "BALANCE_LIMIT" };
    await expectRefusal(clients(), shopId, () => subscriptions().changeTier(change), expected);
    const { chargedCredits } = await subscriptions().changeTier({ ...change, tier: "enterprise" });
    expect(chargedCredits).toBe(7000n);
  });
});

describe.each(["grpc", "http"] as const)("a quote on the %s door", (door) => {
  const clients = () => holdfast[door];
  const subscriptions = () => holdfast[door].subscriptions;
  const invalid = { code: Code.InvalidArgument, reason: "QUOTE_INVALID" };
  const stale = { code: Code.Aborted, reason: "QUOTE_STALE" };

  /** A quote for `ann` going to pro, for the time left, in a period of which 29 days are left. */
  async function createQuote() {
    const shopId = await createPayers(clients());
    clock.nowMs += periodMs / 30;
    const request = { shopId, userId: "ann", tier: "pro", proration: TIME_BASED };
    const { quote, asOf } = await subscriptions().previewTierChange(request);
    if (quote === undefined) throw new Error("there is no quote");
    return { shopId, quote, asOf, use: { shopId, userId: "ann", quoteToken: quote.quoteToken } };
  }

  test("says what is charged, of what, from when, and until when that holds", async () => {
    const { shopId, quote, asOf } = await createQuote();
    expect(quote).toMatchObject({
      userId: "ann",
      fromTier: "free",
      toTier: "pro",
      proration: TIME_BASED,
      timing: NOW,
      chargedCredits: 2803n,
      creditedCredits: 0n,
      effectiveTime: timestampFromMs(clock.nowMs),
      expireTime: timestampFromMs(clock.nowMs + 300_000),
    });
    expect(asOf).toMatchObject({ epoch: 1n });
    expect(quote.lines).toMatchObject([{ credits: 2803n, description: expect.stringMatching(/^pro: 2505600 of/) }]);
    await subscriptions().changeTier({ shopId, userId: "ann", tier: "pro" });
    const up = { shopId, userId: "ann", tier: "enterprise" };
    const full = (await subscriptions().previewTierChange(up)).quote;
    expect(full).toMatchObject({
      chargedCredits: 7000n,
      proration: FULL_DIFFERENCE,
      lines: [{ credits: 9900n }, { credits: -2900n, description: "pro: the period, given back" }],
    });
    const end = (await subscriptions().previewTierChange({ ...up, timing: PERIOD_END })).quote;
    const { subscription } = await subscriptions().getSubscription({ shopId, userId: "ann" });
    expect(end).toMatchObject({
      timing: PERIOD_END,
      chargedCredits: 0n,
      effectiveTime: subscription?.periodEndTime,
      lines: [{ credits: 0n }],
    });
  });

  test("is honoured exactly by another process, minutes later, and answered again when it has expired", async () => {
    const { shopId, quote, use } = await createQuote();
    clock.nowMs += 299_999;
    const request = { ...use, requestId: "with-quote", tier: "pro", proration: TIME_BASED, timing: NOW };
    const changed = await other[door].subscriptions.changeTier(request);
    expect(changed).toMatchObject({ chargedCredits: quote.chargedCredits, subscription: { tier: "pro" } });
    const { chargedCredits } = await subscriptions().changeTier({
      shopId,
      userId: "bob",
      tier: "pro",
      proration: TIME_BASED,
    });
    expect(chargedCredits, "what it costs by now").not.toBe(quote.chargedCredits);
    clock.nowMs += 1;
    const again = await subscriptions().changeTier(request);
    expect(again).toEqual({ ...changed, commit: { ...changed.commit, replayed: true } });
    await expectRefusal(clients(), shopId, () => subscriptions().changeTier(use), stale);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("can schedule a change", async () => {
    const { shopId } = await createQuote();
    const request = { shopId, userId: "ann", tier: "pro", timing: PERIOD_END };
    const { quote } = await subscriptions().previewTierChange(request);
    const changed = await other[door].subscriptions.changeTier({
      shopId,
      userId: "ann",
      quoteToken: quote?.quoteToken ?? "",
    });
    expect(changed).toMatchObject({ chargedCredits: 0n, subscription: { tier: "free", scheduledTier: "pro" } });
  });

  test("is invalid when it was changed, made up, or made for another user or shop", async () => {
    const { shopId, quote, use } = await createQuote();
    const elsewhere = await createPayers(clients());
    const { quoteToken } = quote;
    const bytes = Buffer.from(quoteToken, "base64url");
    const cheaper = Buffer.from(
      bytes.toString("latin1").replace('"chargedCredits":2803', '"chargedCredits":1'),
      "latin1",
    );
    expect(cheaper).not.toEqual(bytes);
    const forged = [cheaper, bytes.subarray(0, -1), bytes.subarray(1), bytes.subarray(0, 16)].map((each) =>
      each.toString("base64url"),
    );
    for (const token of [...forged, "x", "!", "0".repeat(1024)]) {
      for (const server of [holdfast, other]) {
        const call = () => server[door].subscriptions.changeTier({ ...use, quoteToken: token });
        await expectRefusal(clients(), shopId, call, invalid);
      }
    }
    const ofOthers = [
      { ...use, userId: "bob" },
      { ...use, userId: "none" },
      { ...use, shopId: elsewhere },
    ];
    for (const request of ofOthers) {
      await expectRefusal(clients(), request.shopId, () => subscriptions().changeTier(request), invalid);
    }
    expect(await creditsOf(clients(), shopId)).toBe(20_000n);
  });

  test("is stale when it has expired, the subscription moved on, or the tier has another price", async () => {
    const expired = await createQuote();
    clock.nowMs += 300_000;
    await expectRefusal(clients(), expired.shopId, () => subscriptions().changeTier(expired.use), stale);

    const moved = await createQuote();
    await subscriptions().changeTier({ shopId: moved.shopId, userId: "ann", tier: "enterprise" });
    await expectRefusal(clients(), moved.shopId, () => subscriptions().changeTier(moved.use), stale);

    const repriced = await createQuote();
    await subscriptions().putTier({ shopId: repriced.shopId, tier: "pro", priceCredits: 1n });
    await expectRefusal(clients(), repriced.shopId, () => subscriptions().changeTier(repriced.use), stale);
  });

  test("is used once", async () => {
    const { shopId, use } = await createQuote();
    const answers = await Promise.allSettled(
      Array.from({ length: 8 }, (_, index) => (index % 2 === 0 ? holdfast : other)[door].subscriptions.changeTier(use)),
    );
    expect(answers.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await creditsOf(clients(), shopId)).toBe(20_000n - 2803n);
  });

  test.each([
    ["tier", { tier: "enterprise" }],
    ["proration", { proration: FULL_DIFFERENCE }],
    ["timing", { timing: PERIOD_END }],
  ])("does not go with another %s", async (field, fields) => {
    const { shopId, use } = await createQuote();
    await expectRefusal(clients(), shopId, () => subscriptions().changeTier({ ...use, ...fields }), {
      code: Code.InvalidArgument,
      reason: "VALIDATION_FAILED",
      fields: [field],
    });
  });

  test("comes after a known request id, whatever it is", async () => {
    const { shopId, use } = await createQuote();
    await subscriptions().changeTier({ ...use, requestId: "r" });
    await expectRefusal(
      clients(),
      shopId,
      () => subscriptions().changeTier({ ...use, requestId: "r", quoteToken: "forged" }),
      {
        code: Code.InvalidArgument,
        reason: "REQUEST_ID_REUSED",
        metadata: expect.objectContaining({ field: "quote_token" }),
      },
    );
  });

  test("does not outlive its period", async () => {
    const shopId = await createPayers(clients());
    const { subscription } = await subscriptions().getSubscription({ shopId, userId: "ann" });
    const endMs = timestampDate(subscription?.periodEndTime ?? timestampFromMs(0)).getTime();
    clock.nowMs = endMs - 1000;
    const { quote } = await subscriptions().previewTierChange({ shopId, userId: "ann", tier: "pro" });
    expect(quote?.expireTime).toEqual(timestampFromMs(endMs));
    clock.nowMs = endMs;
    const use = { shopId, userId: "ann", quoteToken: quote?.quoteToken ?? "" };
    await expectRefusal(clients(), shopId, () => subscriptions().changeTier(use), stale);
  });
});

describe("renewal", () => {
  const clients = () => holdfast.grpc;
  const subscriptions = () => holdfast.grpc.subscriptions;

  /** The events of a user's subscription, oldest first, in words. */
  async function historyOf(shopId: string, userId: string): Promise<string[]> {
    const eventTypes = ["tier_changed", "subscription_renewed", "tier_change_scheduled"];
    const { events } = await clients().events.listEvents({ shopId, eventTypes, subjects: [`user:${userId}`] });
    return events.map(({ payload }) => {
      switch (payload.case) {
        case "tierChanged":
          return `${TierChangeCause[payload.value.cause]} ${payload.value.toTier} ${payload.value.chargedCredits}`;
        case "subscriptionRenewed":
          return `RENEWED ${payload.value.subscription?.tier} ${payload.value.chargedCredits}`;
        default:
          return `${payload.case}`;
      }
    });
  }

  test.each([false, true])(
    "three periods: renewed, changed as scheduled, failed (Redis empty in between: %s)",
    async (empties) => {
      const shopId = await createPayers(clients(), 2900n + 2900n + 9900n + 5n);
      const turn = async () => {
        if (empties) await redis.flushall();
        clock.nowMs += periodMs;
      };
      await subscriptions().changeTier({ shopId, userId: "ann", tier: "pro" });
      await subscriptions().changeTier({ shopId, userId: "bob", tier: "enterprise", timing: PERIOD_END });
      const { subscription: first } = await subscriptions().getSubscription({ shopId, userId: "ann" });
      const endMs = timestampDate(first?.periodEndTime ?? timestampFromMs(0)).getTime();

      await turn();
      const second = await subscriptions().getSubscription({ shopId, userId: "ann" });
      expect(second.subscription).toMatchObject({
        tier: "pro",
        priceCredits: 2900n,
        periodStartTime: timestampFromMs(endMs),
        periodEndTime: timestampFromMs(endMs + periodMs),
      });
      await subscriptions().changeTier({ shopId, userId: "ann", tier: "enterprise", timing: PERIOD_END });

      await turn();
      const third = await subscriptions().getSubscription({ shopId, userId: "ann" });
      expect(third.subscription).toMatchObject({
        tier: "enterprise",
        priceCredits: 9900n,
        scheduledTier: "",
        periodStartTime: timestampFromMs(endMs + periodMs),
      });
      expect(await creditsOf(clients(), shopId)).toBe(5n);

      await turn();
      const fourth = await subscriptions().getSubscription({ shopId, userId: "ann" });
      expect(fourth.subscription).toMatchObject({
        tier: "free",
        priceCredits: 0n,
        periodStartTime: timestampFromMs(endMs + 2 * periodMs),
      });
      expect(await creditsOf(clients(), shopId)).toBe(5n);
      expect(await historyOf(shopId, "ann")).toEqual([
        "CALLER pro 2900",
        "RENEWED pro 2900",
        "tierChangeScheduled",
        "SCHEDULED enterprise 9900",
        "RENEWAL_FAILED free 0",
      ]);
      const { changes } = await subscriptions().listTierChanges({ shopId, userId: "ann" });
      expect(changes.map(({ cause, proration }) => [cause, proration])).toEqual([
        [TierChangeCause.RENEWAL_FAILED, ProrationMode.UNSPECIFIED],
        [TierChangeCause.SCHEDULED, ProrationMode.UNSPECIFIED],
        [TierChangeCause.CALLER, FULL_DIFFERENCE],
      ]);
      // Nobody asked for bob meanwhile: the worker brings him to where ann is.
      await expect
        .poll(() => historyOf(shopId, "bob"), { timeout: 20_000, interval: 100 })
        .toEqual(["tierChangeScheduled", "SCHEDULED enterprise 9900", "RENEWAL_FAILED free 0"]);
      await auditShop({ ...holdfast.urls, shopId });
    },
  );

  test("periods that nobody looked at are settled one after the other, before a call is answered", async () => {
    const shopId = await createPayers(clients(), 3n * 2900n + 1n);
    await subscriptions().changeTier({ shopId, userId: "ann", tier: "pro" });
    clock.nowMs += 4 * periodMs;
    const change = { shopId, userId: "ann", tier: "enterprise" };
    await expect(subscriptions().changeTier(change)).rejects.toThrow(/1 credits, 9900 are needed/);
    expect(await historyOf(shopId, "ann")).toEqual([
      "CALLER pro 2900",
      "RENEWED pro 2900",
      "RENEWED pro 2900",
      "RENEWAL_FAILED free 0",
    ]);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("GetUser shows tier and credits as of now, also when a period has just ended", async () => {
    const shopId = await createPayers(clients(), 2900n + 5n);
    await subscriptions().changeTier({ shopId, userId: "ann", tier: "pro" });
    clock.nowMs += periodMs;
    const { user, asOf } = await clients().users.getUser({ shopId, userId: "ann" });
    expect(user).toMatchObject({ tier: "free", credits: 5n });
    expect(asOf?.position).toBe(user?.position);
  });

  test("the worker renews also in a shop that Redis does not hold", async () => {
    const shopId = await createPayers(clients());
    await subscriptions().changeTier({ shopId, userId: "ann", tier: "pro" });
    await redis.flushall();
    clock.nowMs += periodMs;
    // Neither of the two reads touches Redis.
    await expect
      .poll(() => historyOf(shopId, "ann"), { timeout: 20_000, interval: 100 })
      .toEqual(["CALLER pro 2900", "RENEWED pro 2900"]);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("a new price is paid from the next period on", async () => {
    const shopId = await createPayers(clients());
    await subscriptions().changeTier({ shopId, userId: "ann", tier: "pro" });
    await subscriptions().putTier({ shopId, tier: "pro", priceCredits: 3000n });
    const { subscription } = await subscriptions().getSubscription({ shopId, userId: "ann" });
    expect(subscription?.priceCredits).toBe(2900n);
    clock.nowMs += periodMs;
    const renewed = await subscriptions().getSubscription({ shopId, userId: "ann" });
    expect(renewed.subscription?.priceCredits).toBe(3000n);
    expect(await creditsOf(clients(), shopId)).toBe(20_000n - 2900n - 3000n);
  });
});

test("nothing of all this is a fault of ours", () => {
  expect([...holdfast.faults, ...other.faults]).toEqual([]);
});
