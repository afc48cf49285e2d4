import { create, toBinary } from "@bufbuild/protobuf";
import { Client } from "pg";
import {
  OrderService,
  PlaceOrderRequestSchema,
  type PlaceOrderResponse,
  PlaceOrderResponseSchema,
} from "../gen/holdfast/v1/order_service_pb.js";
import { AdjustReason, PaymentMethod } from "../gen/holdfast/v1/resources_pb.js";
import { createSaleClients, type SaleClients } from "../src/demo/flash-sale.ts";
import { createGrpcTransport } from "../src/demo/grpc-transport.ts";
import { makeId } from "../src/shop/ids.ts";
import { type Child, startChild } from "./child.ts";
import type { EchoRequest } from "./echo-server.ts";
import type { HoldfastRequest } from "./holdfast-server.ts";
import type { Purchase, PurchaseRequest } from "./purchase-server.ts";
import type { BenchStores } from "./stores.ts";

/** A server under test. */
export interface Contestant {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  /** What the records say was sold since the start; undefined for one that sells nothing. */
  countSold(): Promise<SoldCounts | undefined>;
  stop(): Promise<void>;
}

/** Sold units from each record there is: they must all be equal. */
export type SoldCounts = Readonly<Record<string, number>>;

const shopId = "bench";
const sku = "console";
const priceMinor = 49_900;
const stockCount = 1_000_000_000;

/** The RPC that is called. */
export const path = `/${OrderService.typeName}/${OrderService.method.placeOrder.name}`;

/** The request that every contestant gets, and the id in it that differs from call to call. */
export function createOrderRequest(): { readonly message: Uint8Array; readonly id: string } {
  const id = makeId();
  return { message: toBinary(PlaceOrderRequestSchema, create(PlaceOrderRequestSchema, orderOf(id))), id };
}

/** One unit for a guest, with a request id as every careful caller gives one; the server makes the order's id. */
function orderOf(requestId: string) {
  return { shopId, requestId, lines: [{ sku, quantity: 1 }], paymentMethod: PaymentMethod.NONE };
}

/** The whole product. `placed` is the answer to a first order: the others answer with bytes of the same size. */
export async function startHoldfast(
  stores: BenchStores,
  database: Client,
  cleanUp: AsyncDisposableStack,
): Promise<Contestant & { readonly response: Uint8Array }> {
  await database.query("create database holdfast_bench");
  const databaseUrl = Object.assign(new URL(stores.databaseUrl), { pathname: "/holdfast_bench" }).href;
  const child = startChild("./holdfast-server.ts", cleanUp);
  const port = await child.ask<number>({ redisUrl: stores.redisUrl, databaseUrl } satisfies HoldfastRequest);
  const transport = createGrpcTransport({ target: `127.0.0.1:${port}`, connectionCount: 1 });
  cleanUp.defer(() => transport.close());
  const clients = createSaleClients(transport);
  const placed = await openShop(clients);
  return {
    ...contestant("Holdfast, durable", port, child),
    response: toBinary(PlaceOrderResponseSchema, placed),
    countSold: async () => countHoldfastSold(clients, databaseUrl),
  };
}

async function openShop({ admin, inventory, orders }: SaleClients): Promise<PlaceOrderResponse> {
  await admin.createShop({ shopId, currencyCode: "USD" });
  await inventory.putProduct({
    shopId,
    requestId: makeId(),
    sku,
    title: "Game console",
    priceMinor: BigInt(priceMinor),
  });
  const deltaCount = BigInt(stockCount);
  await inventory.adjustStock({ shopId, requestId: makeId(), sku, deltaCount, reason: AdjustReason.INITIAL });
  return orders.placeOrder(orderOf(makeId()));
}

/** Less the one order that was placed to know what an answer looks like. */
async function countHoldfastSold({ inventory }: SaleClients, databaseUrl: string): Promise<SoldCounts> {
  const { stock } = await inventory.getStock({ shopId, sku });
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ sold: string; orders: string }>(
      `select (select sold_count from stock where shop_id = $1 and sku = $2) as sold,
        (select count(*) from orders where shop_id = $1) as orders`,
      [shopId, sku],
    );
    return {
      GetStock: Number(stock?.soldCount) - 1,
      "PostgreSQL's stock": Number(rows[0]?.sold) - 1,
      "PostgreSQL's orders": Number(rows[0]?.orders) - 1,
    };
  } finally {
    await client.end();
  }
}

/** grpc-js and nothing behind it. */
export async function startEcho(response: Uint8Array, cleanUp: AsyncDisposableStack): Promise<Contestant> {
  const child = startChild("./echo-server.ts", cleanUp);
  const port = await child.ask<number>({ path, response } satisfies EchoRequest);
  return contestant("echo", port, child);
}

/** What a shop on PostgreSQL alone needs. */
export interface RivalOptions {
  readonly name: string;
  readonly purchase: Purchase;
  readonly poolSize: number;
  readonly response: Uint8Array;
  readonly databaseUrl: string;
  /** A connection to the same database. */
  readonly database: Client;
  readonly cleanUp: AsyncDisposableStack;
}

/** Makes a rival's tables. */
export async function createRivalTables(database: Client, purchase: Purchase): Promise<void> {
  const schema = schemaOf(purchase);
  await database.query(`
    create schema ${schema};
    create table ${schema}.stock (
      sku text collate "C" primary key, available_count bigint not null, sold_count bigint not null, price_minor bigint not null
    ) with (fillfactor = 50);
    create table ${schema}.orders (
      order_id uuid primary key, sku text collate "C" not null, quantity bigint not null, price_minor bigint not null,
      create_time timestamptz not null
    );
    insert into ${schema}.stock values ('${sku}', ${stockCount}, 0, ${priceMinor})`);
}

/** Starts a rival on its tables. */
export async function startRival({
  name,
  purchase,
  poolSize,
  response,
  databaseUrl,
  database,
  cleanUp,
}: RivalOptions): Promise<Contestant> {
  const schema = schemaOf(purchase);
  const child = startChild("./purchase-server.ts", cleanUp);
  const request = { path, response, databaseUrl, schema, purchase, poolSize } satisfies PurchaseRequest;
  const port = await child.ask<number>(request);
  return {
    ...contestant(name, port, child),
    countSold: async () => {
      const { rows } = await database.query<{ sold: string; orders: string }>(
        `select (select sold_count from ${schema}.stock) as sold, (select count(*) from ${schema}.orders) as orders`,
      );
      return { "its stock": Number(rows[0]?.sold), "its orders": Number(rows[0]?.orders) };
    },
  };
}

function schemaOf(purchase: Purchase): string {
  return purchase.replace(" ", "_");
}

function contestant(name: string, port: number, child: Child): Contestant {
  return { name, port, pid: child.pid, countSold: async () => undefined, stop: () => child.stop() };
}
