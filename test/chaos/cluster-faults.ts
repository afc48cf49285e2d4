import { setTimeout as pause } from "node:timers/promises";
import { until } from "../helpers/until.ts";
import type { ClusterWorld } from "./cluster-world.ts";
import { commonFaults } from "./common-faults.ts";
import type { Fault } from "./fault.ts";
import type { RedisNode } from "./redis-node.ts";

/** What happens to a cluster; always to the node that serves the round's shop. */
const redisFaults: readonly Fault<ClusterWorld>[] = [
  {
    name: "slot migration",
    uses: ["redis"],
    weight: 4,
    run: async ({ world, shopId, random }) => {
      for (let count = random.between(1, 3); count > 0; count -= 1) {
        await world.cluster.migrate(shopId, () => pause(random.between(0, 60)));
        await pause(random.between(0, 200));
      }
    },
  },
  {
    name: "failover",
    uses: ["redis"],
    weight: 3,
    run: async ({ world, shopId, random }) => {
      const master = await world.cluster.masterOf(shopId);
      await master.kill();
      await isReplaced(world, shopId, master);
      await pause(random.between(0, 500));
      // It is a replica now, and empty.
      await master.start("empty");
    },
  },
  {
    name: "master comes back empty",
    uses: ["redis"],
    weight: 2,
    run: async ({ world, shopId, random }) => {
      const master = await world.cluster.masterOf(shopId);
      await master.kill();
      await pause(random.between(0, 300));
      // Before anybody takes it for dead: it is a master still, and has nothing.
      await master.start("empty");
    },
  },
  {
    name: "graceful failover",
    uses: ["redis"],
    weight: 3,
    run: async ({ world, shopId, random }) => {
      const master = await world.cluster.masterOf(shopId);
      const replica = await world.cluster.replicaOf(shopId);
      await replica.command("CLUSTER", "FAILOVER");
      await isReplaced(world, shopId, master);
      await pause(random.between(0, 300));
    },
  },
  {
    name: "forced failover",
    uses: ["redis"],
    forks: true,
    weight: 2,
    run: async ({ world, shopId }) => {
      const master = await world.cluster.masterOf(shopId);
      const replica = await world.cluster.replicaOf(shopId);
      // Nobody is asked: both are masters until the others have told the first one.
      await replica.command("CLUSTER", "FAILOVER", "TAKEOVER");
      await isReplaced(world, shopId, master);
    },
  },
  {
    name: "partition",
    uses: ["redis"],
    forks: true,
    weight: 3,
    run: async ({ world, shopId, random }) => {
      const master = await world.cluster.masterOf(shopId);
      master.signal("SIGSTOP");
      await isReplaced(world, shopId, master);
      await pause(random.between(0, 300));
      // It takes itself for the master until the others have told it, and does what it was sent meanwhile.
      master.signal("SIGCONT");
    },
  },
];

function isReplaced(world: ClusterWorld, shopId: string, master: RedisNode): Promise<void> {
  const isAnother = async () => (await world.cluster.masterOf(shopId)).url !== master.url;
  return until("a replica became the master", () => isAnother().catch(() => false), 30_000);
}

/** The faults of a world with a Redis Cluster. */
export const clusterFaults: readonly Fault<ClusterWorld>[] = [...commonFaults, ...redisFaults];
