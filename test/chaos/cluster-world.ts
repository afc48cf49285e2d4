import { type RedisCluster, startRedisCluster } from "../helpers/redis-cluster.ts";
import { openBasis } from "./basis.ts";
import type { World } from "./world.ts";

/** A world whose Redis is a cluster of three masters and three replicas. */
export interface ClusterWorld extends World {
  readonly cluster: RedisCluster;
}

/** Starts a world with so many servers. `folder` must let everybody pass, because PostgreSQL does not run as root. */
export async function startClusterWorld(
  folder: string,
  serverCount: number,
  settings: Readonly<Record<string, string>>,
): Promise<ClusterWorld> {
  const cluster = await startRedisCluster(folder);
  const emptyRedis = async (): Promise<void> => {
    await cluster.mend();
    for (const master of await cluster.masters()) await master.command("FLUSHALL");
  };
  const basis = await openBasis({
    folder,
    serverCount,
    settings,
    redisUrls: cluster.url.split(","),
    isCluster: true,
    emptyRedis,
  });
  return {
    ...basis,
    cluster,
    useRedis: (shopId, work) => cluster.useRedis(shopId, work),
    mend: async () => {
      await basis.mend();
      await cluster.mend();
    },
    close: async () => {
      await basis.close();
      await cluster.stop();
    },
  };
}
