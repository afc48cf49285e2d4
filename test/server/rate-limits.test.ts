import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { PrivateRedis } from "../../src/dev/private-redis.ts";
import { Refusal } from "../../src/refusal.ts";
import { type CallRates, openRateLimits, type RateLimits } from "../../src/server/rate-limits.ts";
import { StartError } from "../../src/start-error.ts";
import { startProxy } from "../helpers/proxy.ts";
import { startRedis } from "../helpers/servers.ts";

/** Long enough that no test sees a second window. */
const windowSeconds = 60;

let redis: PrivateRedis;

beforeAll(async () => {
  redis = await startRedis();
});

afterAll(() => redis.stop());

/** The limits of one more process: what it shares with others is in Redis. */
async function openLimits(
  rates: CallRates,
  redisUrl = redis.url,
  logger = pino({ level: "silent" }),
): Promise<RateLimits> {
  const limits = await openRateLimits({ rates, redisUrl, windowSeconds, logger });
  if (limits === undefined) throw new Error("no limits were asked for");
  onTestFinished(() => limits.close());
  return limits;
}

/** Calls as often as it may, with pauses for leases to come; the calls that were taken, and the last refusal. */
async function callUntilRefused(limits: RateLimits, principal: string, shopId: string) {
  let takenCount = 0;
  let refusal: Refusal | undefined;
  for (let refusals = 0; refusals < 20; ) {
    try {
      limits.take(principal, shopId);
      takenCount += 1;
      refusals = 0;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      refusal = error;
      refusals += 1;
      // Until the window ends there is nothing more; a lease on its way is there before long.
      await sleep(5);
    }
  }
  return { takenCount, refusal };
}

describe.each([3, 20, 50])("a rate of %i calls a second", (shop) => {
  const callCount = shop * windowSeconds;

  test("is kept by two processes together, within 10 %", async () => {
    const shopId = `shared-${shop}`;
    const processes = await Promise.all([openLimits({ shop }), openLimits({ shop })]);
    const both = await Promise.all(processes.map((limits) => callUntilRefused(limits, "", shopId)));
    const takenCount = both.reduce((sum, each) => sum + each.takenCount, 0);
    expect(takenCount).toBeGreaterThanOrEqual(callCount * 0.9);
    expect(takenCount).toBeLessThanOrEqual(callCount * 1.1);
  });

  test("is kept by one process, and what it asks Redis is few leases", async () => {
    const shopId = `alone-${shop}`;
    const client = new Redis(redis.url);
    onTestFinished(() => client.disconnect());
    await client.config("RESETSTAT");
    const { takenCount, refusal } = await callUntilRefused(await openLimits({ shop }), "", shopId);
    expect(takenCount).toBeGreaterThanOrEqual(callCount * 0.9);
    expect(takenCount).toBeLessThanOrEqual(callCount * 1.1);
    const [, leaseCount] = /cmdstat_incrby:calls=(\d+)/.exec(await client.info("commandstats")) ?? [];
    expect(Number(leaseCount)).toBeLessThan(60);
    expect(refusal?.reason).toBe("RATE_LIMITED");
    expect(refusal?.details.metadata).toEqual({ limit: "shop", calls_per_second: String(shop) });
    expect(refusal?.details.retryMs).toBeGreaterThan(0);
    expect(refusal?.details.retryMs).toBeLessThanOrEqual(2 * windowSeconds * 1000);
  });
});

test("one caller's calls and one shop's are counted apart, and a refused call counts for neither", async () => {
  const limits = await openLimits({ principal: 3, shop: 6 });
  const { takenCount: ofAnn, refusal } = await callUntilRefused(limits, "ann", "both");
  expect(refusal?.details.metadata).toMatchObject({ limit: "principal" });
  const { takenCount: ofBob, refusal: last } = await callUntilRefused(limits, "bob", "both");
  expect(last?.details.metadata).toMatchObject({ limit: expect.stringMatching(/principal|shop/) });
  expect(ofBob).toBeGreaterThanOrEqual(ofAnn * 0.9);
  const { refusal: third } = await callUntilRefused(limits, "cid", "both");
  expect(third?.details.metadata).toMatchObject({ limit: "shop" });
  // What the shop refused did not count: the caller has its calls in another one.
  expect((await callUntilRefused(limits, "cid", "other")).takenCount).toBeGreaterThanOrEqual(3 * windowSeconds * 0.8);
});

test("a window that is over is followed by another one", async () => {
  const rates = { shop: 100 };
  const limits = await openRateLimits({ rates, redisUrl: redis.url, logger: pino({ level: "silent" }) });
  onTestFinished(() => limits?.close());
  const { refusal } = await callUntilRefused(limits as RateLimits, "", "again");
  expect(refusal?.details.retryMs).toBeLessThanOrEqual(2000);
  await expect.poll(() => limits?.take("", "again"), { timeout: 5000 }).toBeUndefined();
});

test("twice a second's calls at once are all taken when each comes back as it is told, five times at most", async () => {
  const limits = await openRateLimits({ rates: { shop: 100 }, redisUrl: redis.url, logger: pino({ level: "silent" }) });
  onTestFinished(() => limits?.close());
  // As gRPC repeats by itself: after exactly what the server said, and not more often.
  const attemptCounts = Array.from({ length: 200 }, async () => {
    for (let attemptCount = 1; ; attemptCount += 1) {
      try {
        limits?.take("", "burst");
        return attemptCount;
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        await sleep(error.details.retryMs);
      }
    }
  });
  expect(Math.max(...(await Promise.all(attemptCounts)))).toBeLessThanOrEqual(5);
});

test("a burst far above a rate does not keep anybody away for longer than 10 s", async () => {
  const limits = await openRateLimits({ rates: { shop: 10 }, redisUrl: redis.url, logger: pino({ level: "silent" }) });
  onTestFinished(() => limits?.close());
  const waitsMs = Array.from({ length: 2000 }, () => {
    try {
      limits?.take("", "flood");
      return 0;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return error.details.retryMs ?? 0;
    }
  });
  expect(Math.max(...waitsMs)).toBeLessThanOrEqual(10_050);
  // Spread over all of it.
  expect(new Set(waitsMs.map((ms) => Math.floor(ms / 1000))).size).toBeGreaterThanOrEqual(10);
});

describe("while Redis does not answer", () => {
  test.each(["refused", "silent"] as const)("calls are counted by each process alone, which warns: %s", async (how) => {
    const proxy = await startProxy(redis.url);
    onTestFinished(() => proxy.stop());
    const logged: string[] = [];
    const logger = pino({ level: "warn" }, { write: (line: string) => void logged.push(line) });
    const limits = await openLimits({ shop: 20 }, proxy.url, logger);
    limits.take("", how);
    if (how === "refused") proxy.refuse();
    else proxy.freeze();
    const { takenCount } = await callForMs(limits, how, 1500);
    expect(takenCount).toBeGreaterThanOrEqual(20 * windowSeconds * 0.9);
    expect(takenCount).toBeLessThanOrEqual(20 * windowSeconds * 1.2);
    // Redis is asked again every second, and others' leases fail as well.
    for (let count = 0; count < 5; count += 1) limits.take("", `${how}-${count}`);
    await callForMs(limits, `${how}-later`, 1500);
    expect(logged.map((line) => JSON.parse(line).msg)).toEqual([
      "calls are counted in this process alone while Redis cannot be asked",
    ]);
  });
});

test("a Redis that became a replica is left for the master that answers at its address now", async () => {
  const own = await startRedis();
  onTestFinished(() => own.stop());
  const client = new Redis(own.url);
  onTestFinished(() => client.disconnect());
  const connectionId = async () => /id=(\d+) [^\n]*name=holdfast-rates /.exec(String(await client.client("LIST")))?.[1];
  const limits = await openLimits({ shop: 20 }, own.url);
  const before = await connectionId();
  // Of a master that is nowhere: what it has stays, and it writes nothing.
  await client.replicaof("127.0.0.1", 1);
  limits.take("", "demoted");
  await expect.poll(connectionId, { timeout: 10_000 }).not.toBe(before);

  await client.replicaof("NO", "ONE");
  // For a second this process counts alone, as after any lease that failed.
  let shopCount = 0;
  const countedKeys = () => {
    limits.take("", `promoted-${shopCount++}`);
    return client.keys("holdfast:rate:shop:promoted-*");
  };
  await expect.poll(countedKeys, { timeout: 10_000 }).not.toEqual([]);
});

test.each([
  ["one server", (url: string) => url],
  ["a cluster", (url: string) => `${url},${url}`],
])("a start without %s ends with one line, and nothing goes on trying", async (_, address) => {
  const proxy = await startProxy(redis.url);
  onTestFinished(() => proxy.stop());
  proxy.refuse();
  const opening = openLimits({ shop: 1 }, address(proxy.url));
  await expect(opening).rejects.toThrow(StartError);
  await expect(opening).rejects.toThrow(/^Redis cannot be reached to count calls: .+\. Check REDIS_URL$/);
  const { refusedCount } = proxy;
  // Longer than the longest pause between two attempts.
  await sleep(600);
  expect(proxy.refusedCount).toBe(refusedCount);
});

/** Calls for so long, also after refusals: the first lease that is not answered takes its time. */
async function callForMs(limits: RateLimits, shopId: string, ms: number): Promise<{ takenCount: number }> {
  let takenCount = 0;
  for (const untilMs = performance.now() + ms; performance.now() < untilMs; ) {
    const { takenCount: more } = await callUntilRefused(limits, "", shopId);
    takenCount += more;
  }
  return { takenCount };
}
