import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { CreateRival } from "./rival.ts";
import { createRowLock } from "./row-lock.ts";

const lockMs = 5000;
/** Afterwards the caller is told to try again. */
const patienceMs = 5000;
const longestWaitMs = 16;

/** Frees a lock only if it is still ours. */
const releaseScript = `if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) end return 0`;

/** Connections with the script above as a command. */
interface LockRedis extends Redis {
  release(key: string, token: string): Promise<number>;
}

/**
 * A lock in Redis around the row lock, as is done to keep the queue out of PostgreSQL. The row lock stays: a Redis lock
 * alone runs out under a slow caller, and is lost in a failover.
 */
export const createRedisLock: CreateRival = async (options) => {
  const rowLock = await createRowLock(options);
  const redis = new Redis(options.redisUrl, { enableAutoPipelining: true }) as LockRedis;
  redis.defineCommand("release", { numberOfKeys: 1, lua: releaseScript });
  await redis.ping();
  return {
    buy: async (purchase) => {
      const key = `lock:${purchase.skus[0]}`;
      const token = randomUUID();
      if (!(await acquire(redis, key, token))) {
        return "busy";
      }
      try {
        return await rowLock.buy(purchase);
      } finally {
        await redis.release(key, token);
      }
    },
    close: async () => {
      await rowLock.close();
      await redis.quit();
    },
  };
};

/** Asks again after waits that double, each cut short at random, so that callers do not keep meeting. */
async function acquire(redis: Redis, key: string, token: string): Promise<boolean> {
  const untilMs = performance.now() + patienceMs;
  for (let waitMs = 1; performance.now() < untilMs; waitMs = Math.min(waitMs * 2, longestWaitMs)) {
    if ((await redis.set(key, token, "PX", lockMs, "NX")) === "OK") {
      return true;
    }
    await sleep(waitMs * (0.5 + Math.random() / 2));
  }
  return false;
}
