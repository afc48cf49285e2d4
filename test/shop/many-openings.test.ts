import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

/** A Redis that lost many shops in which holds are open, so that each is opened again although nobody calls. */
const stores = useStores();
const shopCount = 60;
let direct: Redis;
let far: TcpProxy;
let holdfast: Holdfast;

beforeAll(async () => {
  direct = new Redis(stores.redis.url);
  far = await startProxy(stores.database.url);
  holdfast = await startHoldfast({ redisUrl: stores.redis.url, databaseUrl: far.url });
});
afterAll(async () => {
  far?.delay(0);
  direct?.disconnect();
  await holdfast?.stop();
  await far?.stop();
});

test("a shop that somebody calls does not wait for all those that nobody calls", async () => {
  const lines = [{ sku: "a", quantity: 1 }];
  const make = async (): Promise<string> => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
    await holdfast.grpc.inventory.holdStock({ shopId, lines });
    return shopId;
  };
  const shopIds = await Promise.all(Array.from({ length: shopCount }, make));
  // Nothing is open in it: whoever calls is the first to open it.
  const called = await createShop(holdfast.grpc, { stock: { a: 5 } });
  const openCount = async (): Promise<number> => {
    const loaded = await Promise.all(shopIds.map((shopId) => direct.hget(`{${shopId}}:meta`, "loaded")));
    return loaded.filter((text) => text?.startsWith("all")).length;
  };
  far.delay(30);
  await direct.flushall();
  await expect.poll(openCount, { timeout: 30_000 }).toBeGreaterThan(0);
  const sale = { shopId: called, lines, paymentMethod: PaymentMethod.NONE };
  await holdfast.grpc.orders.placeOrder(sale, { timeoutMs: 29_000 });
  expect(await openCount()).toBeLessThan(shopCount / 2);
  far.delay(0);
  await expect.poll(openCount, { timeout: 30_000 }).toBe(shopCount);
  await auditShop({ ...stores.urls, shopId: called });
}, 120_000);

test("a shop that was opened again and again in good time is not called broken", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
  await holdfast.grpc.inventory.holdStock({ shopId, lines: [{ sku: "a", quantity: 1 }] });
  for (let time = 0; time < 4; time += 1) {
    await direct.del(`{${shopId}}:meta`, `{${shopId}}:log`);
    const isOpen = async () => (await direct.hget(`{${shopId}}:meta`, "loaded"))?.startsWith("all");
    await expect.poll(isOpen, { timeout: 10_000 }).toBe(true);
    // In good time: the round that sees whether it helped has followed by the next sweep, which shows by what it notes.
    await direct.hset(`{${shopId}}:meta`, "flushed", 0);
    const isSwept = async () => Number(await direct.hget(`{${shopId}}:meta`, "flushed")) > 0;
    await expect.poll(isSwept, { timeout: 10_000 }).toBe(true);
  }
  expect(holdfast.logged.filter((line) => line.includes("does not continue its head"))).toEqual([]);
}, 60_000);
