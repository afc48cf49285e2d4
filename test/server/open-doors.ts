import { create } from "@bufbuild/protobuf";
import { Client, credentials } from "@grpc/grpc-js";
import { pino } from "pino";
import { onTestFinished } from "vitest";
import { EventService, WatchEventsResponseSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { GetStockResponseSchema, InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService, PlaceOrderResponseSchema } from "../../gen/holdfast/v1/order_service_pb.js";
import { type DoorLimits, loadConfig } from "../../src/config.ts";
import { Refusal } from "../../src/refusal.ts";
import type { Authenticate } from "../../src/server/authenticator.ts";
import type { CallContext, Handlers } from "../../src/server/call-context.ts";
import { bindService, createDispatcher } from "../../src/server/dispatcher.ts";
import { createGrpcDoor } from "../../src/server/grpc-door.ts";
import { createHttpDoor } from "../../src/server/http-door.ts";
import { createInterceptors } from "../../src/server/interceptors.ts";
import type { TlsFiles } from "../../src/server/tls-files.ts";

/** What handlers of the tests do; the doors are what is tested. */
export interface TestHandlers {
  readonly getStock?: Handlers<typeof InventoryService>["getStock"];
  readonly placeOrder?: Handlers<typeof OrderService>["placeOrder"];
  readonly watchEvents?: Handlers<typeof EventService>["watchEvents"];
}

/** How the doors are opened. */
export interface TestOptions {
  /** Default: a free one. */
  readonly grpcPort?: number;
  /** Default: a free one. */
  readonly httpPort?: number;
  readonly requireRequestId?: boolean;
  readonly tls?: TlsFiles;
  /** Other than the default ones. */
  readonly limits?: Partial<DoorLimits>;
  readonly authenticate?: Authenticate;
  readonly corsOrigins?: readonly string[];
  readonly explain?: (error: unknown) => unknown;
  readonly isReady?: () => boolean | string | Promise<boolean | string>;
}

/** Opens both doors over the given handlers on free ports, and closes them when the test is over. */
export async function openDoors(handlers: TestHandlers, options: TestOptions = {}) {
  const limits = { ...loadConfig({}).doorLimits, ...options.limits };
  const logged: { err?: { message: string }; rpc?: string }[] = [];
  const logger = pino({ level: "info" }, { write: (line: string) => void logged.push(JSON.parse(line)) });
  const dispatcher = createDispatcher({
    services: [
      bindService(InventoryService, { ...inventory, getStock: handlers.getStock ?? inventory.getStock }),
      bindService(OrderService, { ...orders, placeOrder: handlers.placeOrder ?? echoRequestId }),
      bindService(EventService, { ...events, watchEvents: handlers.watchEvents ?? threeBookmarks }),
    ],
    authenticate: options.authenticate,
    interceptors: createInterceptors({
      permission: options.authenticate === undefined ? undefined : { holdMs: 600_000 },
      requireRequestId: options.requireRequestId ?? false,
    }),
    explain: options.explain ?? ((error) => error),
    limits,
    logger,
  });
  const host = "127.0.0.1";
  const grpcAddress = { host, port: options.grpcPort ?? 0 };
  const { tls } = options;
  const grpcDoor = createGrpcDoor({ address: grpcAddress, dispatcher, tls, limits, reflection: true, logger });
  const httpDoor = createHttpDoor({
    address: { host, port: options.httpPort ?? 0 },
    dispatcher,
    tls,
    limits,
    corsOrigins: options.corsOrigins ?? [],
    isReady: options.isReady ?? (() => true),
    logger,
  });
  onTestFinished(async () => {
    await Promise.all([grpcDoor.drain(0), httpDoor.drain(0)]);
  });
  const [grpcPort, httpPort] = await Promise.all([grpcDoor.listen(), httpDoor.listen()]);
  const scheme = options.tls === undefined ? "http" : "https";
  return {
    grpcDoor,
    httpDoor,
    grpcAddress: `127.0.0.1:${grpcPort}`,
    grpcPort,
    grpcUrl: `${scheme}://127.0.0.1:${grpcPort}`,
    httpUrl: `${scheme}://127.0.0.1:${httpPort}`,
    httpPort,
    logged,
  };
}

/** A grpc-js client of the gRPC door, closed when the test is over. */
export function openGrpcClient(grpcAddress: string): Client {
  const client = new Client(grpcAddress, credentials.createInsecure());
  onTestFinished(() => client.close());
  return client;
}

/** The answer of GetStock that tests which look at something else get. */
export function stockOf(sku: string) {
  return create(GetStockResponseSchema, { stock: { sku, availableCount: 0n, heldCount: 0n, soldCount: 3n } });
}

/** A bookmark at a position. */
export function bookmark(position: number) {
  return create(WatchEventsResponseSchema, { message: { case: "bookmark", value: { position: BigInt(position) } } });
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    } else {
      signal.addEventListener("abort", () => resolve(), { once: true });
    }
  });
}

function elsewhere(): Promise<never> {
  return Promise.reject(new Refusal("SHOP_UNAVAILABLE", "tested elsewhere"));
}

const orders: Handlers<typeof OrderService> = {
  placeOrder: elsewhere,
  confirmOrder: elsewhere,
  cancelOrder: elsewhere,
  refundOrder: elsewhere,
  fulfillOrder: elsewhere,
  getOrder: elsewhere,
  listOrders: elsewhere,
};

const events: Omit<Handlers<typeof EventService>, "watchEvents"> = {
  listEvents: elsewhere,
  ackEvents: elsewhere,
  getConsumer: elsewhere,
  listConsumers: elsewhere,
};

const inventory: Handlers<typeof InventoryService> = {
  putProduct: elsewhere,
  getProduct: elsewhere,
  listProducts: elsewhere,
  adjustStock: elsewhere,
  getStock: (req) => Promise.resolve(stockOf(req.sku)),
  batchGetStock: elsewhere,
  holdStock: elsewhere,
  getHold: elsewhere,
  listHolds: elsewhere,
  extendHold: elsewhere,
  releaseHold: elsewhere,
};

function echoRequestId(req: { readonly requestId: string }) {
  return Promise.resolve(create(PlaceOrderResponseSchema, { commit: { requestId: req.requestId } }));
}

async function* threeBookmarks(_req: unknown, _ctx: CallContext) {
  for (const position of [1, 2, 3]) {
    yield bookmark(position);
  }
}
