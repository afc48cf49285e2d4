import { setTimeout as pause } from "node:timers/promises";
import { openDoors } from "../helpers/holdfast.ts";
import type { TcpProxy } from "../helpers/proxy.ts";
import type { Random } from "./callers/random.ts";
import type { Fault } from "./fault.ts";
import type { ServerSlot } from "./server-slot.ts";
import type { World } from "./world.ts";

/** How long a stopped server stays stopped, in milliseconds: it wakes up as one who still thinks it flushes or rebuilds. */
const stoppedMs = 3000;

/** How long PostgreSQL is away, in milliseconds. */
const awayMs = 5000;

/** How long a server may take to start again while its stores are being broken, in milliseconds. */
const restartMs = 60_000;

/** What loses commits from Redis: never in a round in which PostgreSQL loses some, too. */
const redisLosses = [
  "redis comes back empty",
  "flushall",
  "lost tail",
  "old snapshot",
  "fork",
  "failover",
  "forced failover",
  "master comes back empty",
  "partition",
];

/** Starts a server again; it cannot while a store is away. */
export async function restart(server: ServerSlot, world: World): Promise<void> {
  const endsAt = performance.now() + restartMs;
  for (;;) {
    try {
      return await server.start(world.postgres.url);
    } catch (error) {
      if (performance.now() > endsAt) throw error;
      await pause(100);
    }
  }
}

/** The faults of every world. */
export const commonFaults: readonly Fault[] = [
  {
    name: "server killed",
    uses: ["server"],
    weight: 4,
    run: async ({ world, random }) => {
      const server = random.from(world.servers);
      await server.kill();
      await pause(random.between(0, 500));
      await restart(server, world);
    },
  },
  {
    name: "server stopped",
    uses: ["server"],
    weight: 1,
    run: async ({ world, random }) => {
      const server = random.from(world.servers);
      server.signal("SIGSTOP");
      await pause(stoppedMs);
      server.signal("SIGCONT");
    },
  },
  {
    name: "postgres killed",
    uses: ["postgres"],
    weight: 2,
    run: async ({ world, random }) => {
      await world.postgres.kill();
      await pause(random.between(0, 300));
      await world.postgres.start();
      world.pointToPostgres();
    },
  },
  {
    name: "postgres put back",
    uses: ["postgres"],
    weight: 2,
    without: redisLosses,
    prepare: async ({ world }) => {
      await world.postgres.keepCopy();
      world.pointToPostgres();
    },
    run: async ({ world, random }) => {
      await pause(random.between(200, 800));
      await world.postgres.kill();
      await world.postgres.putBack();
      await world.postgres.start();
      world.pointToPostgres();
    },
  },
  {
    name: "postgres refuses",
    uses: ["postgres network"],
    weight: 0.5,
    without: ["fork", "partition", "forced failover"],
    run: ({ world }) => forAWhile(postgresProxies(world), awayMs, "refuse", "accept"),
  },
  {
    name: "postgres hangs",
    uses: ["postgres network"],
    weight: 0.5,
    without: ["fork", "partition", "forced failover"],
    run: ({ world }) => forAWhile(postgresProxies(world), awayMs, "freeze", "thaw"),
  },
  {
    name: "postgres replies dropped",
    uses: ["postgres network"],
    weight: 3,
    run: ({ world, random }) => dropAnswers(postgresProxies(world), random),
  },
  {
    name: "postgres connections cut",
    uses: ["postgres network"],
    weight: 1,
    run: ({ world, random }) => cutAgain(postgresProxies(world), random),
  },
  {
    name: "postgres slow",
    uses: ["postgres network"],
    weight: 1,
    run: ({ world, random }) => slowDown(postgresProxies(world), random),
  },
  {
    name: "rebuild asked for",
    uses: ["shop"],
    weight: 1,
    run: async ({ world, shopId, random }) => {
      const { grpc, http } = random.from(world.servers).address;
      const doors = openDoors(grpc, http);
      try {
        for await (const _ of doors.grpc.admin.rebuildShop({ shopId })) {
          // it tells how far it is
        }
      } catch {
        // other faults may end it
      } finally {
        doors.close();
      }
    },
  },
];

function postgresProxies(world: World): readonly TcpProxy[] {
  return world.servers.map(({ postgresProxy }) => postgresProxy);
}

async function forAWhile<Name extends "refuse" | "accept" | "freeze" | "thaw">(
  proxies: readonly TcpProxy[],
  ms: number,
  begin: Name,
  end: Name,
): Promise<void> {
  for (const proxy of proxies) proxy[begin]();
  await pause(ms);
  for (const proxy of proxies) proxy[end]();
}

/** Answers get lost: what was asked for is done, and the connection is cut in place of the answer. */
export async function dropAnswers(proxies: readonly TcpProxy[], random: Random): Promise<void> {
  for (let count = 0; count < 8; count += 1) {
    // Whoever asks next; nobody has to.
    void random.from(proxies).dropAnswer(() => true);
    await pause(random.between(20, 150));
  }
  for (const proxy of proxies) proxy.dropNoMore();
}

export async function cutAgain(proxies: readonly TcpProxy[], random: Random): Promise<void> {
  for (let count = 0; count < 5; count += 1) {
    random.from(proxies).cut();
    await pause(random.between(20, 200));
  }
}

export async function slowDown(proxies: readonly TcpProxy[], random: Random): Promise<void> {
  const some = proxies.filter(() => random.chance(70));
  for (const proxy of some) proxy.delay(Math.round(random.between(5, 60)));
  await pause(random.between(500, 1500));
  for (const proxy of some) {
    proxy.delay(0);
    proxy.cut(); // what is still on its way would be overtaken
  }
}
