import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fillLargeShop } from "../../bench/large-shop.ts";
import { auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

/** A large shop that is rebuilt slowly: the one process that does it is far away from Postgres. */
const stores = useStores();
let direct: Redis;
let far: TcpProxy;
let rebuilder: Holdfast;
/** Another process, with a single connection for everything but flushes. */
let other: Holdfast;
let shopId: string;

beforeAll(async () => {
  direct = new Redis(stores.redis.url);
  far = await startProxy(stores.database.url);
  rebuilder = await startHoldfast({ redisUrl: stores.redis.url, databaseUrl: far.url });
  other = await startHoldfast({ ...stores.urls, settings: { HOLDFAST_PG_POOL_SIZE: "1" } });
  shopId = await createShop(rebuilder.grpc);
  const database = new Client({ connectionString: stores.database.url });
  await database.connect();
  const size = { userCount: 8000, skuCount: 500, holdCount: 200, orderCount: 100 };
  await fillLargeShop(database, shopId, size).finally(() => database.end());
}, 120_000);
afterAll(async () => {
  far?.delay(0);
  direct?.disconnect();
  await Promise.all([rebuilder?.stop(), other?.stop()]);
  await far?.stop();
});

/** Begins a rebuild that takes many seconds; `patient` is a call that waits for it, as long as the server lets it. */
async function beginRebuild(): Promise<{ patient: Promise<string> }> {
  far.delay(0);
  for (const each of [rebuilder, other]) await getStock(each, 29_000);
  far.delay(60);
  void rebuilder.server.store.shops.get(shopId).reopen(true);
  await expect.poll(() => direct.hexists(`{${shopId}}:meta`, "ready_time"), { timeout: 30_000 }).toBe(1);
  return { patient: getStock(rebuilder, 29_000) };
}

async function getStock(holdfast: Holdfast, timeoutMs: number): Promise<string> {
  const { stock } = await holdfast.grpc.inventory.getStock({ shopId, sku: "sku-1" }, { timeoutMs });
  return `${stock?.availableCount} available, ${stock?.heldCount} held`;
}

test("callers with time wait for a rebuild, the others hear how long it takes, in every process", async () => {
  const { patient } = await beginRebuild();
  let isOver = false;
  void patient.finally(() => {
    isOver = true;
  });
  const others = getStock(other, 29_000);
  for (const each of [rebuilder, other]) {
    const refused = await refusalOf(getStock(each, 1000));
    expect(refused).toMatchObject({ code: Code.Unavailable, reason: "SHOP_UNAVAILABLE" });
    expect(refused.retryMs).toBeGreaterThanOrEqual(100);
    expect(refused.retryMs).toBeLessThan(60_000);
  }
  expect(isOver, "nobody was told to go when it was over").toBe(false);
  expect(await patient).toBe("98 available, 2 held");
  expect(await others).toBe("98 available, 2 held");
  const told = rebuilder.logged.map((line) => JSON.parse(line)).filter(({ shop }) => shop === shopId);
  const progress = told.filter(({ msg }) => msg === "shop is being rebuilt from Postgres");
  expect(progress.length).toBeGreaterThan(0);
  for (const { loadedCount, totalCount, restMs } of progress) {
    expect(loadedCount).toBeLessThanOrEqual(totalCount);
    expect(restMs).toBeGreaterThanOrEqual(0);
  }
  await auditShop({ ...stores.urls, shopId });
}, 120_000);

test("a rebuild takes no connection from who waits for it, and holds up no other shop", async () => {
  const neighbour = await createShop(other.grpc, { stock: { ps5: 1 } });
  const { patient } = await beginRebuild();
  let isOver = false;
  void patient.finally(() => {
    isOver = true;
  });
  const waiting = getStock(other, 29_000);
  // Its first call there, and one that needs the only connection.
  for (const each of [rebuilder, other]) {
    const { stock } = await each.grpc.inventory.getStock({ shopId: neighbour, sku: "ps5" }, { timeoutMs: 20_000 });
    expect(stock?.availableCount).toBe(1n);
    const { products } = await each.grpc.inventory.listProducts({ shopId: neighbour }, { timeoutMs: 20_000 });
    expect(products).toHaveLength(1);
  }
  expect(isOver, "others were answered meanwhile").toBe(false);
  expect(await patient).toBe(await waiting);
}, 120_000);

test("nothing of all this is a fault of ours", () => {
  expect([...rebuilder.faults, ...other.faults]).toEqual([]);
});
