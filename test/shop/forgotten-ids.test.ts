import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { Client } from "pg";
import { v7 } from "uuid";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdjustReason, HoldState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { expectRefusal, refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

/**
 * Redis remembers the newest request ids, and the ids of what ended; here so few of them that all but the latest are let
 * go as soon as they are 10 minutes old. What follows asks for those that were: Postgres has to know them.
 */
const settings = { HOLDFAST_REQUEST_MEMORY_COUNT: "100" };
const clock = { nowMs: Date.now() + 3_600_000 };
const stores = useStores();
let postgres: TcpProxy;
let holdfast: Holdfast;
let redis: Redis;

beforeAll(async () => {
  postgres = await startProxy(stores.database.url);
  const urls = { redisUrl: stores.redis.url, databaseUrl: postgres.url };
  holdfast = await startHoldfast({ ...urls, settings, clock: () => clock.nowMs });
  redis = new Redis(stores.redis.url);
});
afterAll(async () => {
  redis?.disconnect();
  await holdfast?.stop();
  await postgres?.stop();
});

const lines = [{ sku: "a", quantity: 1 }];
const none = { paymentMethod: PaymentMethod.NONE };

/** Makes Redis let go of everything that ended or was asked until now. */
async function letGo(shopId: string): Promise<void> {
  const mark = await holdfast.grpc.inventory.putProduct({ shopId, sku: "a", requestId: `mark-${clock.nowMs}` });
  const field = `request:${mark.commit?.requestId}`;
  for (let turn = 0; turn < 5; turn += 1) {
    clock.nowMs += 600_000;
    await adjustMany(shopId, 100);
    const found = await Promise.all(["recent_0", "recent_1"].map((key) => redis.hexists(`{${shopId}}:${key}`, field)));
    if (found.every((isThere) => isThere === 0)) return;
  }
  throw new Error("Redis still remembers");
}

async function adjustMany(shopId: string, count: number): Promise<void> {
  const adjust = { shopId, sku: "a", deltaCount: 1n, reason: AdjustReason.RESTOCK };
  await Promise.all(Array.from({ length: count }, () => holdfast.grpc.inventory.adjustStock(adjust)));
}

const replayed = <Answer extends { commit?: object | undefined }>(answer: Answer): Answer => ({
  ...answer,
  commit: { ...answer.commit, replayed: true },
});

/** What is done once, then forgotten by Redis. */
async function makeHistory() {
  const { inventory, orders, users } = holdfast.grpc;
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1000 }, users: { ann: 10_000 } });
  const requests = {
    order: { shopId, requestId: "r-order", orderId: "o-lines", userId: "ann", lines },
    hold: { shopId, requestId: "r-hold", holdId: "h-released", lines },
    committed: { shopId, requestId: "r-committed", holdId: "h-committed", lines },
    expired: { shopId, requestId: "r-expired", holdId: "h-expired", lines, holdDuration: { seconds: 1n } },
    fromHold: { shopId, requestId: "r-from-hold", orderId: "o-hold", holdId: "h-committed", ...none },
    release: { shopId, requestId: "r-release", holdId: "h-released" },
    deposit: { shopId, requestId: "r-deposit", userId: "ann", amountMinor: 5n, reference: "x" },
    user: { shopId, requestId: "r-user", userId: "eve", email: "eve@example.com", displayName: "Eve" },
  };
  const answers = {
    order: await orders.placeOrder(requests.order),
    hold: await inventory.holdStock(requests.hold),
    committed: await inventory.holdStock(requests.committed),
    expired: await inventory.holdStock(requests.expired),
    fromHold: await orders.placeOrder(requests.fromHold),
    release: await inventory.releaseHold(requests.release),
    deposit: await users.depositFunds(requests.deposit),
    user: await users.createUser(requests.user),
  };
  clock.nowMs += 1000;
  await inventory.getHold({ shopId, holdId: "h-expired" });
  return { shopId, requests, answers };
}

type History = Awaited<ReturnType<typeof makeHistory>>;

const repeatAll = ({ requests }: History) => {
  const { inventory, orders, users } = holdfast.grpc;
  return {
    order: () => orders.placeOrder(requests.order),
    hold: () => inventory.holdStock(requests.hold),
    committed: () => inventory.holdStock(requests.committed),
    expired: () => inventory.holdStock(requests.expired),
    fromHold: () => orders.placeOrder(requests.fromHold),
    release: () => inventory.releaseHold(requests.release),
    deposit: () => users.depositFunds(requests.deposit),
    user: () => users.createUser(requests.user),
  };
};

async function expectAllReplayed(history: History): Promise<void> {
  for (const [name, repeat] of Object.entries(repeatAll(history))) {
    expect(await repeat(), name).toEqual(replayed(history.answers[name as keyof History["answers"]]));
  }
}

describe("what Redis let go of", () => {
  let history: History;

  beforeAll(async () => {
    history = await makeHistory();
    await letGo(history.shopId);
  });

  test("is still answered as the first time", async () => {
    await expectAllReplayed(history);
  });

  test("is still refused with another body or by another RPC", async () => {
    const { shopId, requests } = history;
    const { inventory, orders, users } = holdfast.grpc;
    const cases = [
      ["lines[0].quantity", () => orders.placeOrder({ ...requests.order, lines: [{ sku: "a", quantity: 2 }] })],
      ["lines[0].sku", () => inventory.holdStock({ ...requests.hold, lines: [{ sku: "b", quantity: 1 }] })],
      ["amount_minor", () => users.depositFunds({ ...requests.deposit, amountMinor: 6n })],
      ["display_name", () => users.createUser({ ...requests.user, displayName: "eve" })],
      ["rpc", () => users.createUser({ ...requests.user, requestId: "r-order" })],
      ["rpc", () => inventory.releaseHold({ ...requests.release, requestId: "r-hold" })],
    ] as const;
    for (const [field, call] of cases) {
      await expectRefusal(holdfast.grpc, shopId, call, {
        code: Code.InvalidArgument,
        reason: "REQUEST_ID_REUSED",
        metadata: expect.objectContaining({ field }),
      });
    }
  });

  test.each(["", "r-new"])("an id of a resource answers an equal body, with the request id '%s'", async (requestId) => {
    const { requests, answers } = history;
    const { inventory, orders, users } = holdfast.grpc;
    expect(await orders.placeOrder({ ...requests.order, requestId })).toEqual(replayed(answers.order));
    expect(await orders.placeOrder({ ...requests.fromHold, requestId })).toEqual(replayed(answers.fromHold));
    expect(await inventory.holdStock({ ...requests.hold, requestId })).toEqual(replayed(answers.hold));
    expect(await inventory.holdStock({ ...requests.committed, requestId })).toEqual(replayed(answers.committed));
    expect(await inventory.holdStock({ ...requests.expired, requestId })).toEqual(replayed(answers.expired));
    expect(await users.createUser({ ...requests.user, requestId })).toEqual(replayed(answers.user));
  });

  test("an id of a resource is refused with another body", async () => {
    const { shopId, requests } = history;
    const { inventory, orders } = holdfast.grpc;
    const other = { requestId: "", lines: [{ sku: "a", quantity: 2 }] };
    const cases = [
      ["ORDER_EXISTS", () => orders.placeOrder({ ...requests.order, ...other })],
      ["HOLD_EXISTS", () => inventory.holdStock({ ...requests.hold, ...other })],
      ["HOLD_EXISTS", () => inventory.holdStock({ ...requests.committed, ...other })],
      ["HOLD_EXISTS", () => inventory.holdStock({ ...requests.expired, ...other })],
    ] as const;
    for (const [reason, call] of cases) {
      await expectRefusal(holdfast.grpc, shopId, call, {
        code: Code.AlreadyExists,
        reason,
        metadata: expect.objectContaining({ field: "lines[0].quantity" }),
      });
    }
    const swapped = { ...requests.fromHold, requestId: "", holdId: "h-released" };
    await expectRefusal(holdfast.grpc, shopId, () => orders.placeOrder(swapped), {
      code: Code.AlreadyExists,
      reason: "ORDER_EXISTS",
      metadata: expect.objectContaining({ field: "hold_id" }),
    });
  });

  test("an ended hold still says how it ended", async () => {
    const { shopId, answers } = history;
    const { inventory, orders } = holdfast.grpc;
    for (const [holdId, reason, state] of [
      ["h-released", "HOLD_RELEASED", HoldState.RELEASED],
      ["h-committed", "HOLD_COMMITTED", HoldState.COMMITTED],
      ["h-expired", "HOLD_EXPIRED", HoldState.EXPIRED],
    ] as const) {
      const expected = {
        code: Code.FailedPrecondition,
        reason,
        metadata: expect.objectContaining({ hold_id: holdId }),
      };
      await expectRefusal(holdfast.grpc, shopId, () => inventory.extendHold({ shopId, holdId }), expected);
      await expectRefusal(holdfast.grpc, shopId, () => orders.placeOrder({ shopId, holdId, ...none }), expected);
      const nobody = () => orders.placeOrder({ shopId, holdId, ...none, userId: "nobody" });
      await expectRefusal(holdfast.grpc, shopId, nobody, { code: Code.NotFound, reason: "USER_NOT_FOUND" });
      if (holdId !== "h-released") {
        await expectRefusal(holdfast.grpc, shopId, () => inventory.releaseHold({ shopId, holdId }), expected);
      }
      expect((await inventory.getHold({ shopId, holdId })).hold?.state).toBe(state);
    }
    expect(await inventory.releaseHold({ shopId, holdId: "h-released" })).toEqual(replayed(answers.release));
  });

  test("is still answered after Redis was emptied, which brings only the newest back", async () => {
    await redis.flushall();
    await holdfast.grpc.inventory.getStock({ shopId: history.shopId, sku: "a" });
    expect(await redis.hexists(`{${history.shopId}}:recent_0`, "request:r-order")).toBe(0);
    await expectAllReplayed(history);
    await auditShop({ ...stores.urls, shopId: history.shopId });
  });

  test("is free for another request after the retention", async () => {
    const { shopId, requests } = history;
    const client = new Client({ connectionString: stores.database.url });
    await client.connect();
    const { rowCount } = await client.query(
      "update commits set commit_time = commit_time - interval '3 days' where shop_id = $1 and request_id = 'r-deposit'",
      [shopId],
    );
    await client.end();
    expect(rowCount).toBe(1);
    const { commit } = await holdfast.grpc.users.depositFunds({ ...requests.deposit, amountMinor: 6n });
    expect(commit).toMatchObject({ requestId: "r-deposit", replayed: false });
  });
});

test("an id that carries its time and is younger than what was let go costs no look into Postgres", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1000 } });
  await adjustMany(shopId, 100);
  await letGo(shopId);
  const countLookUps = postgres.countRequests("commit_time > to_timestamp");
  const place = (requestId: string, orderId: string) =>
    holdfast.grpc.orders.placeOrder({ shopId, requestId, orderId, lines, ...none });
  const young = () => v7({ msecs: clock.nowMs });
  const old = () => v7({ msecs: clock.nowMs - 7_200_000 });
  await place(young(), young());
  expect(countLookUps()).toBe(0);
  await place("r-1", young());
  await place(young(), "o-1");
  await place(old(), young());
  await place(young(), old());
  expect(countLookUps()).toBe(4);
  await auditShop({ ...stores.urls, shopId });
});

describe("an id that carries a time of more than a minute from now", () => {
  const ids = (aheadMs: number) => ({
    requestId: v7({ msecs: clock.nowMs + aheadMs }),
    orderId: v7({ msecs: clock.nowMs + aheadMs }),
  });

  test.each([
    ["request_id", "requestId"],
    ["order_id", "orderId"],
  ] as const)("is refused as %s: it would not be known when its time has come", async (field, name) => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
    const { [name]: id } = ids(60_001);
    for (const door of [holdfast.grpc, holdfast.http]) {
      const refusal = await refusalOf(door.orders.placeOrder({ shopId, [name]: id, lines, ...none }));
      expect(refusal).toMatchObject({ code: Code.InvalidArgument, reason: "VALIDATION_FAILED", fields: [field] });
    }
    const { stock } = await holdfast.grpc.inventory.getStock({ shopId, sku: "a" });
    expect(stock?.availableCount).toBe(1n);
  });

  test("leaves nothing behind of a shop that somebody made up", async () => {
    const { shops } = holdfast.server.store;
    for (const shopId of ["made-up-1", "made-up-2"]) {
      const call = holdfast.grpc.orders.placeOrder({ shopId, requestId: ids(60_001).requestId, lines, ...none });
      expect(await refusalOf(call)).toMatchObject({ reason: "VALIDATION_FAILED" });
    }
    expect([...shops.served].map(({ id }) => id).filter((id) => id.startsWith("made-up"))).toEqual([]);
  });

  test("is taken when it is a minute, and known for as long as others", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 1000 } });
    const request = { shopId, ...ids(60_000), lines, ...none };
    const answer = await holdfast.grpc.orders.placeOrder(request);
    await letGo(shopId);
    expect(await holdfast.grpc.orders.placeOrder(request)).toEqual(replayed(answer));
  });
});

test("nothing is let go before it is 10 minutes old, however many ids there are", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1000 } });
  const request = { shopId, requestId: "r-first", orderId: "o-first", lines, ...none };
  const answer = await holdfast.grpc.orders.placeOrder(request);
  await adjustMany(shopId, 350);
  clock.nowMs += 599_999;
  await adjustMany(shopId, 350);
  const found = await Promise.all(
    ["recent_0", "recent_1"].map((key) => redis.hexists(`{${shopId}}:${key}`, "request:r-first")),
  );
  expect(found).toContain(1);
  expect(await holdfast.grpc.orders.placeOrder(request)).toEqual(replayed(answer));
});

test("calls of shops that somebody made up leave nothing behind when Postgres goes silent", async () => {
  const { shops } = holdfast.server.store;
  const madeUp = () => [...shops.served].filter(({ id }) => id.startsWith("made-up"));
  postgres.swallow();
  const calls = Array.from({ length: 15 }, (_, number) => [
    holdfast.grpc.orders.placeOrder({ shopId: `made-up-${number}`, lines, ...none }, { timeoutMs: 500 }),
    holdfast.grpc.events.listEvents({ shopId: `made-up-too-${number}` }, { timeoutMs: 500 }),
  ]).flat();
  const ended = Promise.allSettled(calls);
  await expect.poll(() => shops.awayStore(), { timeout: 10_000 }).toBe("Postgres");
  expect(madeUp().length).toBeGreaterThan(0);
  await ended;
  postgres.accept();
  await expect.poll(madeUp, { timeout: 10_000 }).toEqual([]);
  await expect.poll(() => shops.awayStore(), { timeout: 10_000 }).toBe(undefined);
}, 40_000);
