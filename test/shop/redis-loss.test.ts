import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdjustReason, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { commitOf, persist, startLoad } from "../helpers/load.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { copyShop, restoreShop } from "../helpers/redis-state.ts";
import { type RestartableRedis, startRestartableRedis } from "../helpers/restartable-redis.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
let postgres: TcpProxy;
let direct: Redis;
/** Two Holdfasts on the same stores; one of them sees Postgres through a proxy. */
let one: Holdfast;
let two: Holdfast;

beforeAll(async () => {
  postgres = await startProxy(stores.database.url);
  direct = new Redis(stores.redis.url);
  one = await startHoldfast({ redisUrl: stores.redis.url, databaseUrl: postgres.url });
  two = await startHoldfast(stores.urls);
});
afterAll(async () => {
  direct?.disconnect();
  await Promise.all([one?.stop(), two?.stop()]);
  await postgres?.stop();
});

const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 100_000]));
const lines = [{ sku: "ps5", quantity: 1 }];
const none = { paymentMethod: PaymentMethod.NONE };

/** Sells 800 of 1,000 requests from 32 callers and two Holdfasts while something is done every 150 answers. */
async function sellWhile(act: (shopId: string, round: number) => Promise<void>): Promise<{ retryCount: number }> {
  const shopId = await createShop(one.grpc, { stock: { ps5: 800 }, users });
  const clients = [one.grpc, two.grpc];
  const load = startLoad({ clients, shopId, callerCount: 32, requestCount: 1000 });
  for (let round = 1; round <= 5; round += 1) {
    await load.reached(round * 150);
    await act(shopId, round);
  }
  const { acknowledged, refusedCount, retryCount } = await load.result;
  expect(acknowledged).toHaveLength(800);
  expect(refusedCount).toBe(200);
  await auditShop({ ...stores.urls, shopId }, acknowledged);
  return { retryCount };
}

describe("under load", () => {
  test("an emptied Redis loses nothing and sells nothing twice", async () => {
    await sellWhile(async () => {
      await direct.flushall();
    });
  });

  test("a Redis without the functions is not noticed", async () => {
    const { retryCount } = await sellWhile(async () => {
      await direct.call("FUNCTION", "FLUSH");
    });
    expect(retryCount).toBe(0);
  });

  test("a Redis that went back to an older copy is fenced and rebuilt", async () => {
    let copy: Awaited<ReturnType<typeof copyShop>> = [];
    await sellWhile(async (shopId, round) => {
      if (round % 2 === 1) copy = await copyShop(direct, shopId);
      else await restoreShop(direct, shopId, copy);
    });
  });

  test("a forced rebuild keeps every promise", async () => {
    await sellWhile(async (shopId, round) => {
      await (round % 2 === 1 ? one : two).server.store.shops.get(shopId).reopen(true);
    });
  });
});

test("a forced rebuild takes to Postgres what only the log has", async () => {
  const shopId = await createShop(one.grpc, { stock: { ps5: 10 }, users });
  const requestId = uniqueId("r");
  const held = postgres.hold((request) => request.includes(requestId));
  const pending = one.grpc.orders.placeOrder({ shopId, requestId, userId: "u0", lines });
  await held;
  const [entry] = await direct.xrevrange(`{${shopId}}:log`, "+", "-", "COUNT", 1);
  await two.server.store.shops.get(shopId).reopen(true);
  postgres.release();
  const after = await pending;
  expect(after.commit?.commitId, "not decided a second time").toBe(entry?.[1][3]);
  await auditShop({ ...stores.urls, shopId }, [commitOf(after)]);
});

describe("a Redis that lost its tail", () => {
  test("loses what was never acknowledged, which is then decided anew; what was acknowledged is there", async () => {
    const shopId = await createShop(one.grpc, { stock: { ps5: 10 }, users });
    const place = (requestId: string) =>
      one.grpc.orders.placeOrder({ shopId, requestId, orderId: `o-${requestId}`, lines, ...none });
    const before = await place("r-acknowledged");
    const copy = await copyShop(direct, shopId);
    // The flush of the next order is kept on its way to Postgres, so it is in Redis only.
    const held = postgres.hold((request) => request.includes("r-pending"));
    const pending = place("r-pending");
    const answered = pending.then(() => "answered");
    expect(await Promise.race([answered, held.then(() => "kept")])).toBe("kept");
    expect(await direct.hget(`{${shopId}}:stock`, "ps5:sold")).toBe("2");
    await restoreShop(direct, shopId, copy);
    postgres.cut();
    const after = await pending;
    expect(after.commit).toMatchObject({ requestId: "r-pending", replayed: false, durable: true });
    expect(after.stocks).toMatchObject([{ availableCount: 8n, soldCount: 2n }]);
    await auditShop({ ...stores.urls, shopId }, [commitOf(before), commitOf(after)]);
  });

  test.each(["cut off", "let through"] as const)(
    "does not take another commit at the same position for what it acknowledges, with the flush %s",
    async (how) => {
      const shopId = await createShop(one.grpc, { stock: { ps5: 10 }, users });
      const copy = await copyShop(direct, shopId);
      const requestId = uniqueId("r");
      const held = postgres.hold((request) => request.includes(requestId));
      const pending = one.grpc.orders.placeOrder({ shopId, requestId, userId: "u0", lines });
      await held;
      const position = await direct.hget(`{${shopId}}:meta`, "position");
      await restoreShop(direct, shopId, copy);
      const other = await two.grpc.orders.placeOrder({ shopId, userId: "u1", lines });
      expect(String(other.commit?.position), "it took the position of what was lost").toBe(position);
      if (how === "cut off") postgres.cut();
      else postgres.release();
      const answer = await pending;
      expect(answer).toMatchObject({ balanceMinor: 99_900n, stocks: [{ availableCount: 8n, soldCount: 2n }] });
      expect(answer.commit?.position).toBe((other.commit?.position ?? 0n) + 1n);
      await auditShop({ ...stores.urls, shopId }, [commitOf(other), commitOf(answer)]);
    },
  );

  test("beyond what Postgres has is fenced by the next call, whoever makes it", async () => {
    const shopId = await createShop(one.grpc, { stock: { ps5: 10 }, users });
    const place = (holdfast: Holdfast) => holdfast.grpc.orders.placeOrder({ shopId, userId: "u0", lines });
    const copy = await copyShop(direct, shopId);
    const acknowledged = [await place(one), await place(one)];
    await restoreShop(direct, shopId, copy);
    // The other one never saw the two orders.
    const next = await place(two);
    expect(next).toMatchObject({ balanceMinor: 99_700n, stocks: [{ availableCount: 7n, soldCount: 3n }] });
    expect(next.commit?.epoch).toBeGreaterThan(acknowledged[0]?.commit?.epoch ?? 0n);
    await auditShop({ ...stores.urls, shopId }, [...acknowledged, next].map(commitOf));
  });

  test.each(["read", "refusal"] as const)(
    "answers no %s from the older state, by a process that has not seen the newer",
    async (kind) => {
      const shopId = await createShop(one.grpc, { stock: { ps5: 0 }, users });
      const buy = () => persist(() => two.grpc.orders.placeOrder({ shopId, userId: "u1", lines }));
      expect(await buy(), "both processes know the shop").toBeUndefined();
      const copy = await copyShop(direct, shopId);
      await one.grpc.inventory.adjustStock({ shopId, sku: "ps5", deltaCount: 1n, reason: AdjustReason.RESTOCK });
      await restoreShop(direct, shopId, copy);
      if (kind === "read") {
        const { stock } = await two.grpc.inventory.getStock({ shopId, sku: "ps5" });
        expect(stock?.availableCount).toBe(1n);
      } else {
        expect(await buy(), "there is one to be had").toBeDefined();
      }
      await auditShop({ ...stores.urls, shopId });
    },
  );

  test.each(["read", "refusal"] as const)(
    "has told nobody of what is lost: a %s waits until what it rests on is durable",
    async (kind) => {
      const shopId = await createShop(one.grpc, { stock: { ps5: 1 }, users });
      const held = postgres.hold((request) => request.includes(`r-${kind}`));
      const order = one.grpc.orders.placeOrder({ shopId, requestId: `r-${kind}`, userId: "u0", lines });
      await held;
      const options = { timeoutMs: 300 };
      const early =
        kind === "read"
          ? one.grpc.inventory.getStock({ shopId, sku: "ps5" }, options)
          : one.grpc.orders.placeOrder({ shopId, userId: "u1", lines }, options);
      await expect(early).rejects.toMatchObject({ code: Code.DeadlineExceeded });
      postgres.release();
      expect((await order).stocks).toMatchObject([{ availableCount: 0n, soldCount: 1n }]);
      await auditShop({ ...stores.urls, shopId }, [commitOf(await order)]);
    },
  );
});

describe("a Redis that is killed", () => {
  let redis: RestartableRedis;
  let holdfast: Holdfast;
  beforeAll(async () => {
    redis = await startRestartableRedis();
    holdfast = await startHoldfast({ redisUrl: redis.url, databaseUrl: stores.database.url });
  });
  afterAll(async () => {
    await holdfast?.stop();
    await redis?.stop();
  });

  test("and comes back empty under load loses nothing and sells nothing twice", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 400 }, users });
    const load = startLoad({ clients: [holdfast.grpc], shopId, callerCount: 32, requestCount: 500 });
    for (const count of [100, 200, 300]) {
      await load.reached(count);
      await redis.kill();
      await redis.restart();
    }
    const { acknowledged, refusedCount } = await load.result;
    expect(acknowledged).toHaveLength(400);
    expect(refusedCount).toBe(100);
    await auditShop({ databaseUrl: stores.database.url, redisUrl: redis.url, shopId }, acknowledged);
    expect(holdfast.faults).toEqual([]);
  });
});

test("nothing of all this is a fault of ours", () => {
  expect([...one.faults, ...two.faults]).toEqual([]);
});
