import { Cluster, Redis } from "ioredis";
import type { Logger } from "pino";
import { modeOf } from "../shop/redis-functions.ts";
import { StartError } from "../start-error.ts";
import type { Lease } from "./rate-buckets.ts";

/** Where all processes count calls together: one key in Redis for each caller or shop and window, gone when that is over. */
export interface RateLeases {
  /** Leases of one kind of key; `callsPerWindow` of each key in a window. */
  leasesOf(kind: string, callsPerWindow: number): Lease;
  close(): void;
}

/** What leases need. */
export interface RateLeasesOptions {
  /** As REDIS_URL: several addresses, separated by commas, are nodes of a Redis Cluster. */
  readonly redisUrl: string;
  readonly windowSeconds: number;
  readonly logger: Logger;
}

/** How long a lease may take, in milliseconds; afterwards this process counts by itself. */
const leaseTimeoutMs = 250;
/** How long this process counts by itself before Redis is asked again, in milliseconds. */
const aloneMs = 1000;
/** How often the log says so while it lasts, in milliseconds. */
const reminderMs = 60_000;

/** Connects, over a connection of its own: what waits for a lease must not wait behind scripts, nor these behind leases. Throws StartError. */
export async function connectRateLeases({ redisUrl, windowSeconds, logger }: RateLeasesOptions): Promise<RateLeases> {
  // Here, because few servers have limits and it takes 50 ms to load.
  const { RateLimiterMemory, RateLimiterRedis } = await import("rate-limiter-flexible");
  const client = await connect(redisUrl, logger);
  let aloneUntilMs = 0;
  let toldAtMs = Number.NEGATIVE_INFINITY;

  const countAlone = ({ message }: Error): void => {
    const nowMs = performance.now();
    aloneUntilMs = nowMs + aloneMs;
    if (nowMs - toldAtMs >= reminderMs) {
      toldAtMs = nowMs;
      logger.warn({ reason: message }, "calls are counted in this process alone while Redis cannot be asked");
    }
  };

  return {
    leasesOf: (kind, callsPerWindow) => {
      const size = { points: callsPerWindow, duration: windowSeconds, keyPrefix: `holdfast:rate:${kind}` };
      const shared = new RateLimiterRedis({ ...size, storeClient: client, rejectIfRedisNotReady: true });
      const own = new RateLimiterMemory(size);
      // penalty() counts and leaves the judgement to us: of what was asked for, a part may be had.
      const count = async (key: string, callCount: number) => {
        if (performance.now() >= aloneUntilMs) {
          try {
            return await shared.penalty(key, callCount);
          } catch (error) {
            countAlone(error as Error);
          }
        }
        return own.penalty(key, callCount);
      };
      return async (key, callCount) => {
        const { consumedPoints, msBeforeNext } = await count(key, callCount);
        const before = consumedPoints - callCount;
        return {
          callCount: Math.max(0, Math.min(callCount, callsPerWindow - before)),
          windowEndsInMs: msBeforeNext,
        };
      };
    },
    close: () => {
      toldAtMs = Number.POSITIVE_INFINITY; // a lease that is under way fails now, and nobody has to know
      client.disconnect();
    },
  };
}

async function connect(redisUrl: string, logger: Logger): Promise<Redis | Cluster> {
  const [first = "", ...others] = redisUrl.split(",");
  const options = {
    connectionName: "holdfast-rates",
    lazyConnect: true,
    connectTimeout: 5000,
    // What the stores' own connections are told as well, which say it to the operator.
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    commandTimeout: leaseTimeoutMs,
    retryStrategy: (times: number) => Math.min(times * 20, 500),
  };
  if (others.length === 0) {
    // A master that was demoted keeps its connections: a new one finds its successor. One of a cluster names it itself.
    const reconnectOnError = ({ message }: Error) => message.startsWith("READONLY");
    const single = new Redis(first, { ...options, reconnectOnError });
    if ((await open(single, logger, () => modeOf(single))) === "standalone") {
      return single;
    }
    single.disconnect();
  }
  const { username, password, protocol } = new URL(first);
  const { retryStrategy: clusterRetryStrategy, enableOfflineQueue, lazyConnect, ...ofNodes } = options;
  const redisOptions = {
    ...ofNodes,
    ...(username === "" ? {} : { username: decodeURIComponent(username) }),
    ...(password === "" ? {} : { password: decodeURIComponent(password) }),
    ...(protocol === "rediss:" ? { tls: {} } : {}),
  };
  const cluster = new Cluster([first, ...others], {
    clusterRetryStrategy,
    enableOfflineQueue,
    lazyConnect,
    redisOptions,
  });
  await open(cluster, logger, async () => {});
  return cluster;
}

/** Connects, and looks what it is connected to; whatever fails of that, the client is not left to go on trying. */
async function open<T>(client: Redis | Cluster, logger: Logger, look: () => Promise<T>): Promise<T> {
  let lastError: Error | undefined;
  client.on("error", (error: Error) => {
    lastError = error;
    logger.debug({ err: error }, "a connection failed");
  });
  try {
    await client.connect();
    return await look();
  } catch (error) {
    client.disconnect();
    // connect() itself only says that the connection was closed; why is in the event before.
    const { message } = lastError ?? (error as Error);
    throw error instanceof StartError
      ? error
      : new StartError(`Redis cannot be reached to count calls: ${message}. Check REDIS_URL`);
  }
}
