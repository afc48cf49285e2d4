import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { RebuildMode } from "../../gen/holdfast/v1/admin_service_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { createDatabaseCopies, type DatabaseCopies } from "../helpers/database-copies.ts";
import { type Clients, type Holdfast, runHoldfast, startHoldfast } from "../helpers/holdfast.ts";
import { commitOf, persist } from "../helpers/load.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
let one: Holdfast;
let two: Holdfast;
let redis: Redis;
let postgres: Client;

beforeAll(async () => {
  one = await startHoldfast(stores.urls);
  two = await startHoldfast(stores.urls);
  redis = new Redis(stores.redis.url);
});
afterAll(async () => {
  await Promise.all([one?.stop(), two?.stop()]);
  redis?.disconnect();
});
beforeEach(async () => {
  postgres = new Client({ connectionString: stores.database.url });
  postgres.on("error", () => {}); // the database is taken away from it in some tests
  await postgres.connect();
});
afterEach(() => postgres.end());

const sale = { lines: [{ sku: "a", quantity: 1 }], paymentMethod: PaymentMethod.NONE };
const fenced = { code: Code.Unavailable, reason: "SHOP_FENCED", retryMs: undefined };

/** Every RPC that would commit or decide, and what asks Redis before it reads. */
function decisions({ orders, inventory, users, admin, subscriptions }: Clients, shopId: string) {
  return {
    PlaceOrder: () => orders.placeOrder({ shopId, ...sale }),
    HoldStock: () => inventory.holdStock({ shopId, lines: sale.lines }),
    AdjustStock: () => inventory.adjustStock({ shopId, sku: "a", deltaCount: 1n, reason: 1 }),
    CreateUser: () => users.createUser({ shopId, userId: uniqueId("user") }),
    GetStock: () => inventory.getStock({ shopId, sku: "a" }),
    GetOrder: () => orders.getOrder({ shopId, orderId: "o" }),
    GetUser: () => users.getUser({ shopId, userId: "ann" }),
    GetShopStats: () => admin.getShopStats({ shopId }),
    GetSubscription: () => subscriptions.getSubscription({ shopId, userId: "ann" }),
  };
}

/** What shows the record, which goes on. */
function histories({ orders, inventory, users, admin, subscriptions, events }: Clients, shopId: string) {
  return [
    () => orders.listOrders({ shopId }),
    () => inventory.listProducts({ shopId }),
    () => inventory.listHolds({ shopId }),
    () => users.listUsers({ shopId }),
    () => subscriptions.listTiers({ shopId }),
    () => admin.listSkuStats({ shopId }),
    () => events.listEvents({ shopId }),
    () => events.listConsumers({ shopId }),
    () => firstOf(events.watchEvents({ shopId })),
  ];
}

async function firstOf<Message>(stream: AsyncIterable<Message>): Promise<Message | undefined> {
  for await (const message of stream) return message;
  return undefined;
}

async function expectFenced(holdfast: Holdfast, shopId: string): Promise<void> {
  for (const door of ["grpc", "http"] as const) {
    for (const [rpc, call] of Object.entries(decisions(holdfast[door], shopId))) {
      expect(await refusalOf(call()), `${rpc} on ${door}`).toMatchObject(fenced);
    }
    for (const read of histories(holdfast[door], shopId)) expect(await read()).toBeDefined();
  }
}

/** The alarms of a process about a shop. */
function alarmsOf({ faults }: Holdfast, shopId: string): readonly Record<string, unknown>[] {
  return faults.map((line) => JSON.parse(line)).filter((line) => line.shop === shopId && line.alarm !== undefined);
}

async function rebuild({ admin }: Clients, shopId: string, mode = RebuildMode.UNSPECIFIED): Promise<void> {
  for await (const _ of admin.rebuildShop({ shopId, mode })) {
    // until it is over
  }
}

async function expectWhole({ admin }: Clients, shopId: string): Promise<void> {
  await auditShop({ ...stores.urls, shopId });
  for await (const { discrepancies } of admin.verifyShop({ shopId })) expect(discrepancies).toEqual([]);
}

const headOf = async (shopId: string): Promise<number> => {
  const { rows } = await postgres.query("select head_position::int as head from shops where shop_id = $1", [shopId]);
  return rows[0].head;
};

/** Waits until the sweeper has noted in Redis how far Postgres is. */
const untilNoted = (shopId: string, position: number) =>
  expect.poll(() => redis.hget(`{${shopId}}:meta`, "flushed"), { timeout: 8000 }).toBe(String(position));

describe("a commit that Postgres refuses", () => {
  /** Makes Postgres refuse an order. */
  const refuseOrder = (orderId: string) =>
    postgres.query(`alter table orders add constraint refused check (order_id <> '${orderId}')`);
  const acceptAll = () => postgres.query("alter table orders drop constraint if exists refused");
  afterEach(acceptAll);

  /** Places orders at once of which the fifth is refused by Postgres; who gets no answer of ours fails by the deadline. */
  async function poison(shopId: string) {
    const orderId = `poison-${shopId}`;
    await refuseOrder(orderId);
    const ids = Array.from({ length: 12 }, (_, index) => (index === 4 ? orderId : `${shopId}-${index}`));
    const place = (id: string) => one.grpc.orders.placeOrder({ shopId, orderId: id, requestId: `r-${id}`, ...sale });
    const settled = await Promise.allSettled(ids.map(place));
    return { orderId, ids, place, settled };
  }

  test("fences its shop with an alarm that names it, records what came before it, and refuses the others at once", async () => {
    const shopId = await createShop(one.grpc, { stock: { a: 100 }, users: { ann: 1 } });
    const others = await Promise.all(Array.from({ length: 8 }, () => createShop(one.grpc, { stock: { a: 9 } })));
    const before = await headOf(shopId);
    const { orderId, ids, place, settled } = await poison(shopId);
    const entries = await redis.xrange(`{${shopId}}:log`, "-", "+");
    const [id, fields] = entries.find(([, values]) => String(values[9]).includes(`"${orderId}"`)) ?? [];
    const position = Number.parseInt(id ?? "", 10);
    expect(await headOf(shopId)).toBe(position - 1);
    for (const [index, result] of settled.entries()) {
      const at = entries.find(([, values]) => String(values[9]).includes(`"r-${ids[index]}"`))?.[0];
      const isBefore = Number.parseInt(at ?? "", 10) < position;
      if (isBefore) expect(result).toMatchObject({ status: "fulfilled", value: { commit: { durable: true } } });
      else expect(await refusalOf(Promise.reject((result as PromiseRejectedResult).reason))).toMatchObject(fenced);
    }
    expect(before).toBeLessThan(position);
    expect(alarmsOf(one, shopId)).toEqual([
      expect.objectContaining({
        alarm: "poison_commit",
        position,
        commit_id: fields?.[3],
        rpc: "PlaceOrder",
        request_id: `r-${orderId}`,
      }),
    ]);
    await expectFenced(one, shopId);
    // The other process finds out by itself: nobody but its sweeper asks for it.
    await expect.poll(() => alarmsOf(two, shopId).length, { timeout: 8000 }).toBe(1);
    await expectFenced(two, shopId);
    for (const other of others) await one.grpc.orders.placeOrder({ shopId: other, ...sale });
    expect(await refusalOf(rebuild(one.grpc, shopId))).toMatchObject(fenced);
    expect(await refusalOf(rebuild(two.grpc, shopId))).toMatchObject(fenced);
    expect(alarmsOf(one, shopId), "the same alarm is not told again and again").toHaveLength(1);

    const { code, stderr } = await runHoldfast(
      ["rebuild", "--shop", shopId, "--target", one.grpcAddress, "--discard-unrecorded"],
      stores.urls,
    );
    expect([code, stderr]).toEqual([0, expect.stringContaining("rebuilt in epoch")]);
    await acceptAll();
    const again = await Promise.all(ids.map((each) => persist(() => place(each))));
    expect(again.every((answer) => answer?.commit?.durable === true)).toBe(true);
    await persist(() => two.grpc.orders.placeOrder({ shopId, ...sale }));
    const { stock } = await one.grpc.inventory.getStock({ shopId, sku: "a" });
    expect(stock?.soldCount).toBe(13n);
    await expectWhole(one.grpc, shopId);
  }, 60_000);

  test("an entry of the log that nobody can read is one too", async () => {
    const shopId = await createShop(one.grpc, { stock: { a: 9 } });
    const head = await headOf(shopId);
    const log = `{${shopId}}:log`;
    const meta = `{${shopId}}:meta`;
    const commit = "00000000-0000-7000-8000-000000000001";
    const epoch = (await redis.hget(meta, "epoch")) as string;
    const entry = ["v", "1", "commit", commit, "epoch", epoch, "time", String(Date.now())];
    const call = JSON.stringify({ rpc: "PlaceOrder", request_id: "by-hand", principal: "", request: {} });
    await redis.xadd(log, `${head + 1}-0`, ...entry, "call", call, "events", '[{"order_placed":');
    await redis.hset(meta, "position", head + 1, "commit_id", commit);
    await expect.poll(() => alarmsOf(one, shopId).length, { timeout: 8000 }).toBe(1);
    expect(alarmsOf(one, shopId)).toMatchObject([
      { alarm: "poison_commit", position: head + 1, commit_id: commit, rpc: "PlaceOrder", request_id: "by-hand" },
    ]);
    await expectFenced(one, shopId);
    await rebuild(one.grpc, shopId, RebuildMode.DISCARD_UNRECORDED);
    await persist(() => one.grpc.orders.placeOrder({ shopId, ...sale }));
    await expectWhole(one.grpc, shopId);
  }, 30_000);
});

test("a log of the wrong type fences the shop, VerifyShop ends, and it goes on when the key is gone", async () => {
  const shopId = await createShop(one.grpc, { stock: { a: 9 } });
  await redis.rename(`{${shopId}}:log`, `{${shopId}}:aside`);
  await redis.set(`{${shopId}}:log`, "not a stream");
  const verify = async () => {
    for await (const _ of one.grpc.admin.verifyShop({ shopId })) {
      // until it is over
    }
  };
  expect(await refusalOf(verify())).toMatchObject(fenced);
  expect(alarmsOf(one, shopId)).toMatchObject([{ alarm: "redis_refuses" }]);
  // The sweeper was at all shops when it has expired the hold of one of them, and sees no reason to end the fence.
  const other = await createShop(one.grpc, { stock: { a: 9 } });
  await one.grpc.inventory.holdStock({ shopId: other, holdId: "h", lines: sale.lines, holdDuration: { seconds: 1n } });
  const head = await headOf(other);
  await expect.poll(() => headOf(other), { timeout: 8000 }).toBeGreaterThan(head);
  await expectFenced(one, shopId);
  expect(await refusalOf(rebuild(one.grpc, shopId))).toMatchObject(fenced);
  await expectFenced(one, shopId);
  expect(alarmsOf(one, shopId)).toHaveLength(1);
  await redis.del(`{${shopId}}:log`, `{${shopId}}:aside`);
  await persist(() => one.grpc.orders.placeOrder({ shopId, ...sale }));
  await expectWhole(one.grpc, shopId);
}, 30_000);

test("a script that ends in its middle has the shop rebuilt: its commit is in the log, and a repeat takes nothing again, on any process", async () => {
  const shopId = await createShop(one.grpc, { stock: { a: 9 } });
  const order = {
    shopId,
    requestId: "half",
    orderId: "half",
    lines: sale.lines,
    paymentMethod: PaymentMethod.EXTERNAL,
  };
  await redis.set(`{${shopId}}:orders`, "not a hash");
  await expect(one.grpc.orders.placeOrder(order)).rejects.toMatchObject({ code: Code.Internal });
  const repeated = await persist(() => two.grpc.orders.placeOrder(order));
  expect(repeated?.commit).toMatchObject({ replayed: true, durable: true });
  expect((await one.grpc.inventory.getStock({ shopId, sku: "a" })).stock).toMatchObject({
    availableCount: 8n,
    heldCount: 1n,
  });
  await expectWhole(one.grpc, shopId);
}, 30_000);

test("a Redis that takes no functions from this user any more is away: no shop is fenced", async () => {
  const shopId = await createShop(one.grpc, { stock: { a: 9 } });
  const unavailable = { code: Code.Unavailable, reason: "SHOP_UNAVAILABLE", retryMs: expect.any(Number) };
  await redis.call("ACL", "SETUSER", "default", "-fcall", "-fcall_ro");
  try {
    for (const [rpc, call] of Object.entries(decisions(one.grpc, shopId)).filter(([rpc]) => !rpc.startsWith("Get"))) {
      expect(await refusalOf(call()), rpc).toMatchObject(unavailable);
    }
    expect((await one.grpc.inventory.getStock({ shopId, sku: "a" })).stock?.availableCount).toBe(9n);
    expect(await refusalOf(rebuild(one.grpc, shopId))).toMatchObject(unavailable);
  } finally {
    await redis.call("ACL", "SETUSER", "default", "+fcall", "+fcall_ro");
  }
  expect((await persist(() => one.grpc.orders.placeOrder({ shopId, ...sale })))?.commit?.durable).toBe(true);
  expect([...alarmsOf(one, shopId), ...alarmsOf(two, shopId)]).toEqual([]);
  await expectWhole(one.grpc, shopId);
}, 30_000);

describe("a Postgres that was put back to where the log does not reach", () => {
  let copies: DatabaseCopies;
  beforeAll(() => {
    copies = createDatabaseCopies(stores.database);
  });
  afterAll(() => copies.drop());

  /** A shop that lost its newest 8 commits, the last 6 of which the log still has; returns where it stood. */
  async function loseCommits(watch?: (shopId: string, head: number) => Promise<void>) {
    const shopId = await createShop(one.grpc, { stock: { a: 100 }, users: { ann: 1 } });
    const restored = await headOf(shopId);
    const copy = await copies.take();
    const commits = [];
    for (let count = 0; count < 8; count += 1) {
      commits.push(commitOf((await persist(() => two.grpc.orders.placeOrder({ shopId, ...sale }))) as never));
    }
    await watch?.(shopId, restored + 8);
    // A log is never trimmed before it was noted how far Postgres is.
    await untilNoted(shopId, restored + 8);
    await redis.xtrim(`{${shopId}}:log`, "MINID", `${restored + 3}-0`);
    const newer = await copies.putBack(copy);
    await reconnect();
    return { shopId, restored, newer, commits };
  }
  const reconnect = async () => {
    postgres = new Client({ connectionString: stores.database.url });
    postgres.on("error", () => {});
    await postgres.connect();
  };

  test("is fenced on every process, says which commits are missing, and a rebuild without a word changes nothing", async () => {
    const { shopId, restored, newer, commits } = await loseCommits();
    for (const holdfast of [one, two]) {
      await expect.poll(() => alarmsOf(holdfast, shopId).length, { timeout: 8000 }).toBe(1);
      expect(alarmsOf(holdfast, shopId)).toMatchObject([
        { alarm: "commits_missing", from: restored + 1, to: restored + 8 },
      ]);
      await expectFenced(holdfast, shopId);
      expect(await refusalOf(rebuild(holdfast.grpc, shopId))).toMatchObject(fenced);
      expect(await refusalOf(rebuild(holdfast.grpc, shopId, RebuildMode.DISCARD_UNRECORDED))).toMatchObject(fenced);
    }
    const later = await startHoldfast(stores.urls);
    await expectFenced(later, shopId);
    await later.stop();
    expect(await headOf(shopId)).toBe(restored);

    // The operator finds a newer copy: the shop goes on by itself, and nothing is lost.
    await copies.putBack(newer);
    await reconnect();
    for (const holdfast of [one, two]) {
      await expect
        .poll(() => persist(() => holdfast.grpc.inventory.getStock({ shopId, sku: "a" })), { timeout: 8000 })
        .toBeTruthy();
    }
    await auditShop({ ...stores.urls, shopId }, commits);
    await expectWhole(one.grpc, shopId);
  }, 60_000);

  test("goes on when the loss is accepted: no position is used again, and watchers learn that history changed", async () => {
    let connected: AsyncIterator<unknown> | undefined;
    const { shopId, restored, commits } = await loseCommits(async (watched, head) => {
      const start = { case: "afterPosition", value: BigInt(head - 1) } as const;
      connected = two.grpc.events.watchEvents({ shopId: watched, start })[Symbol.asyncIterator]();
      await connected.next();
    });
    await expect.poll(() => alarmsOf(two, shopId).length, { timeout: 8000 }).toBe(1);
    const command = ["rebuild", "--shop", shopId, "--target", one.grpcAddress];
    const refused = await runHoldfast(command, stores.urls);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(`${restored + 1} to ${restored + 8}`)]);
    expect((await runHoldfast([...command, "--accept-loss"], stores.urls)).code).toBe(0);
    expect(alarmsOf(one, shopId).at(-1)).toMatchObject({
      alarm: "loss_accepted",
      from: restored + 1,
      to: restored + 8,
    });

    const untilItEnds = async (messages: AsyncIterator<unknown>) => {
      while (!(await messages.next()).done);
    };
    const historyChanged = {
      reason: "HISTORY_CHANGED",
      metadata: { position: String(restored + 8), epoch: expect.stringMatching(/^[1-9]/) },
    };
    expect(await refusalOf(untilItEnds(connected as AsyncIterator<unknown>))).toMatchObject(historyChanged);
    const known = commits[5];
    const start = { case: "afterPosition", value: known?.position as bigint } as const;
    const resumed = one.grpc.events.watchEvents({ shopId, start, afterCommitId: known?.commitId as string });
    expect(await refusalOf(untilItEnds(resumed[Symbol.asyncIterator]()))).toMatchObject(historyChanged);

    const { commit } = (await persist(() => two.grpc.orders.placeOrder({ shopId, ...sale }))) ?? {};
    expect(commit?.position).toBe(BigInt(restored + 9));
    const seen: [bigint, number][] = [];
    const after = { case: "afterPosition", value: BigInt(restored) } as const;
    for await (const { message } of two.grpc.events.watchEvents({ shopId, start: after })) {
      if (message.case === "batch") seen.push([message.value.position, message.value.events.length]);
      if (seen.length === 9) break;
    }
    expect(seen).toEqual(Array.from({ length: 9 }, (_, index) => [BigInt(restored + 1 + index), index === 8 ? 1 : 0]));
    const listed = await one.grpc.events.listEvents({ shopId, afterPosition: BigInt(restored) });
    expect(listed.events.map(({ position }) => position)).toEqual([BigInt(restored + 9)]);
    const { stock } = await two.grpc.inventory.getStock({ shopId, sku: "a" });
    expect(stock?.soldCount).toBe(1n);
    await expectWhole(two.grpc, shopId);
  }, 60_000);

  test("keeps what it had, lost before that was noted in Redis, and does not take any more: it is not discarded", async () => {
    const shopId = await createShop(one.grpc, { stock: { a: 9 } });
    const orderId = `refused-${shopId}`;
    await postgres.query(`alter table orders add constraint refused check (order_id <> '${orderId}')`);
    const copy = await copies.take();
    await reconnect();
    await postgres.query("alter table orders drop constraint refused");
    await persist(() => one.grpc.orders.placeOrder({ shopId, orderId, requestId: orderId, ...sale }));
    const head = await headOf(shopId);
    await copies.putBack(copy);
    await reconnect();
    // As if it had been lost before the sweeper came by; it does so now, when Postgres does not know any more.
    await redis.hset(`{${shopId}}:meta`, "flushed", head - 1);
    await untilNoted(shopId, head);
    await expect.poll(() => alarmsOf(one, shopId).length, { timeout: 8000 }).toBe(1);
    expect(await refusalOf(rebuild(one.grpc, shopId, RebuildMode.DISCARD_UNRECORDED))).toMatchObject(fenced);
    await postgres.query("alter table orders drop constraint refused");
    await expect.poll(() => headOf(shopId), { timeout: 8000 }).toBe(head);
    const again = () => one.grpc.orders.placeOrder({ shopId, orderId, requestId: orderId, ...sale });
    expect((await persist(again))?.commit).toMatchObject({ replayed: true, position: BigInt(head) });
    await expectWhole(one.grpc, shopId);
  }, 60_000);
});
