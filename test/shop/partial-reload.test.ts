import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdjustReason, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { loadLimits } from "../../src/shop/load-limits.ts";
import { patientCaller } from "../../src/shop/waiters.ts";
import { chooseCalls } from "../chaos/callers/choose-call.ts";
import { Random } from "../chaos/callers/random.ts";
import { View } from "../chaos/callers/view.ts";
import { auditShop } from "../helpers/audit.ts";
import { createDatabaseCopies, type DatabaseCopies } from "../helpers/database-copies.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { copyShop, type RedisState, readRedisState, restoreShop, type ShopCopy } from "../helpers/redis-state.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { startRedis } from "../helpers/servers.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";
import { send } from "../model/caller.ts";
import type { Call } from "../model/decide.ts";

const stores = useStores();
/** Its own Redis and a copy of the database, where the same shops go on by themselves: what a fork's other side does. */
let forkRedis: Awaited<ReturnType<typeof startRedis>>;
let copies: DatabaseCopies;
let here: Redis;
let there: Redis;
let main: Holdfast;
/** The clock of all shops, in milliseconds: it stands still while stores are compared. */
let nowMs = Date.now();
const clock = (): number => nowMs;

beforeAll(async () => {
  forkRedis = await startRedis();
  copies = createDatabaseCopies(stores.database);
  here = new Redis(stores.redis.url);
  there = new Redis(forkRedis.url);
  main = await startHoldfast({ ...stores.urls, clock });
});
afterAll(async () => {
  here?.disconnect();
  there?.disconnect();
  await main?.stop();
  await forkRedis?.stop();
  await copies?.drop();
});

/** Lets the shops that are there go on in another Redis and another Postgres as well, until `work` is done. */
async function withFork(shopIds: readonly string[], work: (fork: Holdfast) => Promise<void>): Promise<void> {
  const url = new URL(stores.database.url);
  url.pathname = `/${await copies.take()}`;
  // Whoever lost its connection meanwhile may take Postgres for away.
  await expect.poll(() => main.server.store.shops.isUp("Postgres"), { timeout: 10_000 }).toBe(true);
  for (const shopId of shopIds) await restoreShop(there, shopId, await copyShop(here, shopId));
  const fork = await startHoldfast({ redisUrl: forkRedis.url, databaseUrl: url.href, clock });
  await work(fork).finally(() => fork.stop());
}

/** Puts what the fork's Redis has of a shop in the place of what is there. */
async function takeFork(shopId: string): Promise<void> {
  const copy = await copyShop(there, shopId);
  const key = `{${shopId}}:meta`;
  // The fork's Postgres is none that anybody knows: nothing it took is durable.
  const flushed = await here.hget(key, "flushed");
  const known = Math.min(Number(flushed), Number(await there.hget(key, "flushed")));
  await restoreShop(here, shopId, copy);
  await here.hset(key, "flushed", Math.min(known, common.get(shopId) ?? 0));
}

/** The position at which a shop's two sides parted. */
const common = new Map<string, number>();

const positionOf = async (redis: Redis, shopId: string): Promise<number> =>
  Number(await redis.hget(`{${shopId}}:meta`, "position"));

/** What the log says of a shop's stores since some line of it. */
const told = (shopId: string, from = 0) =>
  main.logged
    .slice(from)
    .map((line) => JSON.parse(line))
    .filter(({ shop, msg }) => shop === shopId && /caught up|rebuilt/.test(msg));

interface CaughtUp {
  readonly lost: number;
  readonly divergent: number;
}

/** Opens a shop whose Redis lost something and expects that only a part of it was reloaded, and that this is as good as all. */
async function expectCaughtUp(shopId: string, about = ""): Promise<CaughtUp> {
  const from = main.logged.length;
  await main.server.store.shops.get(shopId).reopen();
  const lines = told(shopId, from);
  expect(
    lines.map(({ msg }) => msg),
    about,
  ).toEqual(["shop caught up with Postgres"]);
  await expectAsRebuilt(shopId, about);
  return lines[0];
}

async function expectAsRebuilt(shopId: string, about: string): Promise<void> {
  const found = await stateOf(shopId);
  expect(await here.hget(`{${shopId}}:meta`, "flushed")).toBe(found.last[0]);
  expect(await discrepancies(shopId), about).toEqual([]);
  await here.del(...(await here.keys(`{${shopId}}:*`)));
  await main.server.store.shops.get(shopId).reopen();
  const rebuilt = await stateOf(shopId);
  for (const name of Object.keys(rebuilt.hashes))
    expect(found.hashes[name], `${about}: ${name}`).toEqual(rebuilt.hashes[name]);
  expect(found, about).toEqual(rebuilt);
}

async function discrepancies(shopId: string): Promise<readonly string[]> {
  const found: string[] = [];
  for await (const { discrepancies } of main.grpc.admin.verifyShop({ shopId }))
    found.push(
      ...discrepancies.map(({ kind, subject, expected, found: is }) => `${kind} ${subject}: ${expected}, ${is}`),
    );
  return found;
}

/** What must be the same: all but the private parts of the log, and when an order changed last, which a rebuild leaves out. */
async function stateOf(shopId: string): Promise<RedisState> {
  const state = await readRedisState(here, shopId);
  const recent = Object.entries(state.recent).map(([field, value]) =>
    field.startsWith("order:") ? [field, value.replace(/ \d+$/, "")] : [field, value],
  );
  const stats = Object.entries(state.hashes.stats ?? {}).filter(([, value]) => value !== "0");
  const log = (state.log as [string, string[]][]).map(([id, fields]) => [id, fields.slice(0, 12)]);
  return {
    ...state,
    hashes: { ...state.hashes, stats: Object.fromEntries(stats) },
    recent: Object.fromEntries(recent),
    log,
  };
}

const caseCount = Number(process.env.RELOAD_CASES ?? 4);
const firstSeed = Number(process.env.RELOAD_SEED ?? 1);

/** A shop that random callers use, in one Holdfast or another. */
class RandomShop {
  readonly shopId: string;
  readonly view: View;
  constructor(shopId: string) {
    this.shopId = shopId;
    this.view = new View(shopId, clock);
  }

  /** Makes so many random calls, one after the other. */
  async use(holdfast: Holdfast, random: Random, count: number): Promise<void> {
    for (let made = 0; made < count; made += 1) {
      for (const chosen of chooseCalls(random, this.view)) {
        const call = limited(chosen);
        this.view.sent(call);
        const outcome = await send(holdfast, this.shopId, call);
        if (outcome.kind === "answered") this.view.answered(call, outcome);
      }
    }
  }
}

/** Every product has a limit from the beginning: a first limit among the lost commits needs a rebuild of everything. */
function limited(call: Call): Call {
  if (call.rpc !== "PutProduct" || call.badField !== undefined) return call;
  return { ...call, request: { ...call.request, max_per_user: call.request.max_per_user || 1000 } };
}

/** Which side went on: that of Postgres, with commits that Redis lost; Redis' own, and of Postgres' one commit; or both. */
type Kind = "lost" | "divergent" | "both";

/** A shop whose two sides part, and how. */
interface Case {
  readonly seed: number;
  readonly shop: RandomShop;
  readonly kind: Kind;
  /** What Redis has when they part. */
  copy: ShopCopy;
}

test("a reload equals a full rebuild, after random calls of every kind on one side or on both", async () => {
  const cases: Case[] = [];
  for (let index = 0; index < caseCount; index += 1) {
    const kind = (["lost", "both", "divergent", "both"] as const)[index % 4] as Kind;
    cases.push({ seed: firstSeed + index, shop: new RandomShop(await createShop(main.grpc)), kind, copy: [] });
  }
  const everyone = (salt: number, work: (each: Case, random: Random) => Promise<void> | undefined) =>
    Promise.all(cases.map((each) => work(each, new Random(each.seed * 1000 + salt))));
  await everyone(1, ({ shop }, random) => shop.use(main, random, 70));
  await untilQuiet(here, cases);
  for (const each of cases) {
    const { shopId } = each.shop;
    common.set(shopId, await positionOf(here, shopId));
    each.copy = await copyShop(here, shopId);
  }
  await withFork(
    cases.map(({ shop }) => shop.shopId),
    async (fork) => {
      for (const salt of [2, 4]) {
        await everyone(salt, ({ shop, kind }, random) => (kind === "lost" ? undefined : shop.use(fork, random, 15)));
        await everyone(salt + 1, ({ shop, kind }, random) =>
          kind === "divergent" ? addUser(shop.shopId) : shop.use(main, random, 15),
        );
        // Half of it is done before holds and periods end, on both sides, and half after.
        if (salt === 2) nowMs += 32 * 24 * 3_600_000;
      }
      await untilQuiet(here, cases);
      await untilQuiet(there, cases);
    },
  );
  for (const each of cases) await expectReload(each);
}, 120_000);

async function addUser(shopId: string): Promise<void> {
  await main.grpc.users.createUser({ shopId, userId: "another" });
}

/** Waits until the sweeper has noted that everything is in Postgres. */
async function untilFlushed(shopId: string): Promise<void> {
  const noted = async () => new Set(await here.hmget(`{${shopId}}:meta`, "position", "flushed")).size;
  await expect.poll(noted, { timeout: 10_000, interval: 10 }).toBe(1);
}

/** Waits until nothing that is due is left, and everything is in Postgres. */
async function untilQuiet(redis: Redis, cases: readonly Case[]): Promise<void> {
  for (const { shop } of cases) {
    const isQuiet = async (): Promise<boolean> => {
      const key = (name: string): string => `{${shop.shopId}}:${name}`;
      const dueCounts = ["due", "renewals"].map((name) => redis.zcount(key(name), "-inf", nowMs));
      const [position, flushed] = await redis.hmget(key("meta"), "position", "flushed");
      return position === flushed && (await Promise.all(dueCounts)).every((count) => count === 0);
    };
    await expect.poll(isQuiet, { timeout: 30_000, interval: 50 }).toBe(true);
  }
}

async function expectReload({ seed, shop, kind, copy }: Case): Promise<void> {
  const { shopId } = shop;
  const headPosition = await positionOf(here, shopId);
  if (kind === "lost") await restoreShop(here, shopId, copy);
  else await takeFork(shopId);
  const redisPosition = await positionOf(here, shopId);
  const { lost, divergent } = await expectCaughtUp(shopId, `seed ${seed}, ${kind}`);
  const from = common.get(shopId) ?? 0;
  expect({ lost, divergent }, `seed ${seed}`).toEqual({ lost: headPosition - from, divergent: redisPosition - from });
  expect(lost + divergent).toBeGreaterThan(0);
}

test("a fork that lost leaves nothing behind: no hold, no count of units, no id", async () => {
  const { inventory, orders, users } = main.grpc;
  const lines = [{ sku: "a", quantity: 2 }];
  const shopId = await createShop(main.grpc, { stock: { a: 50 }, users: { u1: 9000, u2: 9000 } });
  await inventory.putProduct({ shopId, sku: "a", maxPerUser: 2 });
  await untilFlushed(shopId);
  common.set(shopId, await positionOf(here, shopId));
  await withFork([shopId], async (fork) => {
    await fork.grpc.inventory.holdStock({ shopId, holdId: "h", userId: "u1", lines });
    await fork.grpc.orders.placeOrder({ shopId, orderId: "o", requestId: "r", userId: "u2", lines });
    await fork.grpc.users.createUser({ shopId, userId: "u3", email: "u3@example.com", ownReferralCode: "U3" });
    await users.depositFunds({ shopId, userId: "u1", amountMinor: 1n });
  });
  await takeFork(shopId);
  await main.server.store.shops.get(shopId).reopen();
  expect(told(shopId).at(-1)).toMatchObject({ msg: "shop caught up with Postgres", lost: 1, divergent: 3 });
  expect(await here.exists(`{${shopId}}:limits`, `{${shopId}}:holds`, `{${shopId}}:due_skus`)).toBe(0);
  const placed = await orders.placeOrder({ shopId, orderId: "o", requestId: "r", userId: "u2", lines });
  expect(placed).toMatchObject({ commit: { replayed: false }, balanceMinor: 8800n });
  await inventory.holdStock({ shopId, holdId: "h", userId: "u1", lines });
  await users.createUser({ shopId, userId: "u4", email: "u3@example.com", ownReferralCode: "U3" });
  await untilFlushed(shopId);
  await expectAsRebuilt(shopId, "");
});

test("a commit on top of another history is not recorded as the next one of this", async () => {
  const shopId = await createShop(main.grpc, { stock: { a: 50 } });
  const adjust = (holdfast: Holdfast, deltaCount: bigint) =>
    holdfast.grpc.inventory.adjustStock({ shopId, sku: "a", deltaCount, reason: AdjustReason.RESTOCK });
  common.set(shopId, await positionOf(here, shopId));
  await withFork([shopId], async (fork) => {
    await adjust(fork, 7n);
    await adjust(main, 100n);
  });
  await takeFork(shopId);
  // Its position is the one that this process expects next.
  const { stock } = await adjust(main, 1n);
  expect(stock?.availableCount).toBe(151n);
  expect(await discrepancies(shopId)).toEqual([]);
});

describe("a Redis that lost its tail", () => {
  /** A shop whose Redis forgets what `work` does. */
  async function lose(work: (shopId: string) => Promise<unknown>): Promise<string> {
    const shopId = await createShop(main.grpc, { stock: { a: 50, b: 50 }, users: { u1: 9000, u2: 9000 } });
    await main.grpc.inventory.putProduct({ shopId, sku: "a", maxPerUser: 9 });
    await main.grpc.orders.placeOrder({ shopId, userId: "u1", lines: [{ sku: "b", quantity: 2 }] });
    const waiting = { paymentMethod: PaymentMethod.EXTERNAL, lines: [{ sku: "b", quantity: 1 }] };
    await main.grpc.orders.placeOrder({ shopId, orderId: "older", ...waiting });
    await untilFlushed(shopId);
    const copy = await copyShop(here, shopId);
    await work(shopId);
    await untilFlushed(shopId);
    await restoreShop(here, shopId, copy);
    return shopId;
  }

  test("has addresses and codes point to whom they belong, however they went round", async () => {
    const { users } = main.grpc;
    const shopId = await lose(async (lostId) => {
      await users.updateUser({ shopId: lostId, userId: "u1", email: "free@example.com" });
      await users.updateUser({ shopId: lostId, userId: "u2", email: "u1@example.com" });
      await users.updateUser({ shopId: lostId, userId: "u1", email: "u2@example.com" });
      await users.createUser({ shopId: lostId, userId: "u3", email: "free@example.com", ownReferralCode: "U3" });
      await users.createUser({ shopId: lostId, userId: "u4", referralCode: "U3" });
    });
    expect(await expectCaughtUp(shopId)).toMatchObject({ lost: 5, divergent: 0 });
    const emails = await here.hgetall(`{${shopId}}:emails`);
    expect(emails).toEqual({ "free@example.com": "u3", "u1@example.com": "u2", "u2@example.com": "u1" });
  });

  test("answers repeats from the lost commits, and knows what they used", async () => {
    const order = { userId: "u1", orderId: "o", requestId: "r-lost", lines: [{ sku: "a", quantity: 2 }] };
    const shopId = await lose((lostId) => main.grpc.orders.placeOrder({ shopId: lostId, ...order }));
    await main.server.store.shops.get(shopId).reopen();
    expect(told(shopId).at(-1)).toMatchObject({ msg: "shop caught up with Postgres", lost: 1 });
    const again = await main.grpc.orders.placeOrder({ shopId, ...order });
    expect(again).toMatchObject({ commit: { replayed: true }, balanceMinor: 8600n });
    const other = await main.grpc.orders.placeOrder({ shopId, ...order, requestId: "r-other" });
    expect(other.commit).toMatchObject({ position: again.commit?.position ?? 0n });
    const limit = main.grpc.orders.placeOrder({ shopId, userId: "u1", lines: [{ sku: "a", quantity: 8 }] });
    await expect(limit).rejects.toThrow(/may have 9/);
  });

  test("still knows an order that was placed before, and changed by a lost commit", async () => {
    const { orders } = main.grpc;
    const shopId = await lose((lostId) => orders.confirmOrder({ shopId: lostId, orderId: "older" }));
    await main.server.store.shops.get(shopId).reopen();
    expect(told(shopId).at(-1)).toMatchObject({ msg: "shop caught up with Postgres", lost: 1 });
    const position = await positionOf(here, shopId);
    const lines = [{ sku: "b", quantity: 1 }];
    const again = orders.placeOrder({ shopId, orderId: "older", paymentMethod: PaymentMethod.EXTERNAL, lines });
    expect((await again).order).toMatchObject({ orderId: "older" });
    expect(await positionOf(here, shopId), "it made no second one").toBe(position);
    await expectAsRebuilt(shopId, "");
  });

  test.each<[string, (shopId: string) => Promise<unknown>, (shopId: string) => Promise<unknown>]>([
    [
      "whose products got their first limit",
      (shopId) => main.grpc.inventory.putProduct({ shopId, sku: "b", maxPerUser: 3 }),
      async () => {},
    ],
    [
      "of which its log let go",
      (shopId) => main.grpc.users.createUser({ shopId, userId: "u3" }),
      (shopId) => here.xtrim(`{${shopId}}:log`, "MAXLEN", 0),
    ],
    [
      "in the place of which it has an entry that nobody can read",
      (shopId) => main.grpc.users.createUser({ shopId, userId: "u3" }),
      async (shopId) => {
        const position = await here.hincrby(`{${shopId}}:meta`, "position", 1);
        await here.xadd(`{${shopId}}:log`, `${position}-0`, "v", "2", "commit", "new", ..."abcdefgh");
      },
    ],
    [
      "in the place of which it has an event that nobody knows",
      (shopId) => main.grpc.users.createUser({ shopId, userId: "u3" }),
      async (shopId) => {
        const position = await here.hincrby(`{${shopId}}:meta`, "position", 1);
        const [[, fields = []] = []] = await here.xrevrange(`{${shopId}}:log`, "+", "-", "COUNT", 1);
        const unknown = ["v", "1", "commit", "new", ...fields.slice(4, 10), "events", '[{"unknown":{}}]'];
        await here.xadd(`{${shopId}}:log`, `${position}-0`, ...unknown);
      },
    ],
    [
      "and was sealed before",
      (shopId) => main.grpc.users.createUser({ shopId, userId: "u3" }),
      (shopId) => here.hdel(`{${shopId}}:meta`, "epoch"),
    ],
  ])("is rebuilt in full after commits %s", async (_, work, spoil) => {
    const shopId = await lose(work);
    await spoil(shopId);
    await main.server.store.shops.get(shopId).reopen();
    expect(told(shopId).map(({ msg }) => msg)).toEqual(["shop rebuilt from Postgres"]);
    await expectAsRebuilt(shopId, "");
  });
});

test("what users had of a product is kept when only the load of it for a first limit was there", async () => {
  const { orders, inventory, users } = main.grpc;
  const lines = [{ sku: "a", quantity: 2 }];
  const shopId = await createShop(main.grpc, { stock: { a: 50, b: 50 }, users: { u1: 9000 } });
  const isNoted = async () => new Set(await here.hmget(`{${shopId}}:meta`, "position", "flushed")).size;
  await orders.placeOrder({ shopId, orderId: "o1", userId: "u1", lines });
  // A PutProduct with a limit began, and its server ended before it ran again.
  await loadLimits(main.server.store.shops, shopId, "a", patientCaller);
  await expect.poll(isNoted, { timeout: 10_000 }).toBe(1);
  const copy = await copyShop(here, shopId);
  await orders.fulfillOrder({ shopId, orderId: "o1" });
  await users.depositFunds({ shopId, userId: "u1", amountMinor: 1n });
  await expect.poll(isNoted, { timeout: 10_000 }).toBe(1);
  await restoreShop(here, shopId, copy);
  await inventory.getStock({ shopId, sku: "b" });
  await inventory.putProduct({ shopId, sku: "a", maxPerUser: 2 });
  expect(await here.hgetall(`{${shopId}}:limits`)).toEqual({ "u1:a": "2" });
  expect(await refusalOf(orders.placeOrder({ shopId, userId: "u1", lines }))).toMatchObject({
    reason: "PER_USER_LIMIT",
  });
  await auditShop({ ...stores.urls, shopId });
});

test("nothing of all this is a fault of ours", () => {
  expect(main.faults).toEqual([]);
});
