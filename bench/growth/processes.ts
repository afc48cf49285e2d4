import { AdjustReason } from "../../gen/holdfast/v1/resources_pb.js";
import { makeId } from "../../src/shop/ids.ts";
import { startChild } from "../child.ts";
import type { HoldfastPorts, HoldfastRequest } from "../holdfast-server.ts";
import type { LoadResult } from "../load.ts";
import { hotSku, priceMinor } from "../sale.ts";
import { casesOf, inTurns, type Point, type Rounds } from "./in-turns.ts";
import { closedLoop, measureOrders, type OrderRates } from "./measure-orders.ts";
import type { OrderLoad } from "./order-load.ts";
import { openSmallShop } from "./shops.ts";
import { openClients, type Testbed } from "./testbed.ts";

const scarceSku = "scarce";
const scarceCount = 200;

/**
 * The same load on one server process and on several that share the doors and the shop. Each turn starts its own server and
 * makes its own shop, so that no other process looks after it; then all the processes are warmed up. Afterwards a product is
 * sold out, of which exactly what there was must have been sold, and VerifyShop must find nothing wrong.
 */
export async function growProcesses(
  testbed: Testbed,
  sizes: readonly number[],
  rounds: Rounds,
): Promise<Point<OrderRates>[]> {
  const { durationMs, say } = rounds;
  let turnCount = 0;
  return inTurns(casesOf(sizes), rounds, async ({ size }) => {
    await using cleanUp = new AsyncDisposableStack();
    const bed = await startServers(testbed, size, cleanUp);
    turnCount += 1;
    const shopId = `processes-${turnCount}`;
    await openSmallShop(bed, shopId);
    const task = { shopIds: [shopId], skus: [hotSku], userIds: [], durationMs };
    await measureOrders(bed, task);
    const rates = await measureOrders(bed, task);
    await sellOut(bed, shopId, durationMs);
    await verify(bed, shopId);
    say(`${size} processes: ${rates.perSecond.toFixed(0)}/s`);
    return rates;
  });
}

/** The testbed with another server in front of its stores, of so many processes. */
async function startServers(testbed: Testbed, processCount: number, cleanUp: AsyncDisposableStack): Promise<Testbed> {
  const { redisUrl, databaseUrl } = testbed;
  const server = startChild("./holdfast-server.ts", cleanUp);
  const request = { redisUrl, databaseUrl, processCount } satisfies HoldfastRequest;
  const { grpcPort: port } = await server.ask<HoldfastPorts>(request);
  return { ...testbed, port, clients: openClients(port, cleanUp), pids: { ...testbed.pids, server: server.pid } };
}

/** Has everybody ask for a product until there is none; throws when another number was sold than there was. */
async function sellOut(testbed: Testbed, shopId: string, durationMs: number): Promise<void> {
  const { inventory } = testbed.clients;
  const call = () => ({ shopId, requestId: makeId(), sku: scarceSku });
  await inventory.putProduct({ ...call(), title: "Game console", priceMinor: BigInt(priceMinor) });
  await inventory.adjustStock({ ...call(), deltaCount: BigInt(scarceCount), reason: AdjustReason.INITIAL });
  const load = { port: testbed.port, ...closedLoop, shopIds: [shopId], skus: [scarceSku], userIds: [], durationMs };
  let toldCount = 0;
  for (let isLeft = true; isLeft; ) {
    const { doneCount, refusedCount, failedCount } = await testbed.load.ask<LoadResult>(load satisfies OrderLoad);
    if (failedCount > 0) {
      throw new Error(`${failedCount} orders failed`);
    }
    toldCount += doneCount;
    isLeft = refusedCount === 0;
  }
  const { stock } = await inventory.getStock({ shopId, sku: scarceSku });
  if (toldCount !== scarceCount || stock?.soldCount !== BigInt(scarceCount) || stock.availableCount !== 0n) {
    throw new Error(`of ${scarceCount} units callers were told of ${toldCount}, and ${stock?.soldCount} were sold`);
  }
}

/** Throws when VerifyShop finds anything. */
async function verify({ clients }: Testbed, shopId: string): Promise<void> {
  for await (const { discrepancies } of clients.admin.verifyShop({ shopId })) {
    if (discrepancies.length > 0) {
      throw new Error(`VerifyShop finds ${JSON.stringify(discrepancies[0]?.subject)} and others wrong`);
    }
  }
}
