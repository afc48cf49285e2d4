import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { type Acknowledged, auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { commitOf, persist, startLoad } from "../helpers/load.ts";
import { readRedisState } from "../helpers/redis-state.ts";
import { administrate, createDatabase, startRedis, type TestDatabase } from "../helpers/servers.ts";
import { createShop } from "../helpers/shop.ts";

let redis: Awaited<ReturnType<typeof startRedis>>;
let database: TestDatabase;
let holdfast: Holdfast;
const copies: string[] = [];

beforeEach(async () => {
  [redis, database] = await Promise.all([startRedis(), createDatabase()]);
  holdfast = await startHoldfast({ redisUrl: redis.url, databaseUrl: database.url });
});
afterEach(async () => {
  await holdfast.stop();
  await Promise.all([redis.stop(), database.drop()]);
});
afterAll(async () => {
  await administrate(...copies.splice(0).map((name) => `drop database if exists ${name} with (force)`));
});

const urls = () => ({ redisUrl: redis.url, databaseUrl: database.url });
const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 100_000]));
const lines = [{ sku: "ps5", quantity: 1 }];

const endSessions = (name: string): string =>
  `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}' and pid <> pg_backend_pid()`;

/** Copies the database as it is. Nobody may be connected meanwhile: Holdfast loses its connections and makes new ones. */
async function copyDatabase(): Promise<string> {
  const copy = `${database.name}_copy${copies.length}`;
  copies.push(copy);
  await withoutSessions([database.name], `create database ${copy} template ${database.name}`);
  return copy;
}

/** Puts a copy in the database's place: what was committed since is lost, as after a failover to a standby that lags. */
async function restoreDatabase(copy: string): Promise<void> {
  const { name } = database;
  copies.push(`${name}_lost${copies.length}`);
  await withoutSessions(
    [name],
    `alter database ${name} rename to ${copies.at(-1)}`,
    `alter database ${copy} rename to ${name}`,
  );
}

async function withoutSessions(names: readonly string[], ...statements: string[]): Promise<void> {
  for (const name of names) await administrate(`alter database ${name} allow_connections false`, endSessions(name));
  await expect
    .poll(
      () =>
        administrate(...statements).then(
          () => true,
          () => false,
        ),
      { timeout: 5000, interval: 20 },
    )
    .toBe(true);
  for (const name of names) await administrate(`alter database ${name} allow_connections true`).catch(() => {});
}

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
    const copy = await copyDatabase();
    acknowledged.push(...(await useShop(shopId, "after")));
    const head = await headOf(shopId);
    const { user } = await holdfast.grpc.users.getUser({ shopId, userId: "user-after" });
    const state = await readRedisState(redis.url, shopId);
    await restoreDatabase(copy);
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
    const copy = await copyDatabase();
    acknowledged.push(...(await useShop(shopId, "after")));
    const direct = new Redis(redis.url);
    await direct.flushall();
    direct.disconnect();
    acknowledged.push(commitOf(await holdfast.grpc.orders.placeOrder({ shopId, userId: "u3", lines })));
    const { user } = await holdfast.grpc.users.getUser({ shopId, userId: "user-after" });
    await restoreDatabase(copy);
    await auditShop({ ...urls(), shopId }, acknowledged);
    const found = await persist(() => holdfast.grpc.users.getUser({ shopId, userId: "user-after" }));
    expect(found?.user).toEqual(user);
  });

  test("is healed by the first call, and every read shows what was acknowledged", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 100 }, users });
    const copy = await copyDatabase();
    const acknowledged = await useShop(shopId, "after");
    await restoreDatabase(copy);
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

  test("under load loses nothing and sells nothing twice", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 500 }, users });
    const load = startLoad({ clients: [holdfast.grpc], shopId, callerCount: 32, requestCount: 600 });
    await load.reached(150);
    const copy = await copyDatabase();
    await load.reached(350);
    await restoreDatabase(copy);
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
