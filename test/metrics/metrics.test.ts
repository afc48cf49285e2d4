import type { DescService } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { CODE_OF_REASON } from "../../src/server/errors.ts";
import { shopKeys } from "../../src/shop/keys.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { persist } from "../helpers/load.ts";
import { type MetricsPage, parseMetrics } from "../helpers/metrics-text.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const services: readonly DescService[] = [
  InventoryService,
  OrderService,
  UserService,
  SubscriptionService,
  EventService,
  AdminService,
];
const methods = services.flatMap((service) => service.methods);
const clock = { nowMs: Date.now() + 3_600_000 };
const stores = useStores();
let redisProxy: TcpProxy;
let postgresProxy: TcpProxy;
let holdfast: Holdfast;
/** The very first page, before any call. */
let first: MetricsPage;

beforeAll(async () => {
  redisProxy = await startProxy(stores.redis.url);
  postgresProxy = await startProxy(stores.database.url);
  const urls = { redisUrl: redisProxy.url, databaseUrl: postgresProxy.url };
  const settings = { HOLDFAST_MAX_BACKLOG_COMMITS: "7000" };
  holdfast = await startHoldfast({ ...urls, settings, clock: () => clock.nowMs });
  first = parseMetrics(await (await fetch(`${holdfast.httpUrl}/metrics`)).text());
});
afterAll(async () => {
  await holdfast?.stop();
  await Promise.all([redisProxy?.stop(), postgresProxy?.stop()]);
});

const read = async (): Promise<MetricsPage> => parseMetrics(await holdfast.server.metrics());

/** How much series have grown while something was done: `[name, labels]`. */
async function grown(
  work: () => Promise<unknown>,
  ...series: (readonly [string, Readonly<Record<string, string>>?])[]
): Promise<number[]> {
  const before = await read();
  await work();
  const after = await read();
  return series.map(([name, labels]) => after.sum(name, labels) - before.sum(name, labels));
}

describe("before the first call", () => {
  test("every RPC has every status, and every reason its count, all 0", () => {
    for (const method of methods) {
      const labels = { grpc_service: method.parent.typeName, grpc_method: method.name };
      const codes = first.samples
        .filter(
          ({ name, labels: { grpc_method } }) => name === "grpc_server_handled_total" && grpc_method === method.name,
        )
        .map(({ labels: { grpc_code } }) => grpc_code);
      expect(codes.sort()).toEqual(["OK", ...Object.values(Code).filter((each) => typeof each === "string")].sort());
      expect(first.sum("grpc_server_started_total", labels)).toBe(0);
      expect(first.sum("grpc_server_handling_seconds_count", labels)).toBe(0);
    }
    for (const reason of Object.keys(CODE_OF_REASON)) {
      expect(first.sum("holdfast_refusals_total", { reason })).toBe(0);
    }
    for (const payment_method of ["WALLET", "EXTERNAL", "NONE", "GATEWAY"]) {
      expect(first.sum("holdfast_orders_total", { payment_method })).toBe(0);
    }
  });

  test("buckets tell neighbours apart that differ by 70 %, from a millisecond to half a second", () => {
    const { samples } = first;
    const [GetStock] = samples.filter(({ name }) => name === "grpc_server_handling_seconds_bucket");
    const bounds = samples
      .filter(({ name, labels }) => name === GetStock?.name && labels.grpc_method === GetStock.labels.grpc_method)
      .map(({ labels }) => Number(labels.le))
      .filter((bound) => bound >= 0.001 && bound <= 0.5);
    expect(bounds.length).toBeGreaterThan(10);
    expect(bounds.slice(1).every((bound, index) => bound / (bounds[index] as number) < 1.7)).toBe(true);
  });

  test("no label grows with shops, users or what is sold", async () => {
    await createShop(holdfast.grpc, { stock: { "sku-of-this-test": 1 }, users: { "user-of-this-test": 10 } });
    const before = (await read()).samples.length;
    await Promise.all([1, 2, 3].map(() => createShop(holdfast.grpc, { stock: { a: 1 }, users: { ann: 10 } })));
    const page = await read();
    expect(page.samples.length).toBe(before);
    expect(JSON.stringify(page.samples)).not.toMatch(/shop-|of-this-test/);
  });
});

/** What a caller leaves by. */
function leaving(): { readonly signal: AbortSignal; abort(): void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

describe("calls", () => {
  test("are counted on both doors, each once, by RPC and status", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 20 } });
    const labels = { grpc_service: "holdfast.v1.OrderService", grpc_method: "PlaceOrder", grpc_type: "unary" };
    const lines = [{ sku: "a", quantity: 2 }];
    const work = async (): Promise<void> => {
      const buy = (door: "grpc" | "http") =>
        holdfast[door].orders.placeOrder({ shopId, lines, paymentMethod: PaymentMethod.NONE });
      await Promise.all([...Array(5)].flatMap(() => [buy("grpc"), buy("http")]));
      for (const door of ["grpc", "http"] as const) {
        expect(await refusalOf(buy(door))).toMatchObject({ reason: "SOLD_OUT" });
        expect(await refusalOf(holdfast[door].orders.placeOrder({ shopId }))).toMatchObject({
          reason: "VALIDATION_FAILED",
        });
      }
    };
    expect(
      await grown(
        work,
        ["grpc_server_started_total", labels],
        ["grpc_server_handled_total", labels],
        ["grpc_server_handled_total", { ...labels, grpc_code: "OK" }],
        ["grpc_server_handled_total", { ...labels, grpc_code: "FailedPrecondition" }],
        ["grpc_server_handled_total", { ...labels, grpc_code: "InvalidArgument" }],
        ["grpc_server_handling_seconds_count", labels],
        ["holdfast_refusals_total", { reason: "SOLD_OUT" }],
        ["holdfast_refusals_total", { reason: "VALIDATION_FAILED" }],
        ["holdfast_orders_total", { payment_method: "NONE" }],
        ["holdfast_order_items_total", { payment_method: "NONE" }],
        ["holdfast_order_amount_minor_total", { payment_method: "NONE" }],
        ["holdfast_order_seconds_count"],
        ["holdfast_mutations_total", { grpc_method: "PlaceOrder" }],
        ["holdfast_replays_total", { grpc_method: "PlaceOrder" }],
      ),
    ).toEqual([14, 14, 10, 2, 2, 14, 2, 2, 10, 20, 2000, 10, 10, 0]);
  });

  test("that repeat a request id are replays, and no orders", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 9 } });
    const request = {
      shopId,
      requestId: uniqueId("request"),
      lines: [{ sku: "a", quantity: 3 }],
      paymentMethod: PaymentMethod.NONE,
    };
    const work = async () => {
      for (const door of ["grpc", "http", "grpc"] as const) await holdfast[door].orders.placeOrder(request);
    };
    const counts = await grown(
      work,
      ["holdfast_mutations_total"],
      ["holdfast_replays_total"],
      ["holdfast_orders_total"],
      ["holdfast_order_items_total"],
    );
    expect(counts).toEqual([3, 2, 1, 3]);
  });

  test("that end without an answer have the status of their end, and streams end with their callers", async () => {
    const shopId = await createShop(holdfast.grpc);
    const watch = async (door: "grpc" | "http"): Promise<void> => {
      const { signal, abort } = leaving();
      for await (const { message } of holdfast[door].events.watchEvents({ shopId }, { signal })) {
        if (message.case === "caughtUp") abort();
      }
    };
    const labels = { grpc_method: "WatchEvents", grpc_type: "server_stream" };
    const work = async (): Promise<void> => {
      await expect(watch("grpc")).rejects.toMatchObject({ code: Code.Canceled });
      await expect(watch("http")).rejects.toMatchObject({ code: Code.Canceled });
      const ended = async () => (await read()).sum("grpc_server_handled_total", labels);
      await until(
        "both have ended",
        async () => (await ended()) === (await read()).sum("grpc_server_started_total", labels),
      );
    };
    const canceled = { ...labels, grpc_code: "Canceled" };
    expect(await grown(work, ["grpc_server_started_total", labels], ["grpc_server_handled_total", canceled])).toEqual([
      2, 2,
    ]);
  });

  test("of watchers show how many there are, and how far the slowest one is behind", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
    const before = (await read()).sum("holdfast_watchers");
    const { signal, abort } = leaving();
    const steps = holdfast.grpc.events.watchEvents({ shopId }, { signal })[Symbol.asyncIterator]();
    await steps.next();
    expect((await read()).sum("holdfast_watchers")).toBe(before + 1);
    abort();
    await until("it is gone", async () => (await read()).sum("holdfast_watchers") === before);
  });
});

describe("what shops do", () => {
  test("flushes say how many commits they took, and nothing waits when all is answered", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 100 } });
    const buy = () =>
      holdfast.grpc.orders.placeOrder({
        shopId,
        lines: [{ sku: "a", quantity: 1 }],
        paymentMethod: PaymentMethod.NONE,
      });
    const [commits] = await grown(() => Promise.all([...Array(20)].map(buy)), ["holdfast_flush_commits_sum"]);
    expect(commits).toBe(20);
    const page = await read();
    expect(page.sum("holdfast_unflushed_commits")).toBe(0);
    expect(page.sum("holdfast_unflushed_seconds")).toBe(0);
    expect(page.sum("holdfast_waiting_calls")).toBe(0);
    expect(page.sum("holdfast_negative_stock_total")).toBe(0);
    expect(page.sum("holdfast_redis_script_seconds_count", { script: "placeOrder" })).toBeGreaterThanOrEqual(20);
  });

  test("how many commits may wait is what the setting says", () => {
    expect(first.sum("holdfast_unflushed_commits_limit")).toBe(7000);
  });

  test("holds and unpaid orders that expire are counted, with how late they were", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 10 } });
    const lines = [{ sku: "a", quantity: 1 }];
    const work = async (): Promise<void> => {
      await holdfast.grpc.inventory.holdStock({ shopId, lines, holdDuration: { seconds: 10n } });
      await holdfast.grpc.orders.placeOrder({ shopId, lines, paymentMethod: PaymentMethod.EXTERNAL });
      clock.nowMs += 600_000 + 7000;
      const isOver = async () => (await holdfast.grpc.inventory.getStock({ shopId, sku: "a" })).stock?.heldCount === 0n;
      await until("both have expired", isOver);
    };
    const counts = await grown(
      work,
      ["holdfast_holds_expired_total", { of: "hold" }],
      ["holdfast_holds_expired_total", { of: "order" }],
      ["holdfast_hold_expiry_lag_seconds_count"],
      ["holdfast_hold_expiry_lag_seconds_sum"],
    );
    // By the clock, which was moved on at once.
    expect(counts).toEqual([1, 1, 1, 597]);
  });

  test("a shop that Redis lost is rebuilt, once", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 10 } });
    const work = async (): Promise<void> => {
      const redis = new Redis(stores.redis.url);
      await redis.del(...Object.values(shopKeys(shopId))).finally(() => redis.disconnect());
      await persist(() => holdfast.grpc.inventory.getStock({ shopId, sku: "a" }));
    };
    const series = ["all", "tail"].map((extent) => ["holdfast_rebuilds_total", { extent }] as const);
    expect(await grown(work, ...series, ["holdfast_rebuild_seconds_count"])).toEqual([1, 0, 1]);
  });

  test("a fence is counted once however long it lasts, and a shop is fenced until it is mended", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 10 } });
    const redis = new Redis(stores.redis.url);
    const getStock = () => holdfast.grpc.inventory.getStock({ shopId, sku: "a" });
    const fencedCount = async () => (await read()).sum("holdfast_fenced_shops", { alarm: "redis_refuses" });
    const { log } = shopKeys(shopId) as { log: string };
    const work = async (): Promise<void> => {
      await redis.rename(log, `${log}-aside`);
      await redis.set(log, "not a log");
      await until("it is fenced", async () => (await refusalOf(getStock()))?.reason === "SHOP_FENCED");
      const flushes = (await read()).sum("holdfast_store_ping_seconds_count", { store: "Redis" });
      // Long enough for the sweeper to look at it twice.
      await until(
        "time has gone by",
        async () => (await read()).sum("holdfast_store_ping_seconds_count", { store: "Redis" }) > flushes + 9,
      );
      expect(await fencedCount()).toBe(1);
    };
    expect(await grown(work, ["holdfast_fences_total", { alarm: "redis_refuses" }])).toEqual([1]);
    await redis.rename(`${log}-aside`, log);
    await persist(getStock);
    expect(await fencedCount()).toBe(0);
    redis.disconnect();
  });
});

describe("while a store is away", () => {
  test.each([
    ["Redis", () => redisProxy],
    ["Postgres", () => postgresProxy],
  ] as const)("that is %s, the page is shown all the same and says so", async (store, proxy) => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 10 } });
    // Silent, not refusing: whoever asked it something would wait for the answer.
    proxy().swallow();
    const call = () =>
      holdfast.grpc.orders.placeOrder({
        shopId,
        lines: [{ sku: "a", quantity: 1 }],
        paymentMethod: PaymentMethod.NONE,
      });
    await until("it has noticed", async () => (await read()).sum("holdfast_store_up", { store }) === 0);
    expect(await refusalOf(call())).toMatchObject({ reason: "SHOP_UNAVAILABLE" });
    const signal = AbortSignal.timeout(2000);
    const page = parseMetrics(await (await fetch(`${holdfast.httpUrl}/metrics`, { signal })).text());
    expect(page.sum("holdfast_store_up", { store })).toBe(0);
    expect(page.sum("holdfast_refusals_total", { reason: "SHOP_UNAVAILABLE" })).toBeGreaterThan(0);
    proxy().accept();
    proxy().cut();
    await persist(call);
    await until("it is back", async () => (await read()).sum("holdfast_store_up", { store }) === 1);
  });
});
