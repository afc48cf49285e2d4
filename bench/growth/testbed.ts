import { Redis } from "ioredis";
import { Client } from "pg";
import { createGrpcTransport, createHoldfastClient, type HoldfastClient } from "../../src/client/index.ts";
import { type Child, startChild } from "../child.ts";
import type { HoldfastPorts, HoldfastRequest, StartRequest } from "../holdfast-server.ts";
import type { MemoryUse } from "../memory-use.ts";
import { startStores } from "../stores.ts";

/** A Holdfast with stores that nobody else uses, and what puts it under load. */
export interface Testbed {
  /** Of the gRPC door. */
  readonly port: number;
  readonly clients: HoldfastClient;
  readonly database: Client;
  readonly redis: Redis;
  readonly redisUrl: string;
  readonly databaseUrl: string;
  /** Places orders. */
  readonly load: Child;
  /** Watches; takes a WatchRequest. */
  readonly crowd: Child;
  /** Of the server. */
  readMemory(): Promise<MemoryUse>;
  /** Whose CPU time is told apart. */
  readonly pids: Readonly<Record<"server" | "redis" | "postgres" | "load" | "watchers", number>>;
}

/** Starts everything, with Holdfast's default settings; `cleanUp` ends it. */
export async function startTestbed(
  cleanUp: AsyncDisposableStack,
  { logLevel }: Required<Pick<StartRequest, "logLevel">> = { logLevel: "warn" },
): Promise<Testbed> {
  const stores = await startStores(cleanUp);
  const server = startChild("./holdfast-server.ts", cleanUp);
  const { redisUrl, databaseUrl } = stores;
  const request = { redisUrl, databaseUrl, logLevel } satisfies HoldfastRequest;
  const { grpcPort: port } = await server.ask<HoldfastPorts>(request);
  const { load, crowd } = startCallers(cleanUp);
  const pids = {
    server: server.pid,
    redis: stores.redisPid,
    postgres: stores.postgresPid,
    load: load.pid,
    watchers: crowd.pid,
  };
  const sides = await openSides(port, redisUrl, databaseUrl, cleanUp);
  const readMemory = () => server.ask<MemoryUse>("memory" satisfies HoldfastRequest);
  return { port, redisUrl, databaseUrl, ...sides, load, crowd, readMemory, pids };
}

/** Starts the processes that place orders and watch. */
export function startCallers(cleanUp: AsyncDisposableStack): Pick<Testbed, "load" | "crowd"> {
  return {
    load: startChild("./growth/order-load-process.ts", cleanUp),
    crowd: startChild("./growth/watch-process.ts", cleanUp),
  };
}

/** A large shop takes minutes to open: only the deadline of a call counts. */
const maxAttempts = 10_000;

/** Clients of the server and of both of its stores. */
export async function openSides(port: number, redisUrl: string, databaseUrl: string, cleanUp: AsyncDisposableStack) {
  const database = new Client({ connectionString: databaseUrl });
  await database.connect();
  cleanUp.defer(() => database.end());
  const redis = new Redis(redisUrl);
  cleanUp.defer(() => redis.disconnect());
  return { clients: openClients(port, cleanUp), database, redis };
}

/** Clients of the server at a port; `headers` go with every call. */
export function openClients(
  port: number,
  cleanUp: AsyncDisposableStack,
  headers: Readonly<Record<string, string>> = {},
): HoldfastClient {
  const transport = createGrpcTransport({ target: `127.0.0.1:${port}`, connectionCount: 1, headers: () => headers });
  cleanUp.defer(() => transport.close());
  return createHoldfastClient({ transport, maxAttempts });
}
