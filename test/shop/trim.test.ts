import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fillHistory, historySku } from "../../bench/growth/fill-history.ts";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { type CrashPoint, onCrashPoint } from "../../src/crash-point.ts";
import { trimEveryCommits } from "../../src/shop/flusher.ts";
import { auditShop } from "../helpers/audit.ts";
import { spawnHoldfast } from "../helpers/holdfast.ts";
import { startLoad } from "../helpers/load.ts";
import { copyShop, restoreShop } from "../helpers/redis-state.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
let direct: Redis;
let postgres: Client;
/** How often this process passed a crash point. */
const passed = new Map<CrashPoint, number>();

/** Called before a flush trims the log. */
let onTrim = (): void => {};

beforeAll(async () => {
  direct = new Redis(holdfast.redis.url);
  postgres = new Client({ connectionString: holdfast.database.url });
  await postgres.connect();
  onCrashPoint((point) => {
    passed.set(point, (passed.get(point) ?? 0) + 1);
    if (point === "before flush: trim") onTrim();
  });
});
afterAll(async () => {
  onCrashPoint(() => {});
  direct?.disconnect();
  await postgres?.end();
});

/** Durable commits that stay in the log. */
const marginCommits = 10_000;
/** Redis lets go of whole nodes of a stream, which have this many entries. */
const nodeEntries = 100;

const free = () => ({ lines: [{ sku: "a", quantity: 1 }], paymentMethod: PaymentMethod.NONE });
const meta = async (shopId: string, field: string): Promise<number> =>
  Number(await direct.hget(`{${shopId}}:meta`, field));

test("one flush in so many trims the log, the first after an opening among them", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1000 } });
  const count = async (point: CrashPoint, work: () => Promise<unknown>): Promise<number> => {
    const before = passed.get(point) ?? 0;
    await work();
    return (passed.get(point) ?? 0) - before;
  };
  const sell = (requestCount: number) => () =>
    startLoad({ clients: [holdfast.grpc], shopId, callerCount: 1, requestCount, order: free }).result;
  expect(await count("before flush: trim", sell(4 * trimEveryCommits))).toBe(4);
  expect(await count("before flush: append", sell(10)), "each order is a flush").toBe(10);
  await holdfast.server.store.shops.get(shopId).reopen(true);
  expect(await count("before flush: trim", sell(1))).toBe(1);
});

test("the log of a shop that never rests keeps its margin and little more", async () => {
  const shopId = await createShop(holdfast.grpc);
  // What it sold before, up to a little less than the margin.
  await fillHistory(postgres, shopId, marginCommits - 500, new AbortController().signal);
  const order = { lines: [{ sku: historySku, quantity: 1 }], paymentMethod: PaymentMethod.NONE };
  const load = { clients: [holdfast.grpc], shopId, callerCount: 60, requestCount: 2500 };
  const lengths: Promise<number>[] = [];
  const look = (): void => void lengths.push(direct.xlen(`{${shopId}}:log`));
  onTrim = look;
  await startLoad({ ...load, order: () => order }).result;
  onTrim = () => {};
  look();
  const [[first] = []] = await direct.xrange(`{${shopId}}:log`, "-", "+", "COUNT", 1);
  expect(Number.parseInt(first as string, 10)).toBeLessThanOrEqual((await meta(shopId, "position")) - marginCommits);
  const longest = Math.max(...(await Promise.all(lengths)));
  expect(longest).toBeGreaterThan(marginCommits);
  // Besides: what is not durable yet, what became so since the last trim was sent, and as much again while it was on its way.
  expect(longest).toBeLessThan(marginCommits + nodeEntries + 2 * (trimEveryCommits + 2 * load.callerCount));
  await auditShop({ ...holdfast.urls, shopId });
}, 120_000);

test("nothing is noted in a log that lost its tail until the shop is opened", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 9 } });
  const untilNoted = async () =>
    expect.poll(() => meta(shopId, "flushed"), { timeout: 8000, interval: 20 }).toBe(await meta(shopId, "position"));
  await holdfast.grpc.orders.placeOrder({ shopId, ...free() });
  await untilNoted();
  const before = await copyShop(direct, shopId);
  const { commit } = await holdfast.grpc.orders.placeOrder({ shopId, ...free() });
  await untilNoted();
  const trimCount = passed.get("before sweep: trim");
  expect(trimCount).toBeGreaterThan(0);
  await restoreShop(direct, shopId, before);
  await expect.poll(() => meta(shopId, "position"), { timeout: 8000 }).toBe(Number(commit?.position));
  expect(passed.get("before sweep: trim")).toBe(trimCount);
  await auditShop({ ...holdfast.urls, shopId });
});

test("how far Postgres is, is noted when a shop rests, whoever flushed it", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 9 } });
  const victim = await spawnHoldfast(holdfast.urls);
  await victim.grpc.orders.placeOrder({ shopId, ...free() });
  const { commit } = await victim.grpc.orders.placeOrder({ shopId, ...free() });
  await victim.kill();
  const position = Number(commit?.position);
  // As if it had died before the sweeper came by.
  await direct.hset(`{${shopId}}:meta`, "flushed", position - 1);
  await expect.poll(() => meta(shopId, "flushed"), { timeout: 8000 }).toBe(position);
  const untouched = await createShop(holdfast.grpc, { stock: { a: 9 } });
  await holdfast.grpc.orders.placeOrder({ shopId: untouched, ...free() });
  await expect.poll(() => meta(untouched, "flushed"), { timeout: 8000 }).toBe(await meta(untouched, "position"));
});
