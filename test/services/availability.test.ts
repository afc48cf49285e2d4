import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Redis } from "ioredis";
import { Client } from "pg";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { createStoreState } from "../../src/shop/store-state.ts";
import { auditShop } from "../helpers/audit.ts";
import { type Clients, type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { persist } from "../helpers/load.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
let redisProxy: TcpProxy;
let postgresProxy: TcpProxy;
let holdfast: Holdfast;

beforeAll(async () => {
  redisProxy = await startProxy(stores.redis.url);
  postgresProxy = await startProxy(stores.database.url);
  holdfast = await startHoldfast({ redisUrl: redisProxy.url, databaseUrl: postgresProxy.url });
});

afterAll(async () => {
  await holdfast?.stop();
  await Promise.all([redisProxy?.stop(), postgresProxy?.stop()]);
});

const order = { lines: [{ sku: "a", quantity: 1 }], paymentMethod: PaymentMethod.NONE };

/** One call of each kind: decided in Redis, read from Redis, read from Postgres. */
function callsOf({ orders, inventory, users, events, admin }: Clients, shopId: string) {
  return {
    PlaceOrder: () => orders.placeOrder({ shopId, ...order }),
    DepositFunds: () => users.depositFunds({ shopId, userId: "ann", amountMinor: 1n }),
    ReleaseHold: () => inventory.releaseHold({ shopId, holdId: "none" }),
    GetStock: () => inventory.getStock({ shopId, sku: "a" }),
    GetHold: () => inventory.getHold({ shopId, holdId: "h" }),
    GetProduct: () => inventory.getProduct({ shopId, sku: "a" }),
    GetUser: () => users.getUser({ shopId, userId: "ann" }),
    ListEvents: () => events.listEvents({ shopId }),
    GetShop: () => admin.getShop({ shopId }),
    ListShops: () => admin.listShops({}),
    CreateShop: () => admin.createShop({ shopId, currencyCode: "USD" }),
  };
}

async function readLogLength(shopId: string): Promise<number> {
  const redis = new Redis(stores.redis.url);
  return redis.xlen(`{${shopId}}:log`).finally(() => redis.disconnect());
}

const unavailable = { code: Code.Unavailable, reason: "SHOP_UNAVAILABLE", retryMs: expect.any(Number) };

describe("while Postgres cannot be reached", () => {
  test("every call says UNAVAILABLE with a RetryInfo, no mutation reaches Redis, and all goes on when it is back", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 100 }, users: { ann: 1000 } });
    await holdfast.grpc.inventory.holdStock({ shopId, holdId: "h", ...order });
    postgresProxy.refuse();
    // The first calls find out. What they decided, if anything, is in the log and will be flushed.
    await Promise.allSettled([holdfast.grpc.orders.placeOrder({ shopId, ...order }, { timeoutMs: 1000 })]);
    await expect.poll(() => holdfast.server.store.shops.awayStore(), { timeout: 5000 }).toBe("Postgres");
    const logLength = await readLogLength(shopId);
    for (const door of ["grpc", "http"] as const) {
      for (const [rpc, call] of Object.entries(callsOf(holdfast[door], shopId))) {
        expect(await refusalOf(call()), `${rpc} on ${door}`).toMatchObject(unavailable);
      }
    }
    expect(await readLogLength(shopId)).toBe(logLength);
    postgresProxy.accept();
    const answer = await persist(() => holdfast.grpc.orders.placeOrder({ shopId, ...order }));
    expect(answer?.commit?.durable).toBe(true);
    await auditShop({ ...stores.urls, shopId });
  });
});

describe("while Redis cannot be reached", () => {
  test("every mutation says UNAVAILABLE with a RetryInfo, and all goes on when it is back", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 100 }, users: { ann: 1000 } });
    await holdfast.grpc.inventory.holdStock({ shopId, holdId: "h", ...order });
    redisProxy.refuse();
    for (const door of ["grpc", "http"] as const) {
      const calls = callsOf(holdfast[door], shopId);
      for (const rpc of ["PlaceOrder", "DepositFunds", "ReleaseHold"] as const) {
        expect(await refusalOf(calls[rpc]()), `${rpc} on ${door}`).toMatchObject(unavailable);
      }
    }
    redisProxy.accept();
    const answer = await persist(() => holdfast.grpc.orders.placeOrder({ shopId, ...order }));
    expect(answer?.commit?.durable).toBe(true);
    await auditShop({ ...stores.urls, shopId });
  });

  test("a shop that this process has not opened yet refuses mutations too, and is read from Postgres", async () => {
    const shopId = await createShop(holdfast.grpc);
    redisProxy.refuse();
    expect(await refusalOf(holdfast.grpc.orders.placeOrder({ shopId, ...order }))).toMatchObject(unavailable);
    expect(await refusalOf(holdfast.grpc.inventory.getStock({ shopId, sku: "a" }))).toMatchObject({
      reason: "PRODUCT_NOT_FOUND",
    });
    redisProxy.accept();
    await persist(() => holdfast.grpc.inventory.putProduct({ shopId, sku: "a", priceMinor: 1n }));
  });
});

describe("a store that is away", () => {
  /** One that has not seen an outage yet. */
  let fresh: Holdfast;
  beforeAll(async () => {
    fresh = await startHoldfast({ redisUrl: redisProxy.url, databaseUrl: postgresProxy.url });
  });
  afterAll(() => fresh?.stop());
  // The other server may find out later that a store is back.
  afterEach(() => expect.poll(() => holdfast.server.store.shops.awayStore(), { timeout: 8000 }).toBeUndefined());

  const readProbes = async () => {
    const response = await fetch(`${fresh.httpUrl}/readyz`);
    const health = createClient(Health, createGrpcTransport({ baseUrl: `http://${fresh.grpcAddress}` }));
    const { status } = await health.check({ service: "holdfast.v1.OrderService" });
    return [response.status, await response.text(), Status[status]];
  };
  const probesSay = (...answers: unknown[]) => expect.poll(readProbes, { timeout: 8000 }).toEqual(answers);

  test.each([
    ["Redis", () => redisProxy],
    ["Postgres", () => postgresProxy],
  ] as const)(
    "%s: neither probe is ready until it is back, and the log has one line for each change",
    async (store, proxy) => {
      for (let count = 0; count < 3; count += 1) await createShop(fresh.grpc);
      await probesSay(200, "ok\n", "SERVING");
      const from = fresh.logged.length;
      proxy().refuse();
      await probesSay(503, `${store} is away\n`, "NOT_SERVING");
      // Many attempts to connect, each of which could log a line that should not be there.
      await expect.poll(() => proxy().refusedCount, { timeout: 15_000 }).toBeGreaterThan(5);
      proxy().accept();
      await probesSay(200, "ok\n", "SERVING");
      expect(fresh.logged.slice(from).map((line) => JSON.parse(line))).toEqual([
        expect.objectContaining({ level: 40, msg: `${store} is away: not ready until it is back` }),
        expect.objectContaining({ level: 30, msg: `${store} is back` }),
      ]);
      expect(fresh.logged.slice(from).join()).not.toContain("stack");
    },
    30_000,
  );

  test("a Redis that keeps its connections and says nothing is away, too", async () => {
    redisProxy.delay(60_000);
    await probesSay(503, "Redis is away\n", "NOT_SERVING");
    redisProxy.delay(0);
    redisProxy.cut();
    await probesSay(200, "ok\n", "SERVING");
  }, 20_000);

  test("is logged when it goes, once a minute while it is away or comes and goes, and when it is back", () => {
    let nowMs = 0;
    const told: string[] = [];
    const logger = pino({ level: "info" }, { write: (line) => told.push(JSON.parse(line).msg) });
    let changeCount = 0;
    const onChange = () => {
      changeCount += 1;
    };
    const state = createStoreState({ store: "Redis", logger, onChange, now: () => nowMs });
    const away = "Redis is away: not ready until it is back";
    const at = (ms: number, what: "answered" | "failed") => {
      nowMs = ms;
      state[what](new Error("gone"));
      return told.splice(0);
    };
    expect([at(0, "answered"), at(1000, "failed"), at(2000, "failed"), at(60_999, "failed")]).toEqual([
      [],
      [away],
      [],
      [],
    ]);
    expect([state.isUp, at(61_000, "failed"), at(61_500, "failed")]).toEqual([false, [away], []]);
    expect([at(62_000, "answered"), at(63_000, "answered"), state.isUp]).toEqual([["Redis is back"], [], true]);
    expect([at(64_000, "failed"), at(65_000, "answered"), at(66_000, "failed")]).toEqual([[], [], []]);
    expect([at(121_000, "failed"), at(122_000, "answered"), at(140_000, "failed")]).toEqual([
      [away],
      ["Redis is back"],
      [away],
    ]);
    expect(changeCount).toBe(7);
  });
});

describe("a mutation without a request id", () => {
  test.each(["grpc", "http"] as const)(
    "is refused when it is a client's automatic retry, on the %s door",
    async (door) => {
      const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
      const retry = { headers: { "grpc-previous-rpc-attempts": "1" } };
      expect(await refusalOf(holdfast[door].orders.placeOrder({ shopId, ...order }, retry))).toMatchObject({
        code: Code.InvalidArgument,
        reason: "REQUEST_ID_REQUIRED",
      });
      await holdfast[door].orders.placeOrder({ shopId, ...order, requestId: "r1" }, retry);
    },
  );

  test("is refused everywhere where the setting says so", async () => {
    const strict = await startHoldfast({ ...stores.urls, settings: { HOLDFAST_REQUIRE_REQUEST_ID: "1" } });
    const refusal = await refusalOf(strict.grpc.admin.createShop({ shopId: "strict", currencyCode: "USD" }));
    expect(refusal).toMatchObject({ code: Code.InvalidArgument, reason: "REQUEST_ID_REQUIRED" });
    const headers = { "idempotency-key": '"key-1"' };
    const { commit } = await strict.http.admin.createShop({ shopId: "strict", currencyCode: "USD" }, { headers });
    expect(commit?.requestId).toBe("key-1");
    await strict.stop();
  });
});

test("a shop whose Postgres is further behind than the log reaches back is fenced, and says so", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 9 } });
  const { commit } = await holdfast.grpc.orders.placeOrder({ shopId, ...order });
  const redis = new Redis(stores.redis.url);
  // A log is never trimmed before it was noted how far Postgres is.
  await expect.poll(() => redis.hget(`{${shopId}}:meta`, "flushed"), { timeout: 8000 }).toBe(String(commit?.position));
  const { commits } = await loseNewestCommit(shopId);
  await redis.xtrim(`{${shopId}}:log`, "MINID", String(commits));
  redis.disconnect();
  // Whoever comes first finds out.
  await Promise.allSettled([holdfast.grpc.orders.placeOrder({ shopId, ...order }, { timeoutMs: 500 })]);
  for (const door of ["grpc", "http"] as const) {
    for (const call of [
      holdfast[door].orders.placeOrder({ shopId, ...order }),
      holdfast[door].inventory.getStock({ shopId, sku: "a" }),
    ]) {
      expect(await refusalOf(call)).toMatchObject({
        code: Code.Unavailable,
        reason: "SHOP_FENCED",
        retryMs: undefined,
      });
    }
  }
  expect(holdfast.faults.join()).toContain(shopId);
});

describe("a shop with a commit that Postgres refuses is fenced, and sells on", () => {
  /** Makes Postgres refuse an order; the returned function makes it take the order again. */
  async function refuseOrder(orderId: string): Promise<() => Promise<void>> {
    const client = new Client({ connectionString: stores.database.url });
    await client.connect();
    await client.query(`alter table orders add constraint refused check (order_id <> '${orderId}')`);
    return async () => {
      await client.query("alter table orders drop constraint refused");
      await client.end();
    };
  }

  const rebuild = async (shopId: string) => {
    for await (const _ of holdfast.grpc.admin.rebuildShop({ shopId })) {
      // until it is over
    }
  };
  const emptyRedis = async () => {
    const redis = new Redis(stores.redis.url);
    await redis.flushall();
    redis.disconnect();
  };
  const nothing = () => Promise.resolve();

  test.each([
    ["when Postgres takes it", nothing, nothing, 1],
    ["also when it was tried to rebuild the shop meanwhile", rebuild, nothing, 1],
    ["also when a rebuild took it there", rebuild, rebuild, 1],
    ["when Redis lost it", emptyRedis, nothing, 0],
  ] as const)("%s", async (_, meanwhile, afterwards, soldCount) => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 9 } });
    const accept = await refuseOrder(`refused-${shopId}`);
    const refused = { shopId, ...order, orderId: `refused-${shopId}` };
    await Promise.allSettled([holdfast.grpc.orders.placeOrder(refused, { timeoutMs: 500 })]);
    const more = () => holdfast.grpc.orders.placeOrder({ shopId, ...order });
    expect(await refusalOf(more())).toMatchObject({ reason: "SHOP_FENCED", code: Code.Unavailable });
    await Promise.allSettled([meanwhile(shopId)]);
    await accept();
    await Promise.allSettled([afterwards(shopId)]);
    await persist(more);
    const { stock } = await holdfast.grpc.inventory.getStock({ shopId, sku: "a" });
    expect(stock?.soldCount).toBe(BigInt(soldCount + 1));
    await auditShop({ ...stores.urls, shopId });
  });
});

/** Takes the newest commit of a shop out of Postgres, as a failover to a standby that lags would. */
async function loseNewestCommit(shopId: string): Promise<{ commits: number }> {
  const client = new Client({ connectionString: stores.database.url });
  await client.connect();
  const { rows } = await client.query(
    `with lost as (delete from commits where shop_id = $1
       and position = (select head_position from shops where shop_id = $1) returning position)
     update shops s set head_position = c.position, head_commit_id = c.commit_id from commits c, lost
     where s.shop_id = $1 and c.shop_id = $1 and c.position = lost.position - 1 returning lost.position`,
    [shopId],
  );
  await client.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'holdfast-flush'",
  );
  await client.end();
  return { commits: Number(rows[0]?.position) };
}
