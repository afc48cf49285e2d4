import { Cluster, Redis } from "ioredis";
import type { Logger } from "pino";
import { modeOf } from "../shop/redis-functions.ts";
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

/** Connects, over a connection of its own: what waits for a lease must not wait behind scripts, nor these behind leases. */
export async function connectRateLeases({ redisUrl, windowSeconds, logger }: RateLeasesOptions): Promise<RateLeases> {
  // Here, because few servers have limits and it takes 50 ms to load.
  const { RateLimiterMemory, RateLimiterRedis } = await import("rate-limiter-flexible");
  const client = await connect(redisUrl, logger);
  let aloneUntilMs = 0;

  const countAlone = (error: Error): void => {
    aloneUntilMs = performance.now() + aloneMs;
    logger.debug({ err: error }, "calls are counted by this process alone for a second");
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
    close: () => client.disconnect(),
  };
}

async function connect(redisUrl: string, logger: Logger): Promise<Redis | Cluster> {
  const [first = "", ...others] = redisUrl.split(",");
  const options = {
    connectionName: "holdfast-rates",
    lazyConnect: true,
    // What the stores' own connections are told as well, which say it to the operator.
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    commandTimeout: leaseTimeoutMs,
    retryStrategy: (times: number) => Math.min(times * 20, 500),
  };
  const open = async <Client extends Redis | Cluster>(client: Client): Promise<Client> => {
    client.on("error", (error: Error) => logger.debug({ err: error }, "a connection failed"));
    await client.connect();
    return client;
  };
  if (others.length === 0) {
    const single = await open(new Redis(first, options));
    if ((await modeOf(single)) === "standalone") {
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
  return open(new Cluster([first, ...others], { clusterRetryStrategy, enableOfflineQueue, lazyConnect, redisOptions }));
}
