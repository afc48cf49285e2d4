import type { TcpProxy } from "../helpers/proxy.ts";
import { openBasis } from "./basis.ts";
import { createRedisNode, type RedisNode } from "./redis-node.ts";
import type { World } from "./world.ts";

/** A world whose Redis is one master and one replica, with a network between them and every server. */
export interface SingleWorld extends World {
  /** The Redis that servers talk to, when nothing else was said. */
  readonly master: RedisNode;
  readonly replica: RedisNode;
  /** Lets servers talk to a node from now on; all of them, or those at some places. */
  point(node: RedisNode, servers?: readonly number[]): void;
  /** The replica is the master from now on, and the other way round. */
  swap(): void;
  /** The proxies between the servers and Redis. */
  readonly redisProxies: readonly TcpProxy[];
}

/** Starts a world with so many servers. `folder` must let everybody pass, because PostgreSQL does not run as root. */
export async function startSingleWorld(
  folder: string,
  serverCount: number,
  settings: Readonly<Record<string, string>>,
): Promise<SingleWorld> {
  const nodes = [await createRedisNode(folder, "redis-a"), await createRedisNode(folder, "redis-b")];
  let [master, replica] = nodes as [RedisNode, RedisNode];
  await Promise.all(nodes.map((node) => node.start("empty")));
  const basis = await openBasis({
    folder,
    serverCount,
    settings,
    redisUrls: [master.url],
    isCluster: false,
    emptyRedis: () => master.command("FLUSHALL"),
  });
  const { servers } = basis;
  const redisProxies = servers.flatMap((server) => server.redisProxies);

  const point = (node: RedisNode, places: readonly number[] = servers.map((_, index) => index)): void => {
    for (const place of places) for (const proxy of servers[place]?.redisProxies ?? []) proxy.retarget(node.url);
  };
  /** The replica has everything the master has, and goes on following it. */
  const follow = async (): Promise<void> => {
    const { hostname, port } = new URL(master.url);
    await replica.command("REPLICAOF", hostname, port);
    await replica.use(async (client) => {
      while (!/master_link_status:up/.test(await client.info("replication"))) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    });
  };
  return {
    ...basis,
    get master() {
      return master;
    },
    get replica() {
      return replica;
    },
    redisProxies,
    point,
    swap: () => {
      [master, replica] = [replica, master];
    },
    useRedis: (_, work) => master.use(work),
    mend: async () => {
      await basis.mend();
      await follow();
    },
    renew: async () => {
      await follow();
      await basis.renew();
    },
    close: async () => {
      await basis.close();
      await Promise.all(nodes.map((node) => node.kill()));
    },
  };
}
