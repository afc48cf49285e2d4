import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { type Acknowledged, auditShop } from "../helpers/audit.ts";
import { createDatabaseCopies, type DatabaseCopies, endSessions } from "../helpers/database-copies.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { commitOf, persist, startLoad } from "../helpers/load.ts";
import { readRedisState } from "../helpers/redis-state.ts";
import { administrate, createDatabase, startRedis, type TestDatabase } from "../helpers/servers.ts";
import { createShop } from "../helpers/shop.ts";

let redis: Awaited<ReturnType<typeof startRedis>>;
let database: TestDatabase;
let holdfast: Holdfast;
let copies: DatabaseCopies;

beforeEach(async () => {
  [redis, database] = await Promise.all([startRedis(), createDatabase()]);
  copies = createDatabaseCopies(database);
  holdfast = await startHoldfast({ redisUrl: redis.url, databaseUrl: database.url });
});
afterEach(async () => {
  await holdfast.stop();
  await Promise.all([redis.stop(), database.drop()]);
  await copies.drop();
});

const urls = () => ({ redisUrl: redis.url, databaseUrl: database.url });
const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 100_000]));
const lines = [{ sku: "ps5", quantity: 1 }];

async function headOf(shopId: string): Promise<number> {
  const client = new Client({ connectionString: database.url });
  await client.connect();
  const { rows } = await client.query("select head_position::int as head from shops where shop_id = $1", [shopId]);
  await client.end();
  return rows[0]?.head;
}

/** Every kind of commit, acknowledged. */
async function useShop(shopId: string, tag: string): Promise<Acknowledged[]> {
  const { inventory, orders, users: userService } = holdfast.grpc;
  const commits = [
    await persist(() => inventory.putProduct({ shopId, sku: `p-${tag}`, title: tag, priceMinor: 5n })),
    await inventory.adjustStock({ shopId, sku: `p-${tag}`, deltaCount: 9n, reason: 1 }),
    await userService.createUser({ shopId, userId: `user-${tag}`, email: `${tag}@example.com`, displayName: tag }),
    await userService.depositFunds({ shopId, userId: `user-${tag}`, amountMinor: 500n }),
    await inventory.holdStock({ shopId, holdId: `h1-${tag}`, lines }),
    await inventory.holdStock({ shopId, holdId: `h2-${tag}`, userId: "u1", lines }),
    await inventory.extendHold({ shopId, holdId: `h2-${tag}`, holdDuration: { seconds: 900n } }),
    await inventory.releaseHold({ shopId, holdId: `h1-${tag}` }),
    await orders.placeOrder({ shopId, orderId: `o1-${tag}`, userId: `user-${tag}`, lines }),
    await orders.placeOrder({ shopId, orderId: `o2-${tag}`, holdId: `h2-${tag}`, paymentMethod: PaymentMethod.NONE }),
    await inventory.holdStock({ shopId, holdId: `h3-${tag}`, userId: "u2", lines }),
  ];
  return commits.map((answer) => commitOf(answer as { commit: NonNullable<typeof answer>["commit"] }));
}

describe("a Postgres that lost its tail", () => {
  test("gets it back from Redis' log, without traffic", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 100 }, users });
    const acknowledged = await useShop(shopId, "before");
    const copy = await copies.take();
    acknowledged.push(...(await useShop(shopId, "after")));
    const head = await headOf(shopId);
    const { user } = await holdfast.grpc.users.getUser({ shopId, userId: "user-after" });
    const state = await readRedisState(redis.url, shopId);
    await copies.putBack(copy);
    expect(await headOf(shopId)).toBe(head - 11);
    await expect.poll(() => headOf(shopId), { timeout: 8000, interval: 50 }).toBe(head);
    await auditShop({ ...urls(), shopId }, acknowledged);
    const found = await persist(() => holdfast.grpc.users.getUser({ shopId, userId: "user-after" }));
    expect(found?.user, "what is kept outside of events comes back too").toEqual(user);
    expect(await readRedisState(redis.url, shopId)).toEqual(state);
  });

  test("gets it back also when the shop was rebuilt before", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 100 }, users });
    const acknowledged = await useShop(shopId, "before");
    const copy = await copies.take();
    acknowledged.push(...(await useShop(shopId, "after")));
    const direct = new Redis(redis.url);
    await direct.flushall();
    direct.disconnect();
    acknowledged.push(commitOf(await holdfast.grpc.orders.placeOrder({ shopId, userId: "u3", lines })));
    const { user } = await holdfast.grpc.users.getUser({ shopId, userId: "user-after" });
    await copies.putBack(copy);
    await auditShop({ ...urls(), shopId }, acknowledged);
    const found = await persist(() => holdfast.grpc.users.getUser({ shopId, userId: "user-after" }));
    expect(found?.user).toEqual(user);
  });

  test.each([
    [
      "ListProducts",
      async (shopId: string) => (await holdfast.grpc.inventory.listProducts({ shopId })).products.length,
      2,
    ],
    ["ListOrders", async (shopId: string) => (await holdfast.grpc.orders.listOrders({ shopId })).orders.length, 2],
    [
      "ListWalletEntries",
      async (shopId: string) =>
        (await holdfast.grpc.users.listWalletEntries({ shopId, userId: "user-after" })).entries.length,
      3,
    ],
    ["ListSkuStats", async (shopId: string) => (await holdfast.grpc.admin.listSkuStats({ shopId })).skuStats.length, 2],
  ])("is healed by %s, which shows what was acknowledged", async (_, count, expected) => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 100 }, users });
    const copy = await copies.take();
    await useShop(shopId, "after");
    await copies.putBack(copy);
    expect(await persist(() => count(shopId))).toBe(expected);
  });

  test("is healed by the first call, and every read shows what was acknowledged", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 100 }, users });
    const copy = await copies.take();
    const acknowledged = await useShop(shopId, "after");
    await copies.putBack(copy);
    const { inventory, orders, users: userService } = holdfast.grpc;
    const reads = {
      GetOrder: () => orders.getOrder({ shopId, orderId: "o1-after" }),
      GetUser: () => userService.getUser({ shopId, userId: "user-after" }),
      GetProduct: () => inventory.getProduct({ shopId, sku: "p-after" }),
      GetHold: () => inventory.getHold({ shopId, holdId: "h2-after" }),
      GetStock: () => inventory.getStock({ shopId, sku: "p-after" }),
    };
    for (const [rpc, read] of Object.entries(reads)) {
      const answer = await persist<{ asOf?: { position: bigint } | undefined }>(read);
      expect(Number(answer?.asOf?.position), rpc).toBeGreaterThanOrEqual(Number(acknowledged.at(-1)?.position));
    }
    await auditShop({ ...urls(), shopId }, acknowledged);
  });

  test("takes back nothing that ListEvents showed, also on a process that does nothing else", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 100 }, users });
    const copy = await copies.take();
    const reader = await startHoldfast(urls());
    try {
      const list = async () => (await reader.grpc.events.listEvents({ shopId, pageSize: 1000 })).events.length;
      await list();
      await useShop(shopId, "after");
      const shown = await list();
      await copies.putBack(copy);
      expect(await persist(list)).toBe(shown);
    } finally {
      await reader.stop();
    }
  });

  test("takes back nothing that a watcher was told, while it is healed", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 100 }, users });
    const copy = await copies.take();
    await useShop(shopId, "after");
    const head = await headOf(shopId);
    const bookmarks: number[] = [];
    const request = { shopId, bookmarkInterval: { nanos: 10_000_000 }, maxCommitsPerMessage: 1000 };
    const ending = new AbortController();
    const watching = (async () => {
      for await (const { message } of holdfast.grpc.events.watchEvents(request, { signal: ending.signal })) {
        if (message.case === "bookmark" || message.case === "caughtUp") bookmarks.push(Number(message.value.position));
      }
    })();
    const watched = watching.catch((error) => error);
    await expect.poll(() => bookmarks.at(-1), { timeout: 5000 }).toBe(head);
    await copies.putBack(copy);
    const toldCount = bookmarks.length;
    await expect.poll(() => headOf(shopId), { timeout: 8000, interval: 50 }).toBe(head);
    await expect.poll(() => bookmarks.length, { timeout: 5000 }).toBeGreaterThan(toldCount + 10);
    // Before the first page was there, it may have been told that it stands at the beginning.
    expect([...new Set(bookmarks.slice(bookmarks.indexOf(head)))]).toEqual([head]);
    ending.abort();
    expect(await watched).toMatchObject({ code: Code.Canceled });
  });

  test("under load loses nothing and sells nothing twice", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 500 }, users });
    const load = startLoad({ clients: [holdfast.grpc], shopId, callerCount: 32, requestCount: 600 });
    await load.reached(150);
    const copy = await copies.take();
    await load.reached(350);
    await copies.putBack(copy);
    const { acknowledged, refusedCount } = await load.result;
    expect(acknowledged).toHaveLength(500);
    expect(refusedCount).toBe(100);
    await auditShop({ ...urls(), shopId }, acknowledged);
  });
});

test("sessions that are killed again and again under load and rebuilds lose nothing", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { ps5: 500 }, users });
  const load = startLoad({ clients: [holdfast.grpc], shopId, callerCount: 32, requestCount: 600 });
  for (let count = 60; count <= 480; count += 60) {
    await load.reached(count);
    // The rebuild holds a transaction open, which is among what is killed.
    const rebuild = holdfast.server.store.shops
      .get(shopId)
      .reopen(true)
      .catch(() => {});
    await administrate(endSessions(database.name));
    await rebuild;
  }
  const { acknowledged, refusedCount } = await load.result;
  expect(acknowledged).toHaveLength(500);
  expect(refusedCount).toBe(100);
  await auditShop({ ...urls(), shopId }, acknowledged);
  expect(holdfast.faults).toEqual([]);
});
