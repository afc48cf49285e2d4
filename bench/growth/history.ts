import type { Bytes } from "./bytes.ts";
import { fillHistory, historySku } from "./fill-history.ts";
import { casesOf, inTurns, type Point, type Rounds } from "./in-turns.ts";
import { measureOrders, type OrderRates } from "./measure-orders.ts";
import { type FilledShop, openFilledShop } from "./open-filled-shop.ts";
import type { Testbed } from "./testbed.ts";

/** What was measured of a part whose shops are filled, and what the things in them take. */
export interface Filled {
  readonly points: readonly Point<OrderRates>[];
  readonly bytes: readonly Bytes[];
}

/** Commits that Redis keeps of a log. */
const logMargin = 10_000;
/** Orders and requests whose ids Redis remembers. */
const memoryCount = 1_000_000;

/** Orders of one product in shops side by side that sold nothing before, or thousands, or millions. */
export async function growHistory(testbed: Testbed, sizes: readonly number[], rounds: Rounds): Promise<Filled> {
  const { durationMs, say, signal } = rounds;
  const shops = new Map<number, FilledShop>();
  for (const size of sizes) {
    signal.throwIfAborted();
    shops.set(size, await openShopWithHistory(testbed, size, rounds));
  }
  const points = await inTurns(casesOf(sizes), rounds, async ({ size }) => {
    const shopIds = [shops.get(size)?.shopId as string];
    const rates = await measureOrders(testbed, { shopIds, skus: [historySku], userIds: [], durationMs });
    say(`after ${size} events: ${rates.perSecond.toFixed(0)}/s`);
    return rates;
  });
  return { points, bytes: [...shops.values()].flatMap(({ bytes }) => bytes) };
}

function openShopWithHistory(testbed: Testbed, size: number, rounds: Rounds): Promise<FilledShop> {
  const shopId = `history-${size}`;
  const remembered = Math.min(size, memoryCount);
  const order = { thing: "paid order", tables: ["orders"], postgresCount: size };
  const event = { thing: "event", tables: ["commits"], postgresCount: size };
  return openFilledShop(
    testbed,
    {
      shopId,
      size,
      sku: historySku,
      fill: () => fillHistory(testbed.database, shopId, size, rounds.signal),
      kinds: [
        { ...order, keys: { recent_0: 1, recent_1: 1 }, redisCount: remembered },
        { ...event, keys: { log: 1 }, redisCount: Math.min(size, logMargin) },
      ],
    },
    rounds,
  );
}
