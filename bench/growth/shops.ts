import { AdjustReason } from "../../gen/holdfast/v1/resources_pb.js";
import { inParallel } from "../../src/demo/in-parallel.ts";
import { makeId } from "../../src/shop/ids.ts";
import { hotSku, plentyCount, priceMinor } from "../sale.ts";
import { casesOf, inTurns, type Point, type Rounds } from "./in-turns.ts";
import { measureOrders, type OrderRates } from "./measure-orders.ts";
import type { Testbed } from "./testbed.ts";

const setUpInFlightCount = 64;

/** The same load on few shops and on many: orders of each shop's one product, from one shop after the other. */
export async function growShops(
  testbed: Testbed,
  sizes: readonly number[],
  rounds: Rounds,
): Promise<Point<OrderRates>[]> {
  const shopIds = Array.from({ length: Math.max(...sizes) }, (_, index) => `shop-${index + 1}`);
  rounds.say(`making ${shopIds.length} shops`);
  await inParallel(shopIds.length, setUpInFlightCount, (index) => openSmallShop(testbed, shopIds[index] as string));
  const { durationMs, say } = rounds;
  return inTurns(casesOf(sizes), rounds, async ({ size }) => {
    const task = { shopIds: shopIds.slice(0, size), skus: [hotSku], userIds: [], durationMs };
    const rates = await measureOrders(testbed, task);
    say(`${size} shops: ${rates.perSecond.toFixed(0)}/s`);
    return rates;
  });
}

/** Makes a shop with one product of which there is plenty. */
export async function openSmallShop({ clients: { admin, inventory } }: Testbed, shopId: string): Promise<void> {
  const call = () => ({ shopId, requestId: makeId() });
  await admin.createShop({ ...call(), currencyCode: "USD" });
  await inventory.putProduct({ ...call(), sku: hotSku, title: "Game console", priceMinor: BigInt(priceMinor) });
  const deltaCount = BigInt(plentyCount);
  await inventory.adjustStock({ ...call(), sku: hotSku, deltaCount, reason: AdjustReason.INITIAL });
}
