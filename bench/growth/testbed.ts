import { Redis } from "ioredis";
import { Client } from "pg";
import { createSaleClients, type SaleClients } from "../../src/demo/flash-sale.ts";
import { createGrpcTransport } from "../../src/demo/grpc-transport.ts";
import { type Child, startChild } from "../child.ts";
import type { HoldfastRequest } from "../holdfast-server.ts";
import { startStores } from "../stores.ts";

/** A Holdfast with stores that nobody else uses, and what puts it under load. */
export interface Testbed {
  /** Of the gRPC door. */
  readonly port: number;
  readonly clients: SaleClients;
  readonly database: Client;
  readonly redis: Redis;
  readonly redisUrl: string;
  /** Places orders. */
  readonly load: Child;
  /** Whose CPU time is told apart. */
  readonly pids: Readonly<Record<"server" | "redis" | "postgres" | "load", number>>;
}

/** Starts everything, with Holdfast's default settings; `cleanUp` ends it. */
export async function startTestbed(cleanUp: AsyncDisposableStack): Promise<Testbed> {
  const stores = await startStores(cleanUp);
  const server = startChild("./holdfast-server.ts", cleanUp);
  const { redisUrl, databaseUrl } = stores;
  const port = await server.ask<number>({ redisUrl, databaseUrl } satisfies HoldfastRequest);
  const load = startOrderLoad(cleanUp);
  const pids = { server: server.pid, redis: stores.redisPid, postgres: stores.postgresPid, load: load.pid };
  return { port, redisUrl, ...(await openSides(port, redisUrl, databaseUrl, cleanUp)), load, pids };
}

/** Starts the process that places orders. */
export function startOrderLoad(cleanUp: AsyncDisposableStack): Child {
  return startChild("./growth/order-load-process.ts", cleanUp);
}

/** Clients of the server and of both of its stores. */
export async function openSides(port: number, redisUrl: string, databaseUrl: string, cleanUp: AsyncDisposableStack) {
  const transport = createGrpcTransport({ target: `127.0.0.1:${port}`, connectionCount: 1 });
  cleanUp.defer(() => transport.close());
  const database = new Client({ connectionString: databaseUrl });
  await database.connect();
  cleanUp.defer(() => database.end());
  const redis = new Redis(redisUrl);
  cleanUp.defer(() => redis.disconnect());
  return { clients: createSaleClients(transport), database, redis };
}
