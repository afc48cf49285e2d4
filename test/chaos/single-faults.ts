import { setTimeout as pause } from "node:timers/promises";
import { commonFaults, cutAgain, dropAnswers, slowDown } from "./common-faults.ts";
import type { Fault } from "./fault.ts";
import type { SingleWorld } from "./single-world.ts";

/** What happens to a Redis with one replica. */
const redisFaults: readonly Fault<SingleWorld>[] = [
  {
    name: "redis comes back empty",
    uses: ["redis"],
    weight: 3,
    run: async ({ world, random }) => {
      await world.master.kill();
      await pause(random.between(0, 300));
      await world.master.start("empty");
    },
  },
  {
    name: "flushall",
    uses: ["redis"],
    weight: 2,
    run: async ({ world }) => {
      await world.master.command("FLUSHALL");
    },
  },
  {
    name: "lost tail",
    uses: ["redis"],
    weight: 3,
    run: async ({ world, random }) => {
      const { master, replica } = world;
      await replica.command("REPLICAOF", "NO", "ONE");
      await pause(random.between(30, 600));
      await master.kill();
      world.swap();
      world.point(replica);
      await master.start("empty");
    },
  },
  {
    name: "old snapshot",
    uses: ["redis"],
    weight: 2,
    run: async ({ world, random }) => {
      await world.master.command("SAVE");
      await pause(random.between(30, 800));
      await world.master.kill();
      await world.master.start("snapshot");
    },
  },
  {
    name: "fork",
    uses: ["redis", "redis network"],
    forks: true,
    weight: 3,
    run: async ({ world, random }) => {
      const { replica, servers } = world;
      await replica.command("REPLICAOF", "NO", "ONE");
      const moved = random.below(servers.length);
      world.point(
        replica,
        random.chance(50) ? [moved] : servers.map((_, index) => index).filter((each) => each !== moved),
      );
      await pause(random.between(300, 1500));
      if (random.chance(50)) world.swap();
      world.point(world.master);
    },
  },
  {
    name: "redis replies dropped",
    uses: ["redis network"],
    weight: 3,
    run: ({ world, random }) => dropAnswers(world.redisProxies, random),
  },
  {
    name: "redis connections cut",
    uses: ["redis network"],
    weight: 1,
    run: ({ world, random }) => cutAgain(world.redisProxies, random),
  },
  {
    name: "redis slow",
    uses: ["redis network"],
    weight: 1,
    run: ({ world, random }) => slowDown(world.redisProxies, random),
  },
];

/** The faults of a world with a single Redis. */
export const singleFaults: readonly Fault<SingleWorld>[] = [...commonFaults, ...redisFaults];
