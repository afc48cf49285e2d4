import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { OrderState } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import {
  type Holdfast,
  type HoldfastOptions,
  type HoldfastProcess,
  spawnHoldfast,
  startHoldfast,
} from "../helpers/holdfast.ts";
import { persist, startLoad } from "../helpers/load.ts";
import { startProxy } from "../helpers/proxy.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
let direct: Redis;
let here: Holdfast;
const processes: HoldfastProcess[] = [];

beforeAll(async () => {
  direct = new Redis(stores.redis.url);
  here = await startHoldfast(stores.urls);
});
afterAll(async () => {
  direct?.disconnect();
  await Promise.all([here?.stop(), ...processes.map((each) => each.kill())]);
});

async function spawn(options: Partial<HoldfastOptions> = {}): Promise<HoldfastProcess> {
  const started = await spawnHoldfast({ ...stores.urls, ...options });
  processes.push(started);
  return started;
}

const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 100_000]));
const lines = [{ sku: "ps5", quantity: 1 }];
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("what a process left in the log when it was killed is flushed by another, without traffic", async () => {
  const shopId = await createShop(here.grpc, { stock: { ps5: 5 }, users });
  const postgres = await startProxy(stores.database.url);
  const victim = await spawn({ ...stores.urls, databaseUrl: postgres.url });
  const held = postgres.hold((bytes) => bytes.includes("r-orphan")).then(() => "held");
  const place = (count: number) => {
    const request = { shopId, requestId: `r-orphan-${count}`, orderId: `o-orphan-${count}`, userId: "u0", lines };
    const answer = victim.grpc.orders.placeOrder(request).then(
      () => "answered",
      () => "failed",
    );
    return { request, answer, count };
  };
  // On a busy machine the other process may flush the order before its own does: then the next one is left behind.
  let placed = place(1);
  while ((await Promise.race([held, placed.answer])) !== "held") placed = place(placed.count + 1);
  const { request, answer, count } = placed;
  await victim.kill();
  await postgres.stop();
  expect(await answer).toBe("failed");
  expect(await direct.hget(`{${shopId}}:stock`, "ps5:sold"), "the script ran").toBe(`${count}`);
  await expect
    .poll(async () => (await here.grpc.admin.getShop({ shopId })).shop?.durablePosition, {
      timeout: 5000,
      interval: 50,
    })
    .toBe(BigInt((await direct.hget(`{${shopId}}:meta`, "position")) ?? ""));
  const { order } = await here.grpc.orders.getOrder({ shopId, orderId: request.orderId });
  expect(order?.state).toBe(OrderState.PAID);
  const again = await here.grpc.orders.placeOrder(request);
  expect(again).toMatchObject({
    order,
    balanceMinor: 100_000n - 100n * BigInt(count),
    commit: { replayed: true, durable: true },
  });
  await auditShop({ ...stores.urls, shopId });
});

test("a process that stands still for seconds, while the other rebuilds the shop, does no harm when it goes on", async () => {
  const shopId = await createShop(here.grpc, { stock: { ps5: 900 }, users });
  const paused = await spawn();
  const options = { shopId, callerCount: 8 };
  const both = startLoad({ ...options, clients: [paused.grpc, here.grpc], requestCount: 600 });
  const other = startLoad({ ...options, clients: [here.grpc], requestCount: 400 });
  await both.reached(100);
  paused.signal("SIGSTOP");
  await direct.flushall();
  await here.server.store.shops.get(shopId).reopen(true);
  await sleep(2000);
  paused.signal("SIGCONT");
  await both.reached(300);
  paused.signal("SIGSTOP");
  await sleep(500);
  paused.signal("SIGCONT");
  const results = await Promise.all([both.result, other.result]);
  const acknowledged = results.flatMap((result) => result.acknowledged);
  expect(acknowledged).toHaveLength(900);
  expect(results.map((result) => result.refusedCount).reduce((sum, count) => sum + count)).toBe(100);
  await auditShop({ ...stores.urls, shopId }, acknowledged);
});

test("processes that are killed or stopped under load lose nothing that was acknowledged", async () => {
  const shopId = await createShop(here.grpc, { stock: { ps5: 500 }, users });
  const [killed, stopped] = await Promise.all([spawn(), spawn()]);
  const load = startLoad({
    clients: [killed.grpc, stopped.http, here.grpc],
    shopId,
    callerCount: 24,
    requestCount: 600,
  });
  await load.reached(150);
  killed.signal("SIGKILL");
  await load.reached(300);
  stopped.signal("SIGTERM");
  const { acknowledged, refusedCount } = await load.result;
  expect(await stopped.ended, "a process that is asked to stop finishes what is in flight").toBe(0);
  expect(acknowledged).toHaveLength(500);
  expect(refusedCount).toBe(100);
  await auditShop({ ...stores.urls, shopId }, acknowledged);
});

test("a Ctrl-C that comes twice, from the terminal and through npm, is one", async () => {
  const lines: string[] = [];
  const child = await spawn({
    settings: { HOLDFAST_DRAIN_DELAY_SECONDS: "1" },
    onLine: (line: string) => lines.push(line),
  });
  child.signal("SIGINT");
  await expect.poll(() => lines.some((line) => line.includes("holdfast stops"))).toBe(true);
  child.signal("SIGINT");
  expect(await child.ended).toBe(0);
});

test("a process whose stores come and go serves on when they are back", async () => {
  const [redis, postgres] = await Promise.all([startProxy(stores.redis.url), startProxy(stores.database.url)]);
  const child = await spawn({ redisUrl: redis.url, databaseUrl: postgres.url });
  const shopId = await createShop(child.grpc, { stock: { ps5: 10 }, users });
  for (const proxies of [[redis], [postgres], [redis, postgres]]) {
    for (const proxy of proxies) proxy.refuse();
    await Promise.allSettled(
      Array.from({ length: 8 }, () =>
        child.grpc.orders.placeOrder({ shopId, userId: "u0", lines }, { timeoutMs: 300 }),
      ),
    );
    for (const proxy of proxies) proxy.accept();
    const answer = await persist(() => child.grpc.users.depositFunds({ shopId, userId: "u0", amountMinor: 1n }));
    expect(answer?.commit?.durable).toBe(true);
  }
  await auditShop({ ...stores.urls, shopId });
  await Promise.all([redis.stop(), postgres.stop()]);
});

test("nothing of all this is a fault of ours", () => {
  expect(here.faults).toEqual([]);
});
