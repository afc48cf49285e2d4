import { availableParallelism, cpus, platform, release, totalmem } from "node:os";
import { Redis } from "ioredis";
import type { Client } from "pg";

/** What the benchmark runs on, in one line: hardware, system and the versions of what is measured. */
export async function describeMachine(database: Client, redisUrl: string): Promise<string> {
  const { rows } = await database.query<{ version: string }>("select split_part(version(), ' on ', 1) as version");
  const gigabytes = Math.round(totalmem() / 2 ** 30);
  const model = cpus()[0]?.model.trim() ?? "unknown CPU";
  const system = `${platform()} ${release().split("-")[0]}`;
  const node = `Node ${process.versions.node}`;
  const redis = `Redis ${await readRedisVersion(redisUrl)}`;
  return `${availableParallelism()} cores of ${model}, ${gigabytes} GiB, ${system}, ${node}, ${rows[0]?.version}, ${redis}`;
}

async function readRedisVersion(redisUrl: string): Promise<string> {
  const redis = new Redis(redisUrl);
  try {
    const [, version = "unknown"] = /redis_version:(\S+)/.exec(await redis.info("server")) ?? [];
    return version;
  } finally {
    redis.disconnect();
  }
}
