import { setTimeout as pause } from "node:timers/promises";
import type { Redis } from "ioredis";
import { StartError } from "../start-error.ts";
import { createClusterHints } from "./cluster-hints.ts";
import { createClusterMap } from "./cluster-map.ts";
import { completeAddress, slotOf } from "./cluster-slots.ts";
import type { ShopKeys } from "./keys.ts";
import type { RedisOptions, ScriptRunner } from "./redis.ts";
import { classified, evaluate, exchangeLibraries, gatherWrites, RedisUnavailable } from "./redis-functions.ts";
import type { Script } from "./scripts.ts";

/** How long a call follows redirections and waits for a slot that is on its way to another node, in milliseconds. */
const redirectMs = 500;
/** How long it waits before it asks for a slot on its way again, in milliseconds. */
const tryAgainMs = 15;

/**
 * Connects to a Redis Cluster: every script goes to the master that serves its shop's slot. Invariant: a script is sent
 * again only after a reply that says that it did not run (MOVED, ASK, TRYAGAIN). ioredis' own Cluster also sends again when
 * the connection was lost and the script may have run, which is why this is not made of it (docs/adr/0013-redis-cluster.md).
 */
export async function connectCluster(options: RedisOptions): Promise<ScriptRunner> {
  refuseDatabase(options.url);
  const map = await createClusterMap(options);
  const hints = createClusterHints(map);

  const route = async (
    door: "commands" | "reads",
    script: Script,
    keys: ShopKeys,
    args: readonly (string | number)[],
  ): Promise<unknown> => {
    const slot = slotOf(keys.meta as string);
    const endsAtMs = performance.now() + redirectMs;
    let askAt: string | undefined;
    for (;;) {
      const node = map.nodeFor(slot, askAt);
      if (node?.isUsable !== true) {
        throw new RedisUnavailable("not run", new Error(`the node of slot ${slot} is away`));
      }
      await node.firstConnected;
      const client = node[door];
      if (askAt !== undefined) {
        // Holds for the very next command of the connection; when it fails, that one is redirected again.
        client.asking().catch(() => {});
      }
      try {
        return await evaluate(client, script, keys, args);
      } catch (error) {
        const redirection = redirectionOf(error, node.host);
        askAt = undefined;
        if (redirection === undefined || performance.now() > endsAtMs) {
          map.doubt(error);
          throw error;
        }
        if (redirection.kind === "TRYAGAIN") {
          await pause(tryAgainMs);
        } else if (redirection.kind === "ASK") {
          askAt = redirection.address;
        } else {
          map.moved(slot, redirection.address);
        }
      }
    }
  };

  return {
    run: (script, keys, args) => route("commands", script, keys, args),
    aside: (script, keys, args) => route("reads", script, keys, args),
    subscribe: (channel, onHint) => hints.subscribe(channel, onHint),
    publish: async (channel, message) => {
      const node = map.masters.find(({ isUsable }) => isUsable);
      if (node === undefined) {
        throw new RedisUnavailable("not run", new Error("no node of the cluster answers"));
      }
      gatherWrites(node.reads);
      await node.reads.publish(channel, message).catch((error) => {
        throw classified(error);
      });
    },
    database: 0,
    get generation() {
      return map.generation;
    },
    ping: async () => {
      await map.look().finally(() => hints.moveFromAway());
    },
    get connections() {
      return readyConnections(map.masters.map(({ commands }) => commands));
    },
    load: async (library) => {
      const clients = readyConnections(map.masters.map(({ commands }) => commands));
      await Promise.all(clients.map((client) => exchangeLibraries(client, library)));
    },
    close: async () => {
      hints.close();
      map.close();
    },
  };
}

/** A master that is away at a start is not looked at: what it lacks is loaded when it is first used. */
function readyConnections(clients: readonly Redis[]): readonly Redis[] {
  return clients.filter(({ status }) => status === "ready");
}

function refuseDatabase(url: string): void {
  const [first = ""] = url.split(",");
  if (!["", "/", "/0"].includes(new URL(first).pathname)) {
    throw new StartError("REDIS_URL names a database, and a Redis Cluster has only 0: leave it out");
  }
}

type Redirection = { readonly kind: "TRYAGAIN" } | { readonly kind: "ASK" | "MOVED"; readonly address: string };

/** Where a script is to be run instead of a node that did not run it. */
function redirectionOf(error: unknown, askedHost: string): Redirection | undefined {
  if (!(error instanceof RedisUnavailable && error.cause instanceof Error)) {
    return undefined;
  }
  const [kind, , place = ""] = error.cause.message.split(" ");
  if (kind === "TRYAGAIN") {
    return { kind };
  }
  const address = completeAddress(place, askedHost);
  return (kind === "ASK" || kind === "MOVED") && address !== undefined ? { kind, address } : undefined;
}
