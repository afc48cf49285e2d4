import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { around } from "./crash-point.ts";
import { type FlushConnection, openDatabase, openFlushConnection, type PoolOptions } from "./postgres/connection.ts";
import { migrate, requireCurrentSchema } from "./postgres/migrate.ts";
import { checkPostgres } from "./postgres/preflight.ts";
import { createPostgresProbe } from "./postgres/probe.ts";
import { requireRights } from "./postgres/rights.ts";
import type { Database } from "./postgres/schema.ts";
import { createSockets } from "./postgres/sockets.ts";
import { checkRedis } from "./shop/preflight.ts";
import { connectRedis, type ScriptRunner } from "./shop/redis.ts";
import { loadScripts } from "./shop/scripts.ts";
import type { ShopObserver } from "./shop/shop-observer.ts";
import { createShops, type Shops, type ShopsOptions } from "./shop/shops.ts";

/** What the store needs. */
export interface StoreOptions {
  readonly redisUrl: string;
  readonly databaseUrl: string;
  readonly durability: "postgres" | "redis";
  readonly migratesOnStart: boolean;
  readonly postgresPoolCount: number;
  readonly requestMemoryCount: number;
  readonly requestRetentionMs: number;
  /** The clock of scripts, in milliseconds; Redis' own when absent. Tests replace it. */
  readonly clock?: () => number;
  readonly limits: Pick<ShopsOptions, "maxBacklogCommits" | "maxInFlight" | "maxWaiting">;
  /** Told what the stores and the shops do; default: nobody. */
  readonly observer?: StoreObserver | undefined;
  readonly logger: Logger;
}

/** Is told what stores and shops do; it must be quick and never throw. */
export interface StoreObserver {
  readonly shops: ShopObserver;
  readonly onQuery: PoolOptions["onQuery"];
  readonly onPool: PoolOptions["onPool"];
  /** Gives the runner to be used in place of one; default: that one. */
  readonly wrapRedis?: ((redis: ScriptRunner) => ScriptRunner) | undefined;
}

/** Both stores, checked and connected, and the shops on them. */
export interface Store {
  readonly shops: Shops;
  readonly db: Kysely<Database>;
  readonly redis: ScriptRunner;
  close(): Promise<void>;
}

/**
 * Connections that flush, per process: one carries a hot shop, the other goes on meanwhile. With fewer, more shops share a
 * statement: PostgreSQL took 88 us of CPU time for an order when 128 shops shared one, 160 us with 16 (2 cores, November 2026).
 */
const flushConnectionCount = 2;

/** PostgreSQL connections of a store besides its pool: those that flush, and the one that asks whether PostgreSQL is there. */
export const ownConnectionCount = flushConnectionCount + 1;

/** Connects to both stores, checks that they keep what they are given, and brings the schema up to date. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { logger, databaseUrl, redisUrl } = options;
  // What it means is logged by who needs the connection, and once for all by the state of its store.
  const onError = (error: Error): void => logger.debug({ err: error }, "a connection failed");
  const sockets = createSockets();
  const { observer, postgresPoolCount } = options;
  const { onQuery, onPool } = observer ?? {};
  const db = openDatabase({ url: databaseUrl, size: postgresPoolCount, onError, onQuery, onPool, sockets });
  const probe = createPostgresProbe({ url: databaseUrl, sockets });
  const flushConnections: FlushConnection[] = [];
  let redis: ScriptRunner | undefined;
  const closeAll = async (): Promise<void> => {
    await Promise.all(flushConnections.map((connection) => connection.close()));
    await probe.close();
    await db.destroy();
    await redis?.close();
  };
  try {
    await checkPostgres(db, options.durability);
    await around("start: migrate", () => (options.migratesOnStart ? migrate(db) : requireCurrentSchema(db)));
    await requireRights(db);
    const connected = await connectRedis({ url: redisUrl, commandTimeoutMs: 5000, onError });
    const runner = observer?.wrapRedis?.(connected) ?? connected;
    redis = runner;
    await checkRedis(redis.connections);
    const scripts = loadScripts();
    await around("start: load functions", () => runner.load(scripts.placeOrder.library));
    for (let index = 0; index < flushConnectionCount; index += 1) {
      flushConnections.push(openFlushConnection({ url: databaseUrl, onError, sockets }));
    }
    // Connected before anybody calls: how long a first connection takes says nothing of whether Postgres is there.
    await probe.ask().catch(() => {});
    const shops = await createShops({
      scripts,
      redis,
      db,
      flushConnections,
      probe,
      sockets,
      durability: options.durability,
      postgresPoolCount,
      memoryCount: options.requestMemoryCount,
      requestRetentionMs: options.requestRetentionMs,
      ...(options.clock === undefined ? {} : { clock: options.clock }),
      ...options.limits,
      observer: observer?.shops,
      logger,
    });
    return {
      shops,
      db,
      redis,
      close: async () => {
        await shops.close();
        await closeAll();
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}
