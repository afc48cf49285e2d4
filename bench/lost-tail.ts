import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { startPrivateRedis } from "../src/dev/private-redis.ts";

/**
 * Has Redis lose what `work` does, as a failover to a replica that lagged does: a second Redis takes everything over before,
 * stops listening, and is what Redis has to follow afterwards. Returns what `then` does, as soon as Redis is a master again.
 */
export async function loseTail<Value>(
  redisUrl: string,
  work: () => Promise<void>,
  then: () => Promise<Value>,
): Promise<Value> {
  const dataDir = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  await using cleanUp = new AsyncDisposableStack();
  cleanUp.defer(() => rm(dataDir, { recursive: true, force: true }));
  const laggard = await startPrivateRedis({ dataDir, persist: false });
  cleanUp.defer(() => laggard.stop());
  await follow(laggard.url, redisUrl);
  await work();
  await follow(redisUrl, laggard.url);
  return await then();
}

/** Makes a Redis a copy of another, and a master again. */
async function follow(followerUrl: string, leaderUrl: string): Promise<void> {
  const leader = new URL(leaderUrl);
  const follower = new Redis(followerUrl);
  try {
    await follower.config("SET", "masterauth", decodeURIComponent(leader.password));
    await follower.config("SET", "repl-diskless-load", "swapdb");
    await follower.replicaof(leader.hostname, Number(leader.port));
    while (!/master_link_status:up/.test(await follower.info("replication"))) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await follower.replicaof("NO", "ONE");
  } finally {
    follower.disconnect();
  }
}

/** The id of a user of a large shop, from 1 on. */
export function largeShopUser(number: number): string {
  return `user-${createHash("md5").update(String(number)).digest("hex").slice(0, 8)}-${number}`;
}
