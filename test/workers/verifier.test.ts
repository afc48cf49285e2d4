import { Redis } from "ioredis";
import { sql } from "kysely";
import { pino } from "pino";
import { describe, expect, onTestFinished, test } from "vitest";
import { AdjustReason } from "../../gen/holdfast/v1/resources_pb.js";
import { inParallel } from "../../src/demo/in-parallel.ts";
import type { VerifyObserver } from "../../src/metrics/verify-metrics.ts";
import { shopKeys } from "../../src/shop/keys.ts";
import { createModel } from "../../src/verify/model.ts";
import { Run } from "../../src/verify/run.ts";
import { startVerifier } from "../../src/workers/verifier.ts";
import { createShop, createUser, uniqueId } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();

/** Starts a verifier that hardly rests, and says what it is told and logs. */
function start(maxCommits = 100_000, periodMs = 1) {
  const found = new Map<string, number>();
  const counts = { failed: 0, skipped: 0, skippedSeconds: 0, verified: 0 };
  const logged: Record<string, unknown>[] = [];
  const observer: VerifyObserver = {
    verified: (shopId, count) => {
      found.set(shopId, count);
      counts.verified += 1;
    },
    failed: () => {
      counts.failed += 1;
    },
    skipped: (count, longestSeconds) => {
      counts.skipped = count;
      counts.skippedSeconds = longestSeconds;
    },
  };
  const logger = pino({ level: "info" }, { write: (line: string) => void logged.push(JSON.parse(line)) });
  const { shops } = holdfast.server.store;
  const verifier = startVerifier({ shops, periodMs, maxCommits, restShare: 0, observer, logger });
  onTestFinished(() => verifier.stop());
  return { found, counts, logged, verifier };
}

/** Changes how many units of a SKU Redis says there are. */
async function setAvailable(shopId: string, count: number): Promise<void> {
  const redis = new Redis(holdfast.redis.url);
  await redis.hset(shopKeys(shopId).stock as string, "a:available", count).finally(() => redis.disconnect());
}

describe("a verifier", () => {
  test("looks at every shop in turn, finds what is not as the log says, and sees when it is mended", async () => {
    const one = await createShop(holdfast.grpc, { stock: { a: 3 }, users: { ann: 10 } });
    const two = await createShop(holdfast.grpc, { stock: { a: 4 } });
    const { found, logged } = start();
    await until("both are verified", () => found.get(one) === 0 && found.get(two) === 0);
    await setAvailable(one, 7);
    await until("the difference is found", () => found.get(one) === 1);
    expect(found.get(two)).toBe(0);
    expect(logged).toContainEqual(
      expect.objectContaining({
        level: 50,
        alarm: "drift",
        shop: one,
        first: [expect.stringMatching(/^REDIS STOCK_LEVEL sku:a at/)],
      }),
    );
    for await (const _ of holdfast.grpc.admin.rebuildShop({ shopId: one }));
    await until("nothing is found any more", () => found.get(one) === 0);
  });

  test("leaves out shops with a long history, and says how many", async () => {
    const small = await createShop(holdfast.grpc);
    const large = await createShop(holdfast.grpc, { stock: { a: 3 } });
    const { found, counts } = start(2);
    await until("the small one is verified", () => found.has(small));
    await until("it has been round", () => counts.verified > 2 * found.size);
    expect(found.has(large)).toBe(false);
    expect(counts.skipped).toBeGreaterThanOrEqual(1);
  });

  test("says how long one of them was not verified in any way: since VerifyShop was asked to, or since it was made", async () => {
    const { db } = holdfast.server.store;
    const large = await createShop(holdfast.grpc, { stock: { a: 3 } });
    const daySeconds = 86_400;
    await sql`update shops set create_time = create_time - interval '3 days' where shop_id = ${large}`.execute(db);
    const { counts } = start(2);
    await until("it is told", () => counts.skippedSeconds >= 3 * daySeconds);
    for await (const _ of holdfast.http.admin.verifyShop({ shopId: large }));
    await until("it is not told any more", () => counts.skippedSeconds < daySeconds);
    expect(counts.skipped).toBeGreaterThanOrEqual(1);
    await sql`update verifications set verify_time = verify_time - interval '2 days' where shop_id = ${large}`.execute(
      db,
    );
    await until(
      "it is told again",
      () => counts.skippedSeconds >= 2 * daySeconds && counts.skippedSeconds < 3 * daySeconds,
    );
  });

  test("rests after each page, so that others are served in between", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
    const reason = AdjustReason.RESTOCK;
    await inParallel(300, 30, async () => {
      await holdfast.grpc.inventory.adjustStock({ shopId, sku: "a", deltaCount: 1n, reason });
    });
    const { position = 0n } = (await holdfast.grpc.inventory.getStock({ shopId, sku: "a" })).asOf ?? {};
    // However short a page is, a rest is as long as it may be: 250 ms.
    const run = new Run(
      holdfast.server.store.db,
      createModel(shopId),
      (found) => expect.fail(found.kind),
      () => undefined,
      1_000_000,
    );
    const beganAtMs = performance.now();
    await run.foldSlowlyTo(Number(position));
    expect(run.model.position).toBe(Number(position));
    const commitPageCount = 3;
    expect(performance.now() - beganAtMs).toBeGreaterThan(commitPageCount * 200);
  });

  test("looks again at a shop in which it found something until that is mended, however large it has become", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 3 } });
    const { asOf } = await holdfast.grpc.admin.getShop({ shopId });
    const { found, counts } = start(Number(asOf?.position));
    await setAvailable(shopId, 7);
    await until("the difference is found", () => found.get(shopId) === 1);
    const skippedCount = counts.skipped;
    await createUser(holdfast.grpc, shopId, uniqueId("u"), 0);
    for await (const _ of holdfast.grpc.admin.rebuildShop({ shopId }));
    await until("nothing is found any more", () => found.get(shopId) === 0);
    await until("it is left out from now on", () => counts.skipped === skippedCount + 1);
  });

  test("goes on when a shop cannot be verified, and says so", async () => {
    const fine = await createShop(holdfast.grpc, { stock: { a: 3 } });
    const broken = await createShop(holdfast.grpc, { stock: { a: 3 } });
    const redis = new Redis(holdfast.redis.url);
    const { log } = shopKeys(broken) as { log: string };
    await redis.rename(log, `${log}-aside`);
    await redis.set(log, "not a log");
    const { found, counts } = start();
    await until("it has failed and gone on", () => counts.failed > 0 && found.get(fine) === 0, 30_000);
    await redis.rename(`${log}-aside`, log);
    await until("it is verified too", () => found.get(broken) === 0, 30_000);
    redis.disconnect();
  });

  test("with a period of 0 does nothing, and stops at once", async () => {
    const { counts, verifier } = start(100_000, 0);
    await verifier.stop();
    expect(counts).toEqual({ failed: 0, skipped: 0, skippedSeconds: 0, verified: 0 });
  });
});
