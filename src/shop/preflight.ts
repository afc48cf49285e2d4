import type { Redis } from "ioredis";
import { StartError } from "../start-error.ts";

/** Checks that Redis, each of its masters, is new enough (functions came with 7.0) and never lets go of state by itself. */
export async function checkRedis(masters: readonly Redis[]): Promise<void> {
  await Promise.all(masters.map(checkMaster));
}

async function checkMaster(redis: Redis): Promise<void> {
  const server = await redis.info("server");
  const version = /^redis_version:(\d+)\.(\d+)/m.exec(server);
  if (version === null || Number(version[1]) < 7) {
    throw new StartError(
      `Redis is version ${version?.[1] ?? "?"}.${version?.[2] ?? "?"}: use Redis 7.0 or newer, or Valkey`,
    );
  }
  const policy = /^maxmemory_policy:(\S+)/m.exec(await redis.info("memory"))?.[1];
  if (policy !== "noeviction") {
    throw new StartError(`Redis has maxmemory-policy ${policy} and could evict stock: set it to noeviction`);
  }
  if (/^role:slave/m.test(await redis.info("replication"))) {
    throw new StartError("Redis is a replica and takes no writes: point REDIS_URL at the master");
  }
}
