import { Redis } from "ioredis";
import type { Client } from "pg";
import { startChild } from "./child.ts";
import type { Contestant } from "./contestant.ts";
import type { RivalServerRequest } from "./rival-server.ts";
import { createTables } from "./rivals/create-tables.ts";
import { countLuaStock, fillLuaStock, setLuaStock } from "./rivals/lua-only.ts";
import { countWatchedStock, fillWatchedStock, setWatchedStock } from "./rivals/redis-watch.ts";
import type { RivalName } from "./rivals/rivals.ts";
import { lastSku } from "./sale.ts";
import { levelRecords, type StockRecords, unitRecords } from "./stock-records.ts";
import type { BenchStores, RedisStore } from "./stores.ts";

/** What a rival is started with. */
export interface RivalStart {
  readonly stores: BenchStores;
  /** The Redis of all rivals. */
  readonly redis: RedisStore;
  /** A connection to the database of all rivals. */
  readonly database: Client;
  /** The answer to every call. */
  readonly response: Uint8Array;
  readonly cleanUp: AsyncDisposableStack;
}

/** Fills a rival's shop and starts its server. */
export async function startRival(
  name: RivalName,
  { stores, redis, database, response, cleanUp }: RivalStart,
): Promise<Contestant> {
  const schema = name.replaceAll("-", "_");
  const { topUp, ...records } = await openShop(name, schema, redis, database, cleanUp);
  const child = startChild("./rival-server.ts", cleanUp);
  const ask = <Answer>(request: RivalServerRequest) => child.ask<Answer>(request);
  const port = await ask<number>({ kind: "serve", rival: name, response });
  const { databaseUrl } = stores;
  return {
    name,
    port,
    pid: child.pid,
    redisPid: redis.pid,
    enter: async (workload, poolSize) => {
      await topUp(workload);
      await ask({ kind: "open", databaseUrl, schema, redisUrl: redis.url, poolSize });
    },
    settle: () => ask({ kind: "settle" }),
    leave: () => ask({ kind: "close" }),
    ...records,
  };
}

async function openShop(
  name: RivalName,
  schema: string,
  { url }: RedisStore,
  database: Client,
  cleanUp: AsyncDisposableStack,
): Promise<StockRecords> {
  if (name === "lua-only" || name === "redis-watch") {
    const redis = new Redis(url);
    cleanUp.defer(() => redis.disconnect());
    return name === "lua-only" ? openLuaShop(redis) : openWatchedShop(redis);
  }
  const hasPromises = name === "row-lock-promises" || name === "one-statement-promises";
  await createTables(database, schema, { hasWallets: hasPromises });
  const hasUnits = name === "unit-rows" || name === "unit-rows-statement";
  return hasUnits ? unitRecords(database, schema) : levelRecords(database, schema, { hasPromises });
}

async function openLuaShop(redis: Redis): Promise<StockRecords> {
  await fillLuaStock(redis);
  return {
    topUp: async () => {},
    supply: (count) => setLuaStock(redis, lastSku, count),
    countSold: async () => (await countLuaStock(redis)).units,
    audit: async () => booksOf(await countLuaStock(redis)),
  };
}

async function openWatchedShop(redis: Redis): Promise<StockRecords> {
  await fillWatchedStock(redis);
  return {
    topUp: async () => {},
    supply: (count) => setWatchedStock(redis, lastSku, count),
    countSold: async () => (await countWatchedStock(redis)).units,
    audit: async () => booksOf(await countWatchedStock(redis)),
  };
}

function booksOf({ units, orders }: { readonly units: number; readonly orders: number }) {
  return { units: { stock: units }, orders: { orders }, money: {}, wrongSkuCount: 0 };
}
