import { fillLargeShop } from "../large-shop.ts";
import { largeShopUser } from "../lost-tail.ts";
import { pastMs } from "./fill-history.ts";
import type { Filled } from "./history.ts";
import { casesOf, inTurns, type Rounds } from "./in-turns.ts";
import { measureOrders } from "./measure-orders.ts";
import { type FilledShop, openFilledShop } from "./open-filled-shop.ts";
import type { Testbed } from "./testbed.ts";

/** Different SKUs and users that are asked for in one measurement, spread over all there are. */
const askedCount = 10_000;
const unitCount = 1_000_000;
/** A hold and an unpaid order for so many products. */
const productsPerHold = 10;

/** Orders of any product by any user in shops side by side with few of both and with many. */
export async function growSize(testbed: Testbed, sizes: readonly number[], rounds: Rounds): Promise<Filled> {
  const { durationMs, say, signal } = rounds;
  const shops = new Map<number, FilledShop>();
  for (const size of sizes) {
    signal.throwIfAborted();
    shops.set(size, await openLargeShop(testbed, size, rounds));
  }
  const points = await inTurns(casesOf(sizes), rounds, async ({ size }) => {
    const shopIds = [shops.get(size)?.shopId as string];
    const asked = spread(size);
    const skus = asked.map((number) => skuOf(withoutLimit(number)));
    const userIds = asked.toReversed().map(largeShopUser);
    const rates = await measureOrders(testbed, { shopIds, skus, userIds, durationMs });
    say(`${size} products and users: ${rates.perSecond.toFixed(0)}/s`);
    return rates;
  });
  return { points, bytes: [...shops.values()].flatMap(({ bytes }) => bytes) };
}

const skuOf = (number: number): string => `sku-${number}`;

/** Every thousandth product has a limit per user, which the same user would soon have reached. */
const withoutLimit = (number: number): number => (number % 1000 === 0 ? number - 1 : number);

/** Numbers from 1 to `size`, at equal distances. */
function spread(size: number): number[] {
  const count = Math.min(size, askedCount);
  return Array.from({ length: count }, (_, index) => 1 + Math.floor((index * size) / count));
}

function openLargeShop(testbed: Testbed, size: number, rounds: Rounds): Promise<FilledShop> {
  const shopId = `size-${size}`;
  const openCount = Math.ceil(size / productsPerHold);
  const counts = {
    userCount: size,
    skuCount: size,
    holdCount: openCount,
    orderCount: openCount,
    unitCount,
    ageMs: pastMs,
  };
  // As many orders as holds stand in them.
  const ends = { due: 0.5, due_skus: 0.5 };
  const all = { postgresCount: size, redisCount: size };
  const open = { postgresCount: openCount, redisCount: openCount };
  return openFilledShop(
    testbed,
    {
      shopId,
      size,
      sku: skuOf(1),
      fill: () => fillLargeShop(testbed.database, shopId, counts),
      kinds: [
        { thing: "SKU", tables: ["products", "stock"], keys: { stock: 1 }, ...all },
        { thing: "user", tables: ["users", "ledger_entries"], keys: { users: 1, emails: 1, codes: 1 }, ...all },
        { thing: "open hold", tables: ["holds"], keys: { holds: 1, ...ends }, ...open },
        { thing: "unpaid order", tables: ["orders"], keys: { orders: 1, ...ends }, ...open },
      ],
    },
    rounds,
  );
}
