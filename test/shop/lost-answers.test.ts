import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import type { Scripts } from "../../src/shop/scripts.ts";
import { auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { commitOf, persist, startLoad } from "../helpers/load.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
let redis: TcpProxy;
let postgres: TcpProxy;
let holdfast: Holdfast;

beforeAll(async () => {
  [redis, postgres] = await Promise.all([startProxy(stores.redis.url), startProxy(stores.database.url)]);
  holdfast = await startHoldfast({ redisUrl: redis.url, databaseUrl: postgres.url });
});
// A connection that the test before cut may make a store seem away for a moment.
beforeEach(() => until("both stores are there", () => holdfast.server.store.shops.awayStore() === undefined));
afterAll(async () => {
  await holdfast?.stop();
  await Promise.all([redis?.stop(), postgres?.stop()]);
});

const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 100_000]));
const lines = [{ sku: "ps5", quantity: 1 }];

describe("an answer that is lost on its way from Redis", () => {
  test.each([1, 2, 3])("%d times still reaches the caller, and the order is placed once", async (count) => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 10 }, users });
    const { shop: before } = await holdfast.grpc.admin.getShop({ shopId });
    const requestId = uniqueId("r");
    const drops = Array.from({ length: count }, () => redis.dropAnswer((request) => request.includes(requestId)));
    const answer = await holdfast.grpc.orders.placeOrder({ shopId, requestId, userId: "u0", lines });
    await Promise.all(drops);
    expect(answer).toMatchObject({
      order: { amountMinor: 100n },
      stocks: [{ availableCount: 9n, soldCount: 1n }],
      balanceMinor: 99_900n,
      commit: { requestId, position: (before?.headPosition ?? 0n) + 1n, durable: true },
    });
    const { shop } = await holdfast.grpc.admin.getShop({ shopId });
    expect(shop?.headPosition).toBe((before?.headPosition ?? 0n) + 1n);
    await auditShop({ ...stores.urls, shopId }, [commitOf(answer)]);
  });

  test.each(["", "given"])(
    "of a deposit still reaches the caller, and the money is added once (request id '%s')",
    async (id) => {
      const shopId = await createShop(holdfast.grpc, { users: { ann: 1 } });
      const reference = uniqueId("reference");
      const dropped = redis.dropAnswer((request) => request.includes(reference));
      const deposit = { shopId, requestId: id, userId: "ann", amountMinor: 5n, reference };
      const { user } = await holdfast.grpc.users.depositFunds(deposit);
      await dropped;
      expect(user?.balanceMinor).toBe(6n);
      expect((await holdfast.grpc.users.getUser({ shopId, userId: "ann" })).user).toEqual(user);
      await auditShop({ ...stores.urls, shopId });
    },
  );

  test("makes the script run again under a commit id of its own, which the client library sends once", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 10 }, users });
    const requestId = uniqueId("r");
    const commitIds: string[] = [];
    // Matches nothing: it only looks at what passes.
    void redis.dropAnswer((request) => {
      const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g;
      if (request.includes(requestId)) commitIds.push(...(request.toString("latin1").match(uuid) ?? []));
      return false;
    });
    const drops = Array.from({ length: 2 }, () => redis.dropAnswer((request) => request.includes(requestId)));
    const order = { shopId, requestId, orderId: uniqueId("o"), userId: "u0", lines };
    const answer = await holdfast.grpc.orders.placeOrder(order);
    await Promise.all(drops);
    expect(commitIds).toHaveLength(3);
    expect(new Set(commitIds).size).toBe(3);
    expect(answer.commit?.commitId).toBe(commitIds[0]);
  });

  test("of a request without an id still reaches the caller, and the order is placed once", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 10 }, users });
    const orderId = uniqueId("o");
    const dropped = redis.dropAnswer((request) => request.includes(orderId));
    const answer = await holdfast.grpc.orders.placeOrder({ shopId, orderId, userId: "u0", lines });
    await dropped;
    expect(answer.stocks).toMatchObject([{ availableCount: 9n, soldCount: 1n }]);
    await auditShop({ ...stores.urls, shopId });
  });
});

describe("an answer that is lost on its way from Postgres", () => {
  test("is found out by looking at the head: acknowledged once, written once", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 10 }, users });
    const { shop: before } = await holdfast.grpc.admin.getShop({ shopId });
    const requestId = uniqueId("r");
    const dropped = postgres.dropAnswer((request) => request.includes(requestId));
    const answer = await holdfast.grpc.orders.placeOrder({ shopId, requestId, userId: "u0", lines });
    await dropped;
    expect(answer).toMatchObject({ balanceMinor: 99_900n, commit: { requestId, replayed: false, durable: true } });
    expect(answer.commit?.position).toBe((before?.headPosition ?? 0n) + 1n);
    await auditShop({ ...stores.urls, shopId }, [commitOf(answer)]);
  });

  test("is waited for by refusals and reads too", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 1 }, users });
    const requestId = uniqueId("r");
    const dropped = postgres.dropAnswer((request) => request.includes(requestId));
    const order = { shopId, paymentMethod: PaymentMethod.NONE, lines };
    const results = await Promise.all([
      holdfast.grpc.orders.placeOrder({ ...order, requestId }).then(({ stocks }) => stocks[0]?.availableCount),
      persist(() => holdfast.grpc.orders.placeOrder({ ...order, lines: [{ sku: "ps5", quantity: 2 }] })),
      persist(() => holdfast.grpc.inventory.getStock({ shopId, sku: "ps5" })).then((answer) => answer?.asOf?.epoch),
    ]);
    await dropped;
    expect(results).toEqual([0n, undefined, 1n]);
    await auditShop({ ...stores.urls, shopId });
  });
});

describe("while a shop is rebuilt, a lost answer", () => {
  test.each<[string, keyof Scripts]>([
    ["to the look at Redis", "look"],
    ["to a step of the load", "load"],
    ["to the last step", "finish"],
    ["to the look at the log", "readLog"],
  ])("%s costs nothing but time", async (_, script) => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 10 }, users });
    const { functionName } = holdfast.server.store.shops.scripts[script];
    await flushAll();
    const dropped = redis.dropAnswer((request) => request.includes(functionName) && request.includes(`{${shopId}}`));
    const answer = await persist(() => holdfast.grpc.orders.placeOrder({ shopId, userId: "u0", lines }));
    await dropped;
    expect(answer).toMatchObject({ balanceMinor: 99_900n, commit: { durable: true } });
    expect(answer?.commit?.epoch).toBeGreaterThan(1n);
    await auditShop({ ...stores.urls, shopId });
  });

  test("to the commit in Postgres costs nothing but time", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 10 }, users });
    await flushAll();
    const dropped = postgres.dropAnswer((request) => /^Q....commit\0$/s.test(request.toString("latin1")));
    const answer = await persist(() => holdfast.grpc.orders.placeOrder({ shopId, userId: "u0", lines }));
    await dropped;
    expect(answer).toMatchObject({ balanceMinor: 99_900n, commit: { durable: true } });
    await auditShop({ ...stores.urls, shopId });
  });
});

describe("under load", () => {
  test("cut connections and lost answers lose nothing and sell nothing twice", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 700 }, users });
    const load = startLoad({ clients: [holdfast.grpc], shopId, callerCount: 32, requestCount: 1000 });
    const isOrder = (request: Buffer): boolean => request.includes('"rpc":"PlaceOrder"');
    const troubles = [
      redis.cut,
      postgres.cut,
      () => void redis.dropAnswer(isOrder),
      () => void postgres.dropAnswer(isOrder),
      () => redis.delay(3),
      redis.cut,
      () => redis.delay(0),
      () => postgres.delay(5),
      postgres.cut,
      () => postgres.delay(0),
      () => {
        redis.cut();
        postgres.cut();
      },
      () => void redis.dropAnswer(isOrder),
      () => void postgres.dropAnswer(isOrder),
    ];
    for (const [index, cause] of troubles.entries()) {
      await load.reached((index + 1) * 70);
      cause();
    }
    const { acknowledged, refusedCount } = await load.result;
    expect(acknowledged).toHaveLength(700);
    expect(refusedCount).toBe(300);
    await auditShop({ ...stores.urls, shopId }, acknowledged);
  });
});

test("nothing of all this is a fault of ours", () => {
  expect(holdfast.faults).toEqual([]);
});

async function flushAll(): Promise<void> {
  const direct = new Redis(stores.redis.url);
  await direct.flushall();
  direct.disconnect();
}
