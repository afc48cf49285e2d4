import { Redis } from "ioredis";
import { allSkus, firstStockOf, priceMinor } from "../sale.ts";
import type { CreateRival, Outcome, Purchase } from "./rival.ts";

const retryCount = 3;
const ordersKey = "watch:orders";

/** Where the stock of a SKU is: a hash with `available`, `sold` and `price`. */
function watchedStockKey(sku: string): string {
  return `watch:stock:${sku}`;
}

/**
 * Optimistic in Redis: WATCH, read, then MULTI and EXEC, which does nothing when somebody else has written since; with
 * three retries. Two round trips. WATCH belongs to a connection, so every call needs one for itself.
 */
export const createRedisWatch: CreateRival = async ({ redisUrl, poolSize }) => {
  const connections = Array.from({ length: poolSize }, () => new Redis(redisUrl));
  await Promise.all(connections.map((each) => each.ping()));
  const idle = [...connections];
  const waiting: ((connection: Redis) => void)[] = [];
  const giveBack = (connection: Redis): void => {
    const next = waiting.shift();
    if (next === undefined) {
      idle.push(connection);
    } else {
      next(connection);
    }
  };
  return {
    buy: async (purchase) => {
      const connection = idle.pop() ?? (await new Promise<Redis>((resolve) => waiting.push(resolve)));
      try {
        return await buy(connection, purchase);
      } finally {
        giveBack(connection);
      }
    },
    close: async () => {
      await Promise.all(connections.map((each) => each.quit()));
    },
  };
};

async function buy(redis: Redis, purchase: Purchase): Promise<Outcome> {
  for (let attempt = 0; attempt <= retryCount; attempt += 1) {
    const outcome = await tryToBuy(redis, purchase);
    if (outcome !== undefined) {
      return outcome;
    }
  }
  return "busy";
}

/** Undefined when somebody else was faster. */
async function tryToBuy(redis: Redis, { orderId, skus, quantities }: Purchase): Promise<Outcome | undefined> {
  const keys = skus.map(watchedStockKey);
  const look = redis.pipeline().watch(...keys);
  for (const key of keys) {
    look.hmget(key, "available", "price");
  }
  const [, ...levels] = (await look.exec()) as [unknown, ...[Error | null, [string | null, string | null]][]];
  const isEnough = levels.every(([, [available]], index) => Number(available) >= (quantities[index] as number));
  if (!isEnough) {
    await redis.unwatch();
    return "refused";
  }
  const commit = redis.multi();
  for (const [index, key] of keys.entries()) {
    const quantity = quantities[index] as number;
    commit.hincrby(key, "available", -quantity).hincrby(key, "sold", quantity);
  }
  const lines = skus.flatMap((sku, index) => [sku, quantities[index] as number, levels[index]?.[1][1] ?? ""]);
  commit.xadd(ordersKey, "*", "order", orderId, "lines", lines.join(" "));
  return (await commit.exec()) === null ? undefined : "done";
}

/** Fills the shop. */
export async function fillWatchedStock(redis: Redis): Promise<void> {
  const pipeline = redis.pipeline();
  for (const sku of allSkus) {
    pipeline.hset(watchedStockKey(sku), "available", firstStockOf(sku), "sold", 0, "price", priceMinor);
  }
  await pipeline.exec();
}

/** Makes so many units of a SKU available. */
export async function setWatchedStock(redis: Redis, sku: string, count: number): Promise<void> {
  await redis.hset(watchedStockKey(sku), "available", count);
}

/** Units sold according to the stock, and orders. */
export async function countWatchedStock(redis: Redis): Promise<{ readonly units: number; readonly orders: number }> {
  const pipeline = redis.pipeline();
  for (const sku of allSkus) {
    pipeline.hget(watchedStockKey(sku), "sold");
  }
  const sold = (await pipeline.exec()) ?? [];
  return {
    units: sold.reduce((sum, [, count]) => sum + Number(count), 0),
    orders: await redis.xlen(ordersKey),
  };
}
