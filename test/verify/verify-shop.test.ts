import { Redis } from "ioredis";
import pg from "pg";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Discrepancy, Store } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { shopKeys } from "../../src/shop/keys.ts";
import { patientCaller } from "../../src/shop/waiters.ts";
import { openStore } from "../../src/store.ts";
import { verifyShop } from "../../src/verify/verify-shop.ts";
import { type Clients, runHoldfast } from "../helpers/holdfast.ts";
import { createShop, createUser, stockProduct } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";
import { type Selling, startSelling } from "./selling.ts";

const holdfast = useHoldfast();
let clients: Clients;
let redis: Redis;
let postgres: pg.Client;
let selling: Selling;
/** The shop that sells. */
let shopId: string;
/** The position of the quiet user's deposit. */
let depositedAt: bigint;

/** A key of the shop, by the name that scripts use. */
const key = (name: string) => shopKeys(shopId)[name] as string;

beforeAll(async () => {
  clients = holdfast.grpc;
  redis = new Redis(holdfast.redis.url);
  postgres = new pg.Client({ connectionString: holdfast.database.url });
  await postgres.connect();
  shopId = await createShop(clients);
  // What the load does not touch.
  await stockProduct(clients, shopId, "quiet", 10);
  const limits = { maxProjects: 6n, maxStorageMb: 7n, maxApiCalls: 8n };
  await clients.subscriptions.putTier({ shopId, tier: "quiet", priceCredits: 5n, limits });
  await createUser(clients, shopId, "silent", 0);
  const deposit = { shopId, requestId: "quiet-request", userId: "silent", amountMinor: 5000n };
  depositedAt = (await clients.users.depositFunds(deposit)).commit?.position as bigint;
  const lines = [{ sku: "quiet", quantity: 1 }];
  await clients.inventory.holdStock({ shopId, holdId: "quiet-hold", userId: "silent", lines });
  await clients.orders.placeOrder({ shopId, orderId: "quiet-order", lines, paymentMethod: PaymentMethod.NONE });
  const { EXTERNAL: paymentMethod } = PaymentMethod;
  await clients.orders.placeOrder({ shopId, orderId: "waiting-order", userId: "silent", lines, paymentMethod });
  selling = await startSelling(clients, shopId);
});

afterAll(async () => {
  await selling?.stop();
  redis?.disconnect();
  await postgres?.end();
});

/** What VerifyShop finds, and how much it looked at. */
async function verify(shop = shopId): Promise<{ found: Discrepancy[]; checkedCount: bigint }> {
  const found: Discrepancy[] = [];
  let checkedCount = 0n;
  let isDone = false;
  for await (const message of clients.admin.verifyShop({ shopId: shop })) {
    expect(isDone).toBe(false);
    expect(message.checkedCount).toBeGreaterThanOrEqual(checkedCount);
    found.push(...message.discrepancies);
    ({ checkedCount, done: isDone } = message);
  }
  expect(isDone).toBe(true);
  return { found, checkedCount };
}

/** The same as `<store> <kind> <subject>: <expected> | <found>`, sorted. */
async function verifyText(shop = shopId): Promise<string[]> {
  const { found } = await verify(shop);
  return found
    .map(({ store, kind, subject, expected, found: is }) => `${Store[store]} ${kind} ${subject}: ${expected} | ${is}`)
    .sort();
}

/** Rebuilds the shop; returns the new epoch. */
async function rebuild(): Promise<bigint> {
  const messages = [];
  for await (const message of clients.admin.rebuildShop({ shopId })) messages.push(message);
  const last = messages.at(-1);
  expect(last).toMatchObject({ done: true });
  expect(last?.loadedCount).toBe(last?.totalCount);
  expect(messages.filter(({ done }) => done)).toHaveLength(1);
  return last?.epoch as bigint;
}

/** Runs a statement about the shop ($1). */
const change = (text: string) => postgres.query(text, [shopId]);

test("a selling shop has no discrepancy, with every kind of thing in it", async () => {
  const headOf = async () => (await clients.admin.getShop({ shopId })).shop?.headPosition ?? 0n;
  await until("it has sold for a while", async () => (await headOf()) > 120n);
  const { found, checkedCount } = await verify();
  expect(found).toEqual([]);
  expect(checkedCount).toBeGreaterThan(500n);
  const head = await headOf();
  expect(await verifyText()).toEqual([]);
  // It sold meanwhile, and holds expired.
  expect(await headOf()).toBeGreaterThan(head);
  expect(await redis.hlen(key("emails"))).toBeGreaterThan(0);
  const { rows } = await change("select count(*)::int as count from holds where shop_id = $1 and state = 4");
  expect(rows[0].count).toBeGreaterThan(0);
});

test("the load makes every kind of event that a shop can have, but a renewal", async () => {
  const told = async () => {
    const { rows } = await change(
      "select distinct json_object_keys(e) as name from commits, json_array_elements(events) e where shop_id = $1",
    );
    return rows.map((row) => row.name as string);
  };
  const names = EventSchema.oneofs[0]?.fields.map((field) => field.name) ?? [];
  await expect
    .poll(told, { timeout: 30_000 })
    .toEqual(expect.arrayContaining(names.filter((name) => name !== "subscription_renewed")));
});

/** What is done to Redis, and what VerifyShop says of it. */
const inRedis: Readonly<Record<string, { corrupt: () => Promise<unknown>; named: string | RegExp }>> = {
  "a stock field": {
    corrupt: () => redis.hincrby(key("stock"), "quiet:available", 1),
    named: "REDIS STOCK_LEVEL sku:quiet: quiet:available=7 | quiet:available=8",
  },
  "a wallet": {
    corrupt: () => redis.hincrby(key("users"), "silent:balance", -1),
    named: "REDIS WALLET_BALANCE user:silent: silent:balance=5000 | silent:balance=4999",
  },
  "a wallet that is gone": {
    corrupt: () => redis.hdel(key("users"), "silent:balance"),
    named: "REDIS WALLET_BALANCE user:silent: silent:balance=5000 | silent:balance=absent",
  },
  "a hold": {
    corrupt: () => redis.hset(key("holds"), "quiet-hold:lines", "quiet 2 100"),
    named: "REDIS HOLD hold:quiet-hold: quiet-hold:lines=quiet 1 100 | quiet-hold:lines=quiet 2 100",
  },
  "a request record that is changed": {
    corrupt: () => redis.hset(key("recent_0"), "request:quiet-request", "2"),
    named: "REDIS REQUEST_RECORD request:quiet-request: <deposit> | 2",
  },
  "a request record that is gone": {
    corrupt: () => redis.hdel(key("recent_0"), "request:quiet-request"),
    named: "REDIS REQUEST_RECORD request:quiet-request: <deposit> | ",
  },
  "a stats field": {
    corrupt: () => redis.hincrby(key("stats"), "refunded", 1_000_000_000),
    named: /^REDIS STATS stats:refunded: refunded=\d{1,9} \| refunded=1\d{9}$/,
  },
};

test("a key of another type is named, beside what is wrong in others, and mended by RebuildShop", async () => {
  const quiet = await createShop(clients, { stock: { a: 5 }, users: { ann: 1000 } });
  const textOf = async () => {
    const found: string[] = [];
    for await (const { discrepancies } of clients.admin.verifyShop({ shopId: quiet })) {
      found.push(...discrepancies.map(({ kind, subject }) => `${kind} ${subject}`));
    }
    return found.sort();
  };
  const names = [
    "stock",
    "holds",
    "orders",
    "due",
    "due_skus",
    "users",
    "codes",
    "limits",
    "tiers",
    "renewals",
    "stats",
  ];
  for (const name of [...names, "emails", "recent_0"]) {
    await redis.set(`{${quiet}}:${name}`, "text");
  }
  expect(await textOf()).toEqual([...names, "emails", "recent"].map((name) => `KEY key:${name}`).sort());
  for await (const _ of clients.admin.rebuildShop({ shopId: quiet })) {
    // until it is over
  }
  expect(await textOf()).toEqual([]);
});

describe("one thing that is wrong in Redis is named, and mended by RebuildShop:", () => {
  test.each(Object.entries(inRedis))("%s", async (_, { corrupt, named }) => {
    await corrupt();
    const expected =
      typeof named === "string" ? named.replace("<deposit>", String(depositedAt)) : expect.stringMatching(named);
    // Nothing else: what was wrong in the test before is mended.
    expect(await verifyText()).toEqual([expected]);
    const { shop } = await clients.admin.getShop({ shopId });
    expect(await rebuild()).toBe((shop?.epoch ?? 0n) + 1n);
  });

  test("many at once, each by its name", async () => {
    const created = Number(await redis.hget(key("recent_0"), "order:quiet-order"));
    const dueMs = await redis.hget(key("holds"), "quiet-hold:expire");
    const code = (await redis.hget(key("users"), "silent:profile"))?.split(" ")[2] as string;
    await redis
      .multi()
      .hset(key("stock"), "quiet:price", "1", "ghost:available", "1", "quiet:sales", "2 1 0")
      .hdel(key("holds"), "quiet-hold:user")
      .hset(key("holds"), "ghost:user", "")
      .zadd(key("due"), 5e12, "ghost")
      .zrem(key("due"), "quiet-hold")
      .hset(key("orders"), "waiting-order:terms", "4 ")
      .hset(key("users"), "silent:purchases", "9 0", "silent:sub", "pro 2900 1 2  3 4", "ghost:balance", "1")
      .hdel(key("codes"), code)
      .hdel(key("emails"), "silent@example.com")
      .hset(key("limits"), "silent:limited", "3")
      .hset(key("tiers"), "quiet:terms", "1 2 3 4")
      .zadd(key("renewals"), 5e12, "silent")
      .hset(key("recent_0"), "order:quiet-order", "2", "request:ghost", "2", "hold:quiet-hold", "1 2 EXPIRED")
      .exec();
    expect(await verifyText()).toEqual(
      [
        "DUE hold:ghost:  | ghost=5000000000000",
        `DUE hold:quiet-hold: quiet-hold=${dueMs} | quiet-hold=absent`,
        "EMAIL user:silent: owner=silent | ",
        "HOLD hold:ghost:  | ghost:user=",
        "HOLD hold:quiet-hold: quiet-hold:user=silent | quiet-hold:user=absent",
        "HOLD_RECORD hold:quiet-hold:  | 1 2 EXPIRED",
        "LIMIT user:silent:  | silent:limited=3",
        "ORDER order:waiting-order: waiting-order:terms=2  | waiting-order:terms=4 ",
        `ORDER_RECORD order:quiet-order: ${created} | 2`,
        "PRODUCT sku:quiet: quiet:price=100 | quiet:price=1",
        `REFERRAL_CODE user:silent: ${code}=silent | ${code}=absent`,
        "REQUEST_RECORD request:ghost:  | 2",
        "SKU_STATS sku:quiet: quiet:sales=1 1 0 | quiet:sales=2 1 0",
        "STOCK_LEVEL sku:ghost:  | ghost:available=1",
        "SUBSCRIPTION user:silent: silent:sub=absent | silent:sub=pro 2900 1 2  3 4",
        "TIER tier:quiet: quiet:terms=5 6 7 8 | quiet:terms=1 2 3 4",
        "USER user:ghost:  | ghost:balance=1",
        "USER user:silent: silent:purchases=1 0 | silent:purchases=9 0",
      ].map((text) => `REDIS ${text}`),
    );
    await rebuild();
    expect(await verifyText()).toEqual([]);
  });
});

/** What is wrong in Postgres, and the statement that undoes it. */
const inPostgres: Readonly<Record<string, { corrupt: string; undo: string; named: readonly string[] }>> = {
  "a level": {
    corrupt: "update stock set sold_count = sold_count + 1 where shop_id = $1 and sku = 'quiet'",
    undo: "update stock set sold_count = sold_count - 1 where shop_id = $1 and sku = 'quiet'",
    named: ["STOCK_LEVEL sku:quiet: sold_count=1 | sold_count=2"],
  },
  "a row of the ledger": {
    corrupt: "update ledger_entries set delta = 5001 where shop_id = $1 and position = <deposit> and index = 0",
    undo: "update ledger_entries set delta = 5000 where shop_id = $1 and position = <deposit> and index = 0",
    named: ["LEDGER_ENTRY entry:<deposit>.0: delta=5000 | delta=5001"],
  },
  "a row of the ledger that nothing made": {
    corrupt: `insert into ledger_entries (shop_id, position, index, account, kind, delta, cause, order_id, reference)
      values ($1, <deposit>, 2, 'revenue', 1, 9, 'GRANT', '', '')`,
    undo: "delete from ledger_entries where shop_id = $1 and position = <deposit> and index = 2",
    named: [
      "LEDGER_ENTRY entry:<deposit>.2:  | position=<deposit> index=2 account=revenue kind=1 delta=9 balance_after=null cause=GRANT order_id= reference= reason=",
    ],
  },
  "an order": {
    corrupt: "update orders set state = 3, cancel_reason = 'x' where shop_id = $1 and order_id = 'quiet-order'",
    undo: "update orders set state = 2, cancel_reason = '' where shop_id = $1 and order_id = 'quiet-order'",
    named: ["ORDER order:quiet-order: state=2 cancel_reason= | state=3 cancel_reason=x"],
  },
  "a hold, a user, a tier, a product and the shop's counters": {
    corrupt: `with a as (update holds set order_id = 'x' where shop_id = $1 and hold_id = 'quiet-hold'),
      b as (update users set credits = 7, referral_count = 7 where shop_id = $1 and user_id = 'silent'),
      c as (update tiers set max_projects = 7 where shop_id = $1 and tier = 'quiet'),
      d as (update products set title = 'x' where shop_id = $1 and sku = 'quiet')
      update shops set product_count = 7, downgrade_credits = 7 where shop_id = $1`,
    undo: `with a as (update holds set order_id = '' where shop_id = $1 and hold_id = 'quiet-hold'),
      b as (update users set credits = 100, referral_count = 0 where shop_id = $1 and user_id = 'silent'),
      c as (update tiers set max_projects = 6 where shop_id = $1 and tier = 'quiet'),
      d as (update products set title = 'Title of quiet' where shop_id = $1 and sku = 'quiet')
      update shops set product_count = 3, downgrade_credits = 0 where shop_id = $1`,
    named: [
      "HOLD hold:quiet-hold: order_id= | order_id=x",
      "PRODUCT sku:quiet: title=Title of quiet | title=x",
      "SHOP shop:<shop>: product_count=3 | product_count=7",
      "STATS shop:<shop>: downgrade_credits=0 | downgrade_credits=7",
      "TIER tier:quiet: max_projects=6 | max_projects=7",
      "USER user:silent: referral_count=0 | referral_count=7",
      "WALLET_BALANCE user:silent: credits=100 | credits=7",
    ],
  },
  "a row that is missing, and one too many": {
    corrupt: `with gone as (delete from tiers where shop_id = $1 and tier = 'quiet')
      insert into stock (shop_id, sku, available_count, held_count, sold_count) values ($1, 'ghost', 1, 0, 0)`,
    undo: `with back as (insert into tiers values ($1, 'quiet', 5, 6, 7, 8, 4))
      delete from stock where shop_id = $1 and sku = 'ghost'`,
    named: [
      "SKU_STATS sku:ghost:  | order_count=0 unit_count=0 revenue_minor=0",
      "STOCK_LEVEL sku:ghost:  | available_count=1 held_count=0 sold_count=0",
      "TIER tier:quiet: price_credits=5 max_projects=6 max_storage_mb=7 max_api_calls=8 position=4 | ",
    ],
  },
  "an event": {
    corrupt: `update commits set events = replace(events::text, '"amount_minor":5000', '"amount_minor":4999')::json
      where shop_id = $1 and position = <deposit>`,
    undo: `update commits set events = replace(events::text, '"amount_minor":4999', '"amount_minor":5000')::json
      where shop_id = $1 and position = <deposit>`,
    named: [
      "EVENT user:silent: balance=4999 | balance=5000",
      "LEDGER_ENTRY entry:<deposit>.0: delta=4999 | delta=5000",
      "LEDGER_ENTRY entry:<deposit>.1: delta=-4999 | delta=-5000",
    ],
  },
  "a request id that is used twice": {
    corrupt: "update commits set request_id = 'quiet-request' where shop_id = $1 and position = 2",
    undo: "update commits set request_id = call->>'request_id' where shop_id = $1 and position = 2",
    named: ["LOG request:quiet-request: position=2 | position=<deposit>"],
  },
};

describe("what is wrong in Postgres is named:", () => {
  test.each(Object.entries(inPostgres))("%s", async (_, { corrupt, undo, named }) => {
    const fill = (text: string) => text.replaceAll("<deposit>", String(depositedAt)).replaceAll("<shop>", shopId);
    await change(fill(corrupt));
    const told = await verifyText().finally(() => change(fill(undo)));
    expect(told.filter((text) => text.startsWith("POSTGRES"))).toEqual(named.map((text) => `POSTGRES ${fill(text)}`));
    // What Redis keeps of the log is compared with the rows of `commits`.
    const ofLog = told.filter((text) => text.startsWith("REDIS"));
    expect(ofLog.length > 0, ofLog.join("\n")).toBe(corrupt.includes("update commits"));
  });
});

test("an entry that the log in Redis lost is named", async () => {
  // Also: what was wrong in Postgres is mended again.
  expect(await redis.xdel(key("log"), `${depositedAt}-0`)).toBe(1);
  expect(await verifyText()).toEqual([`REDIS LOG_ENTRY commit:${depositedAt}: position=${depositedAt} | `]);
});

test("what was sold on from a wrong level is named by the commit where it began, once", async () => {
  const own = await createShop(clients, { stock: { a: 10 } });
  const lines = [{ sku: "a", quantity: 1 }];
  const sell = () => clients.orders.placeOrder({ shopId: own, lines, paymentMethod: PaymentMethod.NONE });
  await sell();
  await redis.hincrby(`{${own}}:stock`, "a:available", 5);
  expect(await verifyText(own)).toEqual(["REDIS STOCK_LEVEL sku:a: a:available=9 | a:available=14"]);
  const { commit } = await sell();
  await sell();
  const { found } = await verify(own);
  expect(found).toMatchObject([
    { kind: "EVENT", subject: "sku:a", position: commit?.position, expected: "available=8", found: "available=13" },
  ]);
});

test("a shop that is rebuilt in the middle is looked at from the start", async () => {
  const own = await createShop(clients, { stock: { a: 10 }, users: { ann: 1 } });
  const { redisUrl, databaseUrl } = holdfast.urls;
  const store = await openStore({
    redisUrl,
    databaseUrl,
    durability: "postgres",
    migratesOnStart: false,
    postgresPoolCount: 4,
    requestMemoryCount: 1000,
    requestRetentionMs: 86_400_000,
    limits: { maxInFlight: 1000, maxWaiting: 1000, maxBacklogCommits: 8000 },
    logger: pino({ level: "silent" }),
  });
  try {
    const { db, scripts, requestRetentionMs } = store.shops;
    const shop = store.shops.get(own);
    const keys: unknown[] = [];
    // The stock was compared when somebody rebuilds the shop, from a table that was changed by hand meanwhile.
    const read: typeof shop.read = async (script, args, ...rest) => {
      keys.push(args[0]);
      if (args[0] === "tiers" && keys.filter((name) => name === "tiers").length === 1) {
        await postgres.query("update stock set held_count = 1 where shop_id = $1", [own]);
        await shop.rebuild(() => {});
      }
      return shop.read(script, args, ...rest);
    };
    const options = { shop: { id: own, read }, db, scripts, requestRetentionMs, caller: patientCaller };
    const found = [];
    for await (const { discrepancies } of verifyShop(options)) found.push(...discrepancies);
    expect(found).toMatchObject([{ store: "REDIS", kind: "STOCK_LEVEL", expected: "a:held=0", found: "a:held=1" }]);
    expect(keys.filter((name, index) => name === "stock" && keys[index - 1] !== "stock")).toHaveLength(2);
  } finally {
    await store.close();
  }
});

test("a verification ends with its caller", async () => {
  const abort = new AbortController();
  const messages = clients.admin.verifyShop({ shopId }, { signal: abort.signal });
  abort.abort();
  await expect(async () => {
    for await (const _ of messages);
  }).rejects.toThrow(/aborted|cancel/);
  expect(holdfast.faults).toEqual([]);
});

describe("holdfast verify", () => {
  const run = (...args: string[]) =>
    runHoldfast(["verify", "--target", holdfast.grpcAddress, ...args], {
      redisUrl: holdfast.redis.url,
      databaseUrl: holdfast.database.url,
    });

  test("prints what is wrong, one per line, and exits with 1; with 0 when nothing is", async () => {
    const own = await createShop(clients, { stock: { a: 10 }, users: { ann: 100 } });
    expect(await run("--shop", own)).toMatchObject({
      code: 0,
      stdout: "",
      stderr: expect.stringMatching(/0 discrepancies/),
    });
    await redis.hset(`{${own}}:stock`, "a:available", "11");
    expect((await run("--shop", own)).stderr).toMatch(/, 1 discrepancy\n$/);
    await redis.hset(`{${own}}:users`, "ann:balance", "0");
    const { code, stdout } = await run("--shop", own);
    expect(code).toBe(1);
    expect(stdout.replace(/position \d+/g, "position N").split("\n")).toEqual([
      'STOCK_LEVEL sku:a REDIS position N: expected "a:available=10", found "a:available=11"',
      'WALLET_BALANCE user:ann REDIS position N: expected "ann:balance=100", found "ann:balance=0"',
      "",
    ]);
  });

  test("says in one line that there is no such shop", async () => {
    const { code, stderr } = await run("--shop", "nowhere");
    expect(code).toBe(2);
    expect(stderr).toMatch(/^holdfast: .*nowhere.*\n$/);
  });
});
