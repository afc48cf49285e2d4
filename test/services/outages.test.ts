import { Code, ConnectError } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Clients, type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { persist } from "../helpers/load.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";
import { readAll } from "../server/clients.ts";

const stores = useStores();
let redisProxy: TcpProxy;
let postgresProxy: TcpProxy;
let holdfast: Holdfast;
let direct: Redis;

beforeAll(async () => {
  redisProxy = await startProxy(stores.redis.url);
  postgresProxy = await startProxy(stores.database.url);
  holdfast = await startHoldfast({ redisUrl: redisProxy.url, databaseUrl: postgresProxy.url });
  direct = new Redis(stores.redis.url);
});
afterAll(async () => {
  await holdfast?.stop();
  direct?.disconnect();
  await Promise.all([redisProxy?.stop(), postgresProxy?.stop()]);
});

const sale = { lines: [{ sku: "a", quantity: 1 }], paymentMethod: PaymentMethod.NONE };
const unavailable = { code: Code.Unavailable, reason: "SHOP_UNAVAILABLE", retryMs: expect.any(Number) };
const away = () => holdfast.server.store.shops.awayStore();
const logLength = (shopId: string) => direct.xlen(`{${shopId}}:log`);

/** A shop in which there is something of everything that can be read. */
async function fill(): Promise<string> {
  const { orders, inventory } = holdfast.grpc;
  const shopId = await createShop(holdfast.grpc, { stock: { a: 100, b: 5 }, users: { ann: 1000 } });
  await inventory.holdStock({ shopId, holdId: "h", lines: sale.lines });
  await orders.placeOrder({
    shopId,
    orderId: "o",
    userId: "ann",
    lines: sale.lines,
    paymentMethod: PaymentMethod.WALLET,
  });
  return shopId;
}

function reads({ inventory, orders, users, subscriptions, admin }: Clients, shopId: string) {
  return {
    GetStock: () => inventory.getStock({ shopId, sku: "a" }),
    BatchGetStock: () => inventory.batchGetStock({ shopId, skus: ["b", "a"] }),
    GetHold: () => inventory.getHold({ shopId, holdId: "h" }),
    GetProduct: () => inventory.getProduct({ shopId, sku: "a" }),
    GetOrder: () => orders.getOrder({ shopId, orderId: "o" }),
    GetUser: () => users.getUser({ shopId, userId: "ann" }),
    LookupUser: () => users.lookupUser({ shopId, email: "ann@example.com" }),
    GetSubscription: () => subscriptions.getSubscription({ shopId, userId: "ann" }),
    GetShop: () => admin.getShop({ shopId }),
    GetShopStats: () => admin.getShopStats({ shopId }),
  };
}

/** Answers of all reads, by RPC. */
async function answersOf(shopId: string): Promise<Record<string, unknown>> {
  const all = Object.entries(reads(holdfast.grpc, shopId));
  return Object.fromEntries(await Promise.all(all.map(async ([rpc, read]) => [rpc, await read()] as const)));
}

async function medianMs(call: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let count = 0; count < 51; count += 1) {
    const from = performance.now();
    await call();
    times.push(performance.now() - from);
  }
  return times.sort((a, b) => a - b)[25] as number;
}

async function expectMutationsRefused(shopId: string, what: string): Promise<void> {
  const before = await logLength(shopId);
  const place = () => holdfast.grpc.orders.placeOrder({ shopId, ...sale });
  expect(await refusalOf(place())).toMatchObject(unavailable);
  const median = await medianMs(() => place().catch(() => {}));
  process.stderr.write(`${what}: a mutation is refused in ${median.toFixed(2)} ms (median of 51)\n`);
  for (const call of [
    () => holdfast.http.orders.placeOrder({ shopId, ...sale }),
    () => holdfast.grpc.users.depositFunds({ shopId, userId: "ann", amountMinor: 1n }),
    () => holdfast.grpc.inventory.releaseHold({ shopId, holdId: "h" }),
  ]) {
    expect(await refusalOf(call())).toMatchObject(unavailable);
  }
  expect(await logLength(shopId), "Redis was not touched").toBe(before);
}

/** Waits until a mutation is durable again and prints how long that took. */
async function expectBack(shopId: string, what: string): Promise<void> {
  const from = performance.now();
  const answer = await persist(() => holdfast.grpc.orders.placeOrder({ shopId, ...sale }, { timeoutMs: 2000 }));
  expect(answer?.commit?.durable).toBe(true);
  await persist(() => holdfast.grpc.orders.getOrder({ shopId, orderId: answer?.order?.orderId as string }));
  process.stderr.write(`${what}: back to service after ${(performance.now() - from).toFixed(0)} ms\n`);
}

describe("a Postgres that accepts and never answers", () => {
  test("is noticed; mutations are refused at once, reads of what is durable go on, and service is back by itself", async () => {
    const shopId = await fill();
    const { inventory, admin, subscriptions, orders, events } = holdfast.grpc;
    const before = await answersOf(shopId);
    postgresProxy.swallow();
    await expect.poll(away, { timeout: 10_000 }).toBe("Postgres");
    await expectMutationsRefused(shopId, "Postgres hangs");
    expect(await inventory.getStock({ shopId, sku: "a" })).toEqual(before["GetStock"]);
    expect(await inventory.batchGetStock({ shopId, skus: ["b", "a"] })).toEqual(before["BatchGetStock"]);
    expect(await admin.getShopStats({ shopId })).toEqual(before["GetShopStats"]);
    expect(await subscriptions.getSubscription({ shopId, userId: "ann" })).toEqual(before["GetSubscription"]);
    expect(await refusalOf(inventory.getStock({ shopId, sku: "none" }))).toMatchObject({ reason: "PRODUCT_NOT_FOUND" });
    for (const call of [
      () => orders.getOrder({ shopId, orderId: "o" }),
      () => events.listEvents({ shopId }),
      () => admin.createShop({ shopId: uniqueId("shop"), currencyCode: "USD" }),
    ]) {
      expect(await refusalOf(call())).toMatchObject(unavailable);
    }
    // Another Redis may be there after a reconnect, one that lost what was acknowledged: nobody could tell now.
    const { generation } = holdfast.server.store.redis;
    redisProxy.cut();
    await expect.poll(() => holdfast.server.store.redis.generation).toBeGreaterThanOrEqual(generation + 3);
    await expect.poll(() => refusalOf(inventory.getStock({ shopId, sku: "a" }))).toMatchObject(unavailable);
    postgresProxy.accept();
    await expectBack(shopId, "Postgres hung");
    await auditShop({ ...stores.urls, shopId });
  }, 40_000);

  test("leaves who waits for it waiting until the deadline; a read that saw what is not durable is refused", async () => {
    const shopId = await fill();
    const { orders, inventory } = holdfast.grpc;
    const request = { shopId, requestId: uniqueId("r"), ...sale };
    postgresProxy.swallow();
    const waiting = orders.placeOrder(request, { timeoutMs: 4000 });
    waiting.catch(() => {});
    await expect.poll(away, { timeout: 10_000 }).toBe("Postgres");
    expect(await refusalOf(inventory.getStock({ shopId, sku: "a" }))).toMatchObject(unavailable);
    await expect(waiting).rejects.toMatchObject({ code: Code.DeadlineExceeded });
    postgresProxy.accept();
    expect((await persist(() => orders.placeOrder(request)))?.commit?.replayed).toBe(true);
    await auditShop({ ...stores.urls, shopId });
  }, 40_000);
});

describe("without Redis", () => {
  test.each([
    ["refuses connections", () => redisProxy.refuse(), () => redisProxy.accept()],
    [
      "hangs",
      () => redisProxy.swallow(),
      () => {
        redisProxy.accept();
        redisProxy.cut();
      },
    ],
    ["is silent on the connections that there were", () => redisProxy.swallow(), () => redisProxy.accept()],
  ])(
    "that %s, mutations are refused at once, and reads are answered from Postgres as of its newest commit",
    async (what, fail, mend) => {
      const shopId = await fill();
      const before = await answersOf(shopId);
      fail();
      await expect.poll(away, { timeout: 10_000 }).toBe("Redis");
      await expectMutationsRefused(shopId, `Redis ${what}`);
      expect(await answersOf(shopId)).toEqual(before);
      const { inventory, users, subscriptions } = holdfast.http;
      expect(await refusalOf(inventory.batchGetStock({ shopId, skus: ["a", "none"] }))).toMatchObject({
        reason: "PRODUCT_NOT_FOUND",
        metadata: {
          sku: "none",
          position: String((before["GetStock"] as { asOf: { position: bigint } }).asOf.position),
        },
      });
      expect(await refusalOf(users.getUser({ shopId, userId: "no" }))).toMatchObject({ reason: "USER_NOT_FOUND" });
      expect(await refusalOf(subscriptions.getSubscription({ shopId, userId: "no" }))).toMatchObject({
        reason: "USER_NOT_FOUND",
      });
      mend();
      await expectBack(shopId, `Redis ${what}`);
      await auditShop({ ...stores.urls, shopId });
      // A connection that was asked nothing meanwhile is silent still.
      redisProxy.cut();
      await expectBack(shopId, "after a cut");
    },
    40_000,
  );

  test("a hold that became due meanwhile is shown as of the newest commit: not ended yet", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 9 } });
    redisProxy.delay(0);
    const { inventory } = holdfast.grpc;
    const { hold } = await inventory.holdStock({ shopId, holdId: "h", ...sale, holdDuration: { seconds: 1n } });
    redisProxy.refuse();
    await expect.poll(away, { timeout: 10_000 }).toBe("Redis");
    await expect
      .poll(() => Date.now() / 1000, { timeout: 3000 })
      .toBeGreaterThan(Number(hold?.expireTime?.seconds) + 1);
    const seen = await inventory.getHold({ shopId, holdId: "h" });
    expect(seen.hold?.state, "its expire_time says that it is over").toBe(hold?.state);
    expect((await inventory.getStock({ shopId, sku: "a" })).stock).toMatchObject({ availableCount: 8n, heldCount: 1n });
    redisProxy.accept();
    await expectBack(shopId, "Redis refused");
    expect((await persist(() => inventory.getStock({ shopId, sku: "a" })))?.stock).toMatchObject({ heldCount: 0n });
  }, 40_000);

  test("a Redis that takes no writes refuses mutations with RetryInfo", async () => {
    const shopId = await fill();
    await direct.replicaof("127.0.0.1", "1");
    expect(await refusalOf(holdfast.grpc.orders.placeOrder({ shopId, ...sale }))).toMatchObject(unavailable);
    await direct.replicaof("NO", "ONE");
    await expectBack(shopId, "Redis was read-only");
    await auditShop({ ...stores.urls, shopId });
  }, 40_000);
});

test.each([
  ["RebuildShop", "Redis", () => redisProxy, (shopId: string) => readAll(holdfast.grpc.admin.rebuildShop({ shopId }))],
  [
    "VerifyShop",
    "Postgres",
    () => postgresProxy,
    (shopId: string) => readAll(holdfast.grpc.admin.verifyShop({ shopId })),
  ],
] as const)("%s of a shop that somebody made up leaves nothing behind without %s", async (_rpc, store, proxy, call) => {
  const shopId = uniqueId("made-up");
  proxy().refuse();
  await expect.poll(away, { timeout: 5000 }).toBe(store);
  const refusal = await refusalOf(call(shopId)).finally(() => proxy().accept());
  expect(refusal).toMatchObject(unavailable);
  expect(Array.from(holdfast.server.store.shops.served, ({ id }) => id)).not.toContain(shopId);
  await expect.poll(away, { timeout: 5000 }).toBe(undefined);
});

test("a shop that is only read here is not forgotten when a call is refused without Postgres", async () => {
  const { events, orders } = holdfast.grpc;
  const shopId = await createShop(holdfast.grpc);
  await events.listEvents({ shopId });
  postgresProxy.refuse();
  await expect.poll(away, { timeout: 5000 }).toBe("Postgres");
  const refusal = await refusalOf(orders.placeOrder({ shopId, ...sale })).finally(() => postgresProxy.accept());
  expect(refusal).toMatchObject(unavailable);
  expect(holdfast.server.store.shops.find(shopId)?.backlog.durablePosition).toBe(1);
  await expect.poll(away, { timeout: 5000 }).toBe(undefined);
});

test("a commit that both stores lost, and whose caller has left, waits for nothing", async () => {
  // Nothing of this shop is open, so nobody but its next caller would open it again.
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const shop = holdfast.server.store.shops.get(shopId);
  postgresProxy.swallow();
  const adjust = { shopId, sku: "a", deltaCount: 1n, reason: 1 };
  const left = holdfast.grpc.inventory.adjustStock(adjust, { timeoutMs: 500 });
  await expect(left).rejects.toMatchObject({ code: Code.DeadlineExceeded });
  await expect.poll(away, { timeout: 10_000 }).toBe("Postgres");
  await expect.poll(() => shop.waitingCallCount, { timeout: 10_000 }).toBe(0);
  expect(shop.backlog.count).toBe(1);
  await direct.flushall();
  postgresProxy.accept();
  await expect.poll(() => shop.backlog.count, { timeout: 10_000 }).toBe(0);
}, 40_000);

test("what was decided and recorded leaves its place to the next, however many there are", async () => {
  const server = await startHoldfast({ ...stores.urls, settings: { HOLDFAST_MAX_BACKLOG_COMMITS: "3" } });
  const shopId = await createShop(server.grpc, { stock: { a: 1 } });
  for (let count = 2; count <= 12; count += 1) {
    const { stock } = await server.grpc.inventory.adjustStock({ shopId, sku: "a", deltaCount: 1n, reason: 1 });
    expect(stock?.availableCount).toBe(BigInt(count));
  }
  await server.stop();
  const next = await startHoldfast({ ...stores.urls, settings: { HOLDFAST_MAX_BACKLOG_COMMITS: "3" } });
  const { stock } = await next.grpc.inventory.adjustStock({ shopId, sku: "a", deltaCount: 1n, reason: 1 });
  expect(stock?.availableCount, "by a process that has just opened the shop").toBe(13n);
  await next.stop();
});

test("the log of a shop stays within its limit while Postgres is slow, whoever commits", async () => {
  const maxBacklogCommits = 100;
  const settings = { HOLDFAST_MAX_BACKLOG_COMMITS: String(maxBacklogCommits) };
  const slow = await startProxy(stores.database.url);
  const servers = await Promise.all(
    [0, 1].map(() => startHoldfast({ redisUrl: stores.redis.url, databaseUrl: slow.url, settings })),
  );
  const shopId = await createShop((servers[0] as Holdfast).grpc, { stock: { a: 1 } });
  slow.delay(150);
  const callerCount = 40;
  let longest = 0;
  let refusedCount = 0;
  const until = performance.now() + 4000;
  const work = async (index: number): Promise<void> => {
    const { inventory } = (servers[index % 2] as Holdfast).grpc;
    while (performance.now() < until) {
      await inventory
        .adjustStock({ shopId, sku: "a", deltaCount: 1n, reason: 1 }, { timeoutMs: 100 })
        .catch(async (error) => {
          // Who gives up after 100 ms leaves a commit behind that waits for Postgres.
          if (error instanceof ConnectError && error.code === Code.DeadlineExceeded) return;
          const { reason, retryMs } = await refusalOf(Promise.reject(error));
          expect(["OVERLOADED", "SHOP_UNAVAILABLE"]).toContain(reason);
          expect(retryMs).toBeGreaterThan(0);
          refusedCount += reason === "OVERLOADED" ? 1 : 0;
          await new Promise((resolve) => setTimeout(resolve, 20));
        });
    }
  };
  const watch = async (): Promise<void> => {
    while (performance.now() < until) {
      const [position, flushed] = await direct.hmget(`{${shopId}}:meta`, "position", "flushed");
      const known = servers.map(({ server }) => server.store.shops.get(shopId).backlog.durablePosition);
      longest = Math.max(longest, Number(position) - Math.max(Number(flushed), ...known));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  await Promise.all([watch(), ...Array.from({ length: callerCount }, (_, index) => work(index))]);
  slow.delay(0);
  process.stderr.write(
    `backlog: at most ${longest} commits with a limit of 100 and 40 callers; ${refusedCount} refusals\n`,
  );
  // What another process has in flight is not known yet: each keeps to the limit by itself.
  expect(longest).toBeLessThanOrEqual(maxBacklogCommits * servers.length);
  expect(refusedCount).toBeGreaterThan(0);
  await auditShop({ ...stores.urls, shopId });
  await Promise.all(servers.map((server) => server.stop()));
  await slow.stop();
}, 60_000);
