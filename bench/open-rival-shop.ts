import { Redis } from "ioredis";
import type { Client } from "pg";
import type { Books } from "./contestant.ts";
import { createTables } from "./rivals/create-tables.ts";
import { countLuaStock, fillLuaStock, setLuaStock } from "./rivals/lua-only.ts";
import { countWatchedStock, fillWatchedStock, setWatchedStock } from "./rivals/redis-watch.ts";
import type { RivalName } from "./rivals/rivals.ts";
import { lastSku } from "./sale.ts";
import { levelRecords, type StockRecords, unitRecords } from "./stock-records.ts";

/** The schema with a rival's own tables. */
export function schemaOf(name: RivalName): string {
  return name.replaceAll("-", "_");
}

/** Fills a rival's shop, wherever it keeps it; the records look at it on the connections that are given. */
export async function openRivalShop(
  name: RivalName,
  redisUrl: string,
  database: Client,
  cleanUp: AsyncDisposableStack,
): Promise<StockRecords> {
  if (name === "lua-only" || name === "redis-watch") {
    const redis = new Redis(redisUrl);
    cleanUp.defer(() => redis.disconnect());
    return name === "lua-only" ? openLuaShop(redis) : openWatchedShop(redis);
  }
  const hasPromises = name === "row-lock-promises" || name === "one-statement-promises";
  const schema = schemaOf(name);
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

function booksOf({ units, orders }: { readonly units: number; readonly orders: number }): Books {
  return { units: { stock: units }, orders: { orders }, money: {}, wrongSkuCount: 0 };
}
