import { setTimeout as sleep } from "node:timers/promises";
import { toBinary } from "@bufbuild/protobuf";
import { Client } from "pg";
import { type PlaceOrderResponse, PlaceOrderResponseSchema } from "../gen/holdfast/v1/order_service_pb.js";
import { AdjustReason, PaymentMethod } from "../gen/holdfast/v1/resources_pb.js";
import { createGrpcTransport, createHoldfastClient, type HoldfastClient } from "../src/client/index.ts";
import { inParallel } from "../src/demo/in-parallel.ts";
import { makeId } from "../src/shop/ids.ts";
import { startChild } from "./child.ts";
import type { Books, Contestant } from "./contestant.ts";
import type { HoldfastPorts, HoldfastRequest } from "./holdfast-server.ts";
import { allSkus, balanceMinor, firstStockOf, hotSku, lastSku, priceMinor, shopId, userIds } from "./sale.ts";
import { type BenchStores, startRedis } from "./stores.ts";

/** The whole product, with a Redis and a database of its own. */
export interface Holdfast extends Contestant {
  /** An answer to an order: the others answer with bytes of the same size. */
  readonly response: Uint8Array;
}

const inFlightCount = 64;
const settleMs = 5;

/** Starts it and fills its shop. */
export async function startHoldfast(
  name: "holdfast" | "holdfast-redis",
  stores: BenchStores,
  cleanUp: AsyncDisposableStack,
): Promise<Holdfast> {
  const redis = await startRedis(stores, name, cleanUp);
  const database = await createDatabase(stores, name.replace("-", "_"), cleanUp);
  const child = startChild("./holdfast-server.ts", cleanUp);
  const { grpcPort: port } = await child.ask<HoldfastPorts>({
    redisUrl: redis.url,
    databaseUrl: database.url,
    durability: name === "holdfast" ? "postgres" : "redis",
  } satisfies HoldfastRequest);
  const transport = createGrpcTransport({ target: `127.0.0.1:${port}`, connectionCount: 1 });
  cleanUp.defer(() => transport.close());
  const clients = createHoldfastClient({ transport });
  const response = await openShop(clients);
  return {
    name,
    port,
    pid: child.pid,
    redisPid: redis.pid,
    response: toBinary(PlaceOrderResponseSchema, response),
    enter: async () => {},
    settle: () => settle(clients),
    leave: async () => {},
    supply: (count) => supply(clients, count),
    countSold: () => countSold(clients),
    audit: () => audit(clients, database.client),
  };
}

async function createDatabase({ databaseUrl }: BenchStores, name: string, cleanUp: AsyncDisposableStack) {
  const creator = new Client({ connectionString: databaseUrl });
  await creator.connect();
  await creator.query(`create database ${name}_bench`).finally(() => creator.end());
  const { href: url } = Object.assign(new URL(databaseUrl), { pathname: `/${name}_bench` });
  const client = new Client({ connectionString: url });
  await client.connect();
  cleanUp.defer(() => client.end());
  return { url, client };
}

/** Makes products, stock and users, and places the first order. */
async function openShop({ admin, inventory, orders, users }: HoldfastClient): Promise<PlaceOrderResponse> {
  await admin.createShop({ shopId, currencyCode: "USD" });
  const call = () => ({ shopId, requestId: makeId() });
  await inParallel(allSkus.length, inFlightCount, async (index) => {
    const sku = allSkus[index] as string;
    await inventory.putProduct({ ...call(), sku, title: "Game console", priceMinor: BigInt(priceMinor) });
    const deltaCount = BigInt(firstStockOf(sku));
    if (deltaCount > 0n) {
      await inventory.adjustStock({ ...call(), sku, deltaCount, reason: AdjustReason.INITIAL });
    }
  });
  await inParallel(userIds.length, inFlightCount, async (index) => {
    const userId = userIds[index] as string;
    await users.createUser({ ...call(), userId });
    await users.depositFunds({ ...call(), userId, amountMinor: BigInt(balanceMinor), reference: "bench" });
  });
  return orders.placeOrder({ ...call(), lines: [{ sku: hotSku, quantity: 1 }], paymentMethod: PaymentMethod.NONE });
}

/** The one that was placed to know what an answer looks like. */
const firstOrderCount = 1;

async function settle({ admin }: HoldfastClient): Promise<void> {
  for (;;) {
    const { shop } = await admin.getShop({ shopId });
    if (shop?.durablePosition === shop?.headPosition) {
      return;
    }
    await sleep(settleMs);
  }
}

async function supply({ inventory }: HoldfastClient, count: number): Promise<void> {
  const { stock } = await inventory.getStock({ shopId, sku: lastSku });
  const deltaCount = BigInt(count) - (stock?.availableCount ?? 0n);
  if (deltaCount !== 0n) {
    const reason = AdjustReason.CORRECTION;
    await inventory.adjustStock({ shopId, requestId: makeId(), sku: lastSku, deltaCount, reason });
  }
}

const batchCount = 100;

async function countSold({ inventory }: HoldfastClient): Promise<number> {
  const starts = Array.from({ length: Math.ceil(allSkus.length / batchCount) }, (_, index) => index * batchCount);
  const batches = await Promise.all(
    starts.map((start) => inventory.batchGetStock({ shopId, skus: allSkus.slice(start, start + batchCount) })),
  );
  const levels = batches.flatMap(({ stocks }) => stocks);
  return levels.reduce((sum, { soldCount }) => sum + Number(soldCount), -firstOrderCount);
}

async function audit(clients: HoldfastClient, database: Client): Promise<Books> {
  const { rows } = await database.query<Record<string, string | null>>(
    `select (select sum(sold_count) from stock where shop_id = $1) as sold,
      (select sum(item_count) from orders where shop_id = $1) as items,
      (select count(*) from orders where shop_id = $1) as orders,
      (select sum(amount_minor) from orders where shop_id = $1 and user_id <> '') as paid,
      (select sum($2 - balance_minor) from users where shop_id = $1) as spent,
      (select count(*) from stock where shop_id = $1 and (available_count < 0 or held_count <> 0)) as wrong`,
    [shopId, balanceMinor],
  );
  const number = (name: string): number => Number(rows[0]?.[name] ?? 0);
  return {
    units: {
      GetStock: await countSold(clients),
      stock: number("sold") - firstOrderCount,
      orders: number("items") - firstOrderCount,
    },
    orders: { orders: number("orders") - firstOrderCount },
    money: { orders: number("paid"), wallets: number("spent") },
    wrongSkuCount: number("wrong"),
  };
}
