import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AdjustReason, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { commitOf, startLoad } from "../helpers/load.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

/** Acknowledged right after the script: faster, and able to lose with Redis what was not flushed yet. */
const settings = { HOLDFAST_DURABILITY: "redis", HOLDFAST_MAX_BACKLOG_COMMITS: "2000" };
const stores = useStores();
let postgres: TcpProxy;
let holdfast: Holdfast;

beforeAll(async () => {
  postgres = await startProxy(stores.database.url);
  holdfast = await startHoldfast({ redisUrl: stores.redis.url, databaseUrl: postgres.url, settings });
});
afterAll(async () => {
  await holdfast?.stop();
  await postgres?.stop();
});

const lines = [{ sku: "ps5", quantity: 1 }];
const none = { paymentMethod: PaymentMethod.NONE };
const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 100_000]));

test("a mutation is acknowledged before Postgres has it, says so, and is durable soon after", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { ps5: 10 } });
  const held = postgres.hold((request) => request.includes("r-1"));
  const request = { shopId, requestId: "r-1", orderId: "o-1", lines, ...none };
  const answer = await holdfast.grpc.orders.placeOrder(request);
  expect(answer.commit).toMatchObject({ durable: false, replayed: false });
  await held;
  const again = await holdfast.http.orders.placeOrder(request);
  expect(again).toEqual({ ...answer, commit: { ...answer.commit, replayed: true } });
  const refusal = await refusalOf(
    holdfast.grpc.orders.placeOrder({ shopId, lines: [{ sku: "ps5", quantity: 10 }], ...none }),
  );
  expect(refusal.reason).toBe("SOLD_OUT");
  const { shop } = await holdfast.grpc.admin.getShop({ shopId }, { timeoutMs: 300 }).catch(() => ({ shop: undefined }));
  expect(shop, "what is read from Postgres waits until it is there").toBeUndefined();
  postgres.release();
  await expect
    .poll(async () => (await holdfast.grpc.orders.placeOrder(request)).commit, { timeout: 2000, interval: 20 })
    .toEqual({ ...answer.commit, replayed: true, durable: true });
  await auditShop({ ...stores.urls, shopId }, [commitOf(answer)]);
});

test("every read sees what was acknowledged before", async () => {
  const { inventory, orders, users: userService, events, admin } = holdfast.grpc;
  const shopId = await createShop(holdfast.grpc);
  for (let round = 0; round < 5; round += 1) {
    const [sku, userId, orderId, holdId] = [`p${round}`, `u${round}`, `o${round}`, `h${round}`];
    await inventory.putProduct({ shopId, sku, priceMinor: 5n });
    expect((await inventory.getProduct({ shopId, sku })).product?.sku).toBe(sku);
    await inventory.adjustStock({ shopId, sku, deltaCount: 9n, reason: AdjustReason.INITIAL });
    expect((await inventory.getStock({ shopId, sku })).stock?.availableCount).toBe(9n);
    const created = await userService.createUser({
      shopId,
      userId,
      email: `${userId}@example.com`,
      displayName: "Name",
    });
    const deposited = await userService.depositFunds({ shopId, userId, amountMinor: 50n });
    expect(deposited.user).toMatchObject({ email: created.user?.email, displayName: "Name", balanceMinor: 50n });
    expect((await userService.getUser({ shopId, userId })).user).toEqual(deposited.user);
    const email = `new-${userId}@example.com`;
    await userService.updateUser({ shopId, userId, email });
    expect((await userService.grantCredits({ shopId, userId, credits: 7n })).user?.email).toBe(email);
    expect((await userService.listWalletEntries({ shopId, userId })).entries[0]?.delta).toBe(7n);
    await userService.updateUser({ shopId, userId, email: `last-${email}` });
    expect((await userService.lookupUser({ shopId, email: `last-${email}` })).user?.userId).toBe(userId);
    expect((await userService.listUsers({ shopId, pageSize: 1 })).users[0]?.email).toBe(`last-${email}`);
    await inventory.holdStock({ shopId, holdId, lines: [{ sku, quantity: 1 }] });
    expect((await inventory.getHold({ shopId, holdId })).hold?.holdId).toBe(holdId);
    const { order } = await orders.placeOrder({ shopId, orderId, userId, lines: [{ sku, quantity: 1 }] });
    expect((await orders.getOrder({ shopId, orderId })).order).toEqual(order);
    await orders.placeOrder({ shopId, holdId, ...none });
    expect((await events.listEvents({ shopId, newestFirst: true, pageSize: 1 })).events[0]?.payload.case).toBe(
      "holdCommitted",
    );
    const { shop } = await admin.getShop({ shopId });
    expect(shop).toMatchObject({ productCount: BigInt(round + 1), userCount: BigInt(round + 1), openHoldCount: 0n });
  }
  await auditShop({ ...stores.urls, shopId });
});

test("a first limit counts what was acknowledged before", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { ps5: 50 }, users });
  const buy = () => holdfast.grpc.orders.placeOrder({ shopId, userId: "u0", lines });
  await Promise.all([buy(), buy(), buy()]);
  await holdfast.grpc.inventory.putProduct({ shopId, sku: "ps5", maxPerUser: 4 });
  await buy();
  expect(await refusalOf(buy())).toMatchObject({ reason: "PER_USER_LIMIT", metadata: { had_count: "4" } });
});

test("under load, with connections cut, everything is flushed once", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { ps5: 700 }, users });
  const load = startLoad({ clients: [holdfast.grpc], shopId, callerCount: 32, requestCount: 800 });
  for (const count of [150, 300, 450]) {
    await load.reached(count);
    postgres.cut();
  }
  const { acknowledged, refusedCount } = await load.result;
  expect(acknowledged).toHaveLength(700);
  expect(refusedCount).toBe(100);
  await auditShop({ ...stores.urls, shopId }, acknowledged);
});

test("what was not flushed is lost with Redis, and the shop goes on from what Postgres has", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { ps5: 10 }, users });
  const durable = await holdfast.grpc.orders.placeOrder({ shopId, userId: "u0", lines });
  await holdfast.grpc.orders.getOrder({ shopId, orderId: durable.order?.orderId ?? "" });
  const held = postgres.hold((request) => request.includes("r-lost"));
  await holdfast.grpc.orders.placeOrder({ shopId, requestId: "r-lost", userId: "u0", lines });
  await held;
  const redis = new Redis(stores.redis.url);
  await redis.flushall();
  redis.disconnect();
  postgres.cut();
  await expect
    .poll(() => holdfast.grpc.orders.placeOrder({ shopId, requestId: "r-next", userId: "u0", lines }).catch(() => {}), {
      timeout: 5000,
      interval: 50,
    })
    .toMatchObject({ stocks: [{ availableCount: 8n, soldCount: 2n }], balanceMinor: 99_800n });
  await auditShop({ ...stores.urls, shopId }, [commitOf(durable)]);
});

test("a shop takes no more than Postgres can follow, and says when to come back", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { ps5: 1 } });
  const adjust = { shopId, sku: "ps5", deltaCount: 1n, reason: AdjustReason.RESTOCK };
  const { inventory } = holdfast.grpc;
  // A flush that is not answered is given up and sent again: that one is held, too.
  let isHolding = true;
  const hold = (): Promise<void> => postgres.hold((request) => isHolding && request.includes("r-held"));
  const held = hold();
  const holdOn = (): unknown => hold().then(holdOn);
  void held.then(holdOn);
  await inventory.adjustStock({ ...adjust, requestId: "r-held" });
  await held;
  let acceptedCount = 0;
  const fill = async (): Promise<unknown> => {
    for (;;) {
      try {
        await inventory.adjustStock(adjust);
        acceptedCount += 1;
      } catch (error) {
        return error;
      }
    }
  };
  const ends = await Promise.all(Array.from({ length: 64 }, fill));
  expect(acceptedCount).toBeGreaterThan(1900);
  expect(acceptedCount).toBeLessThan(2200);
  for (const end of ends) {
    expect(await refusalOf(Promise.reject(end))).toMatchObject({
      code: Code.ResourceExhausted,
      reason: "OVERLOADED",
      retryMs: expect.any(Number),
    });
  }
  expect((await inventory.getStock({ shopId, sku: "ps5" })).stock?.availableCount).toBe(BigInt(acceptedCount + 2));
  isHolding = false;
  postgres.release();
  await expect.poll(() => inventory.adjustStock(adjust).catch(() => {}), { timeout: 5000, interval: 50 }).toBeDefined();
  await auditShop({ ...stores.urls, shopId });
});

test("nothing of all this is a fault of ours", () => {
  expect(holdfast.faults).toEqual([]);
});
