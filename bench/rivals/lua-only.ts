import { Redis } from "ioredis";
import { allSkus, firstStockOf, priceMinor } from "../sale.ts";
import type { CreateRival, Outcome, Purchase } from "./rival.ts";

const stockKey = "lua:stock";
const ordersKey = "lua:orders";
const holdsKey = "lua:holds";
const holdMs = 600_000;

/** KEYS stock, orders; ARGV order, then sku and quantity of each line. */
const buyScript = `
local stock, orders = KEYS[1], KEYS[2]
for i = 2, #ARGV, 2 do
  local available = tonumber(redis.call("hget", stock, ARGV[i] .. ":available"))
  if not available or available < tonumber(ARGV[i + 1]) then return "refused" end
end
local lines = {}
for i = 2, #ARGV, 2 do
  redis.call("hincrby", stock, ARGV[i] .. ":available", -ARGV[i + 1])
  redis.call("hincrby", stock, ARGV[i] .. ":sold", ARGV[i + 1])
  lines[#lines + 1] = ARGV[i] .. " " .. ARGV[i + 1] .. " " .. redis.call("hget", stock, ARGV[i] .. ":price")
end
redis.call("xadd", orders, "*", "order", ARGV[1], "lines", table.concat(lines, " "))
return "done"
`;

/** KEYS stock, holds; ARGV hold, milliseconds, then sku and quantity of each line. */
const holdScript = `
local stock, holds = KEYS[1], KEYS[2]
for i = 3, #ARGV, 2 do
  local available = tonumber(redis.call("hget", stock, ARGV[i] .. ":available"))
  if not available or available < tonumber(ARGV[i + 1]) then return "refused" end
end
local time = redis.call("time")
local lines = { string.format("%.0f", time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]) }
for i = 3, #ARGV, 2 do
  redis.call("hincrby", stock, ARGV[i] .. ":available", -ARGV[i + 1])
  redis.call("hincrby", stock, ARGV[i] .. ":held", ARGV[i + 1])
  lines[#lines + 1] = ARGV[i] .. " " .. ARGV[i + 1] .. " " .. redis.call("hget", stock, ARGV[i] .. ":price")
end
redis.call("hset", holds, ARGV[1], table.concat(lines, " "))
return "done"
`;

/** KEYS stock, holds, orders; ARGV hold, order. */
const buyHeldScript = `
local stock, holds, orders = KEYS[1], KEYS[2], KEYS[3]
local held = redis.call("hget", holds, ARGV[1])
if not held then return "refused" end
local expire_ms, lines = string.match(held, "^(%d+) (.*)$")
local time = redis.call("time")
if tonumber(expire_ms) <= time[1] * 1000 + time[2] / 1000 then return "refused" end
for sku, quantity in string.gmatch(lines, "(%S+) (%d+) %d+") do
  redis.call("hincrby", stock, sku .. ":held", -quantity)
  redis.call("hincrby", stock, sku .. ":sold", quantity)
end
redis.call("hdel", holds, ARGV[1])
redis.call("xadd", orders, "*", "order", ARGV[2], "lines", lines)
return "done"
`;

/** A connection with the scripts above as commands. */
interface ShopRedis extends Redis {
  buy(...args: (string | number)[]): Promise<Outcome>;
  hold(...args: (string | number)[]): Promise<Outcome>;
  buyHeld(...args: (string | number)[]): Promise<Outcome>;
}

/** One script per call in Redis and nothing behind it: what Redis has not saved when it ends was never sold. */
export const createLuaOnly: CreateRival = async ({ redisUrl }) => {
  const redis = new Redis(redisUrl, { enableAutoPipelining: true }) as ShopRedis;
  redis.defineCommand("buy", { numberOfKeys: 2, lua: buyScript });
  redis.defineCommand("hold", { numberOfKeys: 2, lua: holdScript });
  redis.defineCommand("buyHeld", { numberOfKeys: 3, lua: buyHeldScript });
  await redis.ping();
  return {
    buy: (purchase) => redis.buy(stockKey, ordersKey, purchase.orderId, ...linesOf(purchase)),
    hold: (purchase) => redis.hold(stockKey, holdsKey, purchase.holdId, holdMs, ...linesOf(purchase)),
    buyHeld: ({ holdId, orderId }) => redis.buyHeld(stockKey, holdsKey, ordersKey, holdId, orderId),
    close: async () => {
      await redis.quit();
    },
  };
};

function linesOf({ skus, quantities }: Purchase): (string | number)[] {
  return skus.flatMap((sku, index) => [sku, quantities[index] as number]);
}

/** Fills the shop. */
export async function fillLuaStock(redis: Redis): Promise<void> {
  const fields = allSkus.flatMap((sku) => [
    ...[`${sku}:available`, firstStockOf(sku), `${sku}:held`, 0],
    ...[`${sku}:sold`, 0, `${sku}:price`, priceMinor],
  ]);
  await redis.hset(stockKey, ...fields);
}

/** Makes so many units of a SKU available. */
export async function setLuaStock(redis: Redis, sku: string, count: number): Promise<void> {
  await redis.hset(stockKey, `${sku}:available`, count);
}

/** Units sold according to the stock, and orders. */
export async function countLuaStock(redis: Redis): Promise<{ readonly units: number; readonly orders: number }> {
  const sold = await redis.hmget(stockKey, ...allSkus.map((sku) => `${sku}:sold`));
  return { units: sold.reduce((sum, count) => sum + Number(count), 0), orders: await redis.xlen(ordersKey) };
}
