import { rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { Redis } from "ioredis";
import { Client } from "pg";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HoldState } from "../../gen/holdfast/v1/resources_pb.js";
import { loadConfig } from "../../src/config.ts";
import { lockDataFolder } from "../../src/dev/lock-data-folder.ts";
import { openStore } from "../../src/store.ts";
import { runHoldfast, spawnHoldfast, startHoldfast } from "../helpers/holdfast.ts";
import { startProxy } from "../helpers/proxy.ts";
import { refusalOf } from "../helpers/refusals.ts";
import {
  administrate,
  createDatabase,
  createTemporaryFolder,
  startRedis,
  type TestDatabase,
} from "../helpers/servers.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";
import { readAll } from "../server/clients.ts";

const stores = useStores();
const databases: TestDatabase[] = [];

afterAll(async () => {
  await Promise.all(databases.map((database) => database.drop()));
});

async function freshDatabase(content: "schema" | "nothing"): Promise<TestDatabase> {
  const database = await createDatabase(content);
  databases.push(database);
  return database;
}

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  return client
    .query(text)
    .then(({ rows }) => rows)
    .finally(() => client.end());
}

describe("migrations", () => {
  const readSchema = (url: string) =>
    query(
      url,
      "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public' order by 1, 2",
    );

  test("run from several processes at once, and once more, make one schema", async () => {
    const database = await freshDatabase("nothing");
    const urls = { ...stores.urls, databaseUrl: database.url };
    const [one, two] = await Promise.all([runHoldfast(["migrate"], urls), runHoldfast(["migrate"], urls)]);
    expect([one, two]).toMatchObject([
      { code: 0, stderr: "" },
      { code: 0, stderr: "" },
    ]);
    const schema = await readSchema(database.url);
    expect(schema).toEqual(await readSchema(stores.database.url));
    const secret = await query(database.url, "select * from secrets");
    expect(await runHoldfast(["migrate"], urls)).toMatchObject({ code: 0, stderr: "" });
    expect(await readSchema(database.url)).toEqual(schema);
    expect(await query(database.url, "select * from secrets")).toEqual(secret);
  });

  test("run at the start of servers that start together", async () => {
    const database = await freshDatabase("nothing");
    const redis = await startRedis();
    const urls = { redisUrl: redis.url, databaseUrl: database.url };
    const [one, two] = await Promise.all([spawnHoldfast(urls), spawnHoldfast(urls)]);
    await one.grpc.inventory.putProduct({ sku: "a", priceMinor: 1n });
    const { product } = await two.grpc.inventory.getProduct({ sku: "a" });
    expect(product?.sku).toBe("a");
    expect(await query(database.url, "select position::int from commits where shop_id = 'default' order by 1")).toEqual(
      [{ position: 1 }, { position: 2 }],
    );
    await Promise.all([one.kill(), two.kill()]);
    await redis.stop();
  });
});

describe("what cannot work is one line on stderr and exit code 1:", () => {
  let occupied: Server;
  let occupiedAddress = "";
  const redises: { stop(): Promise<void> }[] = [];
  const folders: string[] = [];

  beforeAll(async () => {
    occupied = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => occupied.once("listening", resolve));
    occupiedAddress = `127.0.0.1:${(occupied.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    occupied?.close();
    await Promise.all(redises.map((redis) => redis.stop()));
    await Promise.all(folders.map((folder) => rm(folder, { recursive: true })));
  });

  /** A port that nobody listens on: taken, and given back. */
  async function closedPort(): Promise<number> {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }

  const newer = async (): Promise<{ databaseUrl: string }> => {
    const { url } = await freshDatabase("schema");
    await query(url, "insert into kysely_migration (name, timestamp) values ('9999-later', now())");
    return { databaseUrl: url };
  };

  /** Stores that nobody could reach: what is found out with them is found out before they are asked. */
  const nowhere = async () => {
    const address = `127.0.0.1:${await closedPort()}`;
    return { redisUrl: `redis://${address}`, databaseUrl: `postgres://a:b@${address}/c` };
  };
  const seedFile = async (product: unknown): Promise<string> => {
    const folder = await createTemporaryFolder();
    folders.push(folder);
    const file = join(folder, "seed.json");
    await writeFile(file, JSON.stringify({ products: [product] }));
    return file;
  };

  /** A data folder of which this process has the servers; empty addresses mean the private ones. */
  const lockedFolder = async () => {
    const dataDir = await createTemporaryFolder();
    folders.push(dataDir);
    await Promise.all(["redis", "postgres"].map((name) => lockDataFolder(dataDir, name)));
    return { redisUrl: "", databaseUrl: "", settings: { HOLDFAST_DATA_DIR: dataDir } };
  };

  const cases: readonly {
    name: string;
    command?: string;
    prepare: () => Promise<{
      args?: readonly string[];
      redisUrl?: string;
      databaseUrl?: string;
      settings?: Record<string, string>;
    }>;
    says: RegExp;
  }[] = [
    {
      name: "the gRPC door's port is in use",
      prepare: async () => ({ settings: { HOLDFAST_GRPC_ADDR: occupiedAddress } }),
      says: /gRPC door.*in use.*HOLDFAST_GRPC_ADDR/,
    },
    {
      name: "the HTTP door's port is in use",
      prepare: async () => ({ settings: { HOLDFAST_HTTP_ADDR: occupiedAddress } }),
      says: /HTTP door.*in use.*HOLDFAST_HTTP_ADDR/,
    },
    {
      name: "several processes find a port in use",
      prepare: async () => ({ settings: { HOLDFAST_GRPC_ADDR: occupiedAddress, HOLDFAST_PROCESSES: "3" } }),
      says: /gRPC door.*in use.*HOLDFAST_GRPC_ADDR/,
    },
    {
      name: "processes want too many connections",
      prepare: async () => ({ settings: { HOLDFAST_PROCESSES: "64" } }),
      says: /may open 512 connections, and PostgreSQL takes 197: .*max_connections.*HOLDFAST_PROCESSES/,
    },
    {
      name: "there are to be no processes",
      prepare: async () => ({ args: ["--processes", "0"] }),
      says: /--processes is "0", accepted is a whole number from 1 to 64/,
    },
    {
      name: "Redis cannot be reached",
      prepare: async () => ({ redisUrl: `redis://127.0.0.1:${await closedPort()}` }),
      says: /Redis.*ECONNREFUSED.*REDIS_URL/,
    },
    {
      name: "Redis wants a password",
      prepare: async () => ({ redisUrl: stores.redis.url.replace(/:[^:@]*@/, ":wrong@") }),
      says: /Redis.*(WRONGPASS|password).*REDIS_URL/,
    },
    {
      name: "Postgres cannot be reached",
      prepare: async () => ({ databaseUrl: `postgres://a:b@127.0.0.1:${await closedPort()}/c` }),
      says: /PostgreSQL.*ECONNREFUSED.*DATABASE_URL/,
    },
    { name: "the schema is newer, at serve", prepare: newer, says: /9999-later.*newer version/ },
    { name: "the schema is newer, at migrate", command: "migrate", prepare: newer, says: /9999-later.*newer version/ },
    {
      name: "the schema is not there, and may not be made",
      prepare: async () => ({
        databaseUrl: (await freshDatabase("nothing")).url,
        settings: { HOLDFAST_MIGRATE_ON_START: "0" },
      }),
      says: /lacks the migration 0001-first.*holdfast migrate/,
    },
    {
      name: "Postgres commits asynchronously",
      prepare: async () => {
        const { name, url } = await freshDatabase("schema");
        await administrate(`alter database ${name} set synchronous_commit = off`);
        return { databaseUrl: url };
      },
      says: /synchronous_commit = off.*HOLDFAST_DURABILITY=redis/,
    },
    {
      name: "Redis may evict",
      prepare: async () => {
        const redis = await startRedis();
        const client = new Redis(redis.url);
        await client.config("SET", "maxmemory-policy", "allkeys-lru");
        client.disconnect();
        redises.push(redis);
        return { redisUrl: redis.url };
      },
      says: /maxmemory-policy allkeys-lru.*noeviction/,
    },
    {
      name: "a setting is wrong",
      prepare: async () => ({ settings: { HOLDFAST_DURABILITY: "maybe" } }),
      says: /HOLDFAST_DURABILITY is "maybe".*postgres or redis/,
    },
    {
      name: "REDIS_URL names several servers that nobody is at",
      prepare: async () => ({ redisUrl: "redis://127.0.0.1:1,redis://127.0.0.1:2" }),
      says: /Redis Cluster cannot be reached: .*ECONNREFUSED.*REDIS_URL/,
    },
    {
      name: "REDIS_URL names several servers that are no cluster",
      prepare: async () => ({ redisUrl: `${stores.redis.url},${stores.redis.url}` }),
      says: /REDIS_URL names several servers, and 127\.0\.0\.1:\d+ is no node of a Redis Cluster/,
    },
    {
      name: "a seed file has a key that is none, at seed",
      command: "seed",
      prepare: async () => ({ ...(await nowhere()), args: [await seedFile({ sku: "a", price: 5 })] }),
      says: /products\[0\]: "price" is not a key; did you mean price_minor\?/,
    },
    {
      name: "a seed file has a key that is none, at serve",
      prepare: async () => ({
        ...(await nowhere()),
        settings: { HOLDFAST_SEED_FILE: await seedFile({ sku: "a", priceMinor: 5 }) },
      }),
      says: /products\[0\]: "priceMinor" is not a key; did you mean price_minor\?/,
    },
    {
      name: "a seed file has a product that is none",
      command: "seed",
      prepare: async () => ({ ...(await nowhere()), args: [await seedFile(null)] }),
      says: /products\[0\]: a product is an object with sku, title, price_minor, quantity, shop_id/,
    },
    {
      name: "a seed file has a title with half a character, which PostgreSQL would not record",
      command: "seed",
      prepare: async () => ({ args: [await seedFile({ sku: "a", title: "\ud800", price_minor: 5 })] }),
      says: /products\[0\]: .*title at most 256 characters/,
    },
    {
      name: "there are two seed files",
      command: "seed",
      prepare: async () => ({ args: [await seedFile({ sku: "a", price_minor: 5 }), "more.json"] }),
      says: /seed needs one file: holdfast seed FILE/,
    },
    {
      name: "an option does not exist, at migrate",
      command: "migrate",
      prepare: async () => ({ args: ["--dry-run"] }),
      says: /Unknown option '--dry-run'/,
    },
    {
      name: "a server runs on the private stores, at seed",
      command: "seed",
      prepare: async () => ({ ...(await lockedFolder()), args: [await seedFile({ sku: "a", price_minor: 5 })] }),
      says: /data folder .+ in use by another Holdfast \(process \d+\), whose stores are meant: .*HOLDFAST_SEED_FILE=\/.+seed\.json, or stop it/,
    },
    {
      name: "a server runs on the private stores, at migrate",
      command: "migrate",
      prepare: () => lockedFolder(),
      says: /data folder .+ in use by another Holdfast \(process \d+\), whose stores are meant: stop it/,
    },
    {
      name: "nobody answers where the settings say, at verify",
      command: "verify",
      prepare: async () => ({ settings: { HOLDFAST_GRPC_ADDR: `127.0.0.1:${await closedPort()}` } }),
      says: /no Holdfast answers gRPC on 127\.0\.0\.1:\d+ \(ECONNREFUSED\): start one, or name another with --target/,
    },
    {
      name: "nobody answers at a target that is a URL, at watch",
      command: "watch",
      prepare: async () => ({ args: ["--target", `http://127.0.0.1:${await closedPort()}`] }),
      says: /no Holdfast answers gRPC on 127\.0\.0\.1:\d+ \(ECONNREFUSED\): .*--target/,
    },
    {
      name: "a setting is wrong, at verify",
      command: "verify",
      prepare: async () => ({ settings: { HOLDFAST_DURABILITY: "maybe" } }),
      says: /HOLDFAST_DURABILITY is "maybe".*postgres or redis/,
    },
    {
      name: "an option does not exist, at verify",
      command: "verify",
      prepare: async () => ({ args: ["--targt", "127.0.0.1:50051"] }),
      says: /Unknown option '--targt'/,
    },
    {
      name: "a target is no address, at verify",
      command: "verify",
      prepare: async () => ({ args: ["--target", "https://shop.example:443"] }),
      says: /--target is "https:\/\/shop\.example:443", accepted is host:port/,
    },
  ];
  test.concurrent.each(cases)(
    "$name",
    async ({ command = "serve", prepare, says }) => {
      const { args = [], ...prepared } = await prepare();
      const { code, stderr } = await runHoldfast([command, ...args], { ...stores.urls, ...prepared });
      expect(stderr).toMatch(says);
      expect(stderr).toMatch(/^holdfast: [^\n]+\n$/);
      // 1 of verify would say that a shop is wrong.
      expect(code).toBe(command === "verify" ? 2 : 1);
    },
    90_000,
  );

  test.each(["verfy", "toString"])(
    "the command %s, which does not exist, is named before the usage",
    async (command) => {
      const { code, stderr } = await runHoldfast([command], stores.urls);
      expect(stderr).toMatch(new RegExp(`^holdfast: unknown command "${command}"\\n\\nusage: holdfast <command>\\n`));
      expect(code).toBe(1);
    },
  );

  test.each([["help"], ["--help"], ["verify", "--help"]])(
    "holdfast %s %s tells the usage and does nothing",
    async (...args) => {
      const { code, stderr } = await runHoldfast(args, stores.urls);
      expect(stderr).toMatch(/^usage: holdfast <command>\n/);
      expect(code).toBe(0);
    },
  );

  test("a Redis before 7.0 and a replica are refused too", async () => {
    const config = loadConfig({});
    const logger = pino({ level: "silent" });
    const open = (redisUrl: string) => openStore({ ...config, redisUrl, databaseUrl: stores.database.url, logger });
    const old = await startProxy(stores.redis.url);
    old.replaceInAnswers("redis_version:7.", "redis_version:6.");
    await expect(open(old.url)).rejects.toThrow(/Redis is version 6\.\d+: use Redis 7\.0 or newer/);
    old.replaceInAnswers("role:master", "role:slave ");
    await expect(open(old.url)).rejects.toThrow(/Redis is a replica.*REDIS_URL/);
    await old.stop();
  });

  test("asynchronous commits are accepted where Redis acknowledges", async () => {
    const { name, url } = await freshDatabase("schema");
    await administrate(`alter database ${name} set synchronous_commit = off`);
    const options = { redisUrl: stores.redis.url, databaseUrl: url, logger: pino({ level: "silent" }) };
    const store = await openStore({ ...loadConfig({ HOLDFAST_DURABILITY: "redis" }), ...options });
    await store.close();
  });
});

test.each([
  ["an address that other machines reach is warned of, once", "0.0.0.0:0", 1],
  ["loopback is not warned of", "127.0.0.1:0", 0],
])("to ask nobody on %s", async (_name, address, count) => {
  const settings = { HOLDFAST_INSECURE: "1", HOLDFAST_HTTP_ADDR: address };
  const open = await startHoldfast({ ...stores.urls, settings });
  const warnings = open.logged.map((line) => JSON.parse(line)).filter(({ msg }) => /HOLDFAST_INSECURE=1/.test(msg));
  await open.stop();

  expect(warnings).toMatchObject(Array(count).fill({ level: 40, addresses: [address] }));
});

test("a server that starts while Redis is full takes the calls that free memory, and ends what is due", async () => {
  const [redis, database] = await Promise.all([startRedis(), freshDatabase("schema")]);
  const urls = { redisUrl: redis.url, databaseUrl: database.url };
  const client = new Redis(redis.url);
  const first = await startHoldfast(urls);
  const shopId = await createShop(first.grpc, { stock: { a: 9 } });
  const hold = (holdId: string, duration: bigint) =>
    first.grpc.inventory.holdStock({
      shopId,
      holdId,
      lines: [{ sku: "a", quantity: 1 }],
      holdDuration: { seconds: duration },
    });
  await hold("kept", 600n);
  await hold("over", 2n);
  await first.stop();
  await client.config("SET", "maxmemory", "1");
  const second = await startHoldfast(urls);
  try {
    const released = await second.grpc.inventory.releaseHold({ shopId, holdId: "kept" });
    expect(released.hold?.state).toBe(HoldState.RELEASED);
    await expect.poll(() => client.zcard(`{${shopId}}:due`), { timeout: 10_000 }).toBe(0);
  } finally {
    client.disconnect();
    await second.stop();
    await redis.stop();
  }
}, 30_000);

test("a rebuild that is asked for while Redis is full is refused, and leaves the shop at work", async () => {
  const [redis, database] = await Promise.all([startRedis(), freshDatabase("schema")]);
  const client = new Redis(redis.url);
  const { grpc, stop } = await startHoldfast({ redisUrl: redis.url, databaseUrl: database.url });
  try {
    const shopId = await createShop(grpc, { stock: { a: 9 } });
    await grpc.inventory.holdStock({ shopId, holdId: "kept", lines: [{ sku: "a", quantity: 1 }] });
    await client.config("SET", "maxmemory", "1");
    expect(await refusalOf(readAll(grpc.admin.rebuildShop({ shopId })))).toMatchObject({
      reason: "SHOP_UNAVAILABLE",
      metadata: { store_error: "OOM" },
    });
    const released = await grpc.inventory.releaseHold({ shopId, holdId: "kept" });
    expect(released.stocks).toMatchObject([{ availableCount: 9n }]);
    await client.config("SET", "maxmemory", "0");
    expect((await readAll(grpc.admin.rebuildShop({ shopId }))).at(-1)).toMatchObject({ done: true });
  } finally {
    client.disconnect();
    await stop();
    await redis.stop();
  }
}, 30_000);

test("callers and the log are told that Redis is full, and not that it is away", async () => {
  const [redis, database] = await Promise.all([startRedis(), freshDatabase("schema")]);
  const client = new Redis(redis.url);
  const { grpc, stop, logged } = await startHoldfast({ redisUrl: redis.url, databaseUrl: database.url });
  try {
    const shopId = await createShop(grpc, { stock: { a: 9 } });
    await client.config("SET", "maxmemory", "1");
    const held = grpc.inventory.holdStock({ shopId, lines: [{ sku: "a", quantity: 1 }] });
    expect(await refusalOf(held)).toMatchObject({
      reason: "SHOP_UNAVAILABLE",
      message: "Redis refuses it with OOM; nothing was changed",
      metadata: { store_error: "OOM" },
    });
    expect(logged.map((line) => JSON.parse(line))).toContainEqual(
      expect.objectContaining({ shop: shopId, reason: "SHOP_UNAVAILABLE", store_error: "OOM" }),
    );
  } finally {
    client.disconnect();
    await stop();
    await redis.stop();
  }
}, 30_000);
