import { Redis } from "ioredis";
import { StartError } from "../start-error.ts";
import { tellCertificate } from "../untrusted-certificate.ts";
import { type ClusterNode, createClusterNode, urlOfNode } from "./cluster-node.ts";
import { type ClusterView, mergeClaims, parseClusterNodes } from "./cluster-slots.ts";
import type { RedisOptions } from "./redis.ts";
import { answeredInTime, modeOf } from "./redis-functions.ts";

/** Which master serves which slot, as this process knows it; it learns more whenever something contradicts that. */
export interface ClusterMap {
  /** The masters that serve slots. */
  readonly masters: readonly ClusterNode[];
  /** How often a connection was made or a slot changed hands. */
  readonly generation: number;
  /** The master of a slot, or the node at an address that another one named. */
  nodeFor(slot: number, address?: string): ClusterNode | undefined;
  /** A node said who serves a slot. */
  moved(slot: number, address: string): void;
  /** Something failed: slots may have changed hands. */
  doubt(reason: unknown): void;
  /** Asks every master how it is, and once a second who serves what. Rejects when none of them can be used. */
  look(): Promise<void>;
  /** The address of any node, with protocol and credentials. */
  urlOf(node: ClusterNode): string;
  close(): void;
}

/** How old what is known may get without a reason to doubt it, in milliseconds. */
const learnMs = 1000;
/** How often it is learnt at most, in milliseconds: every call that fails asks for it. */
const pauseMs = 100;

/** Learns from the nodes of REDIS_URL who serves what. Throws a StartError when none of them answers, or one is no cluster. */
export async function createClusterMap(options: RedisOptions): Promise<ClusterMap> {
  const seeds = options.url.split(",").map((url) => url.trim()) as [string, ...string[]];
  const nodes = new Map<string, ClusterNode>();
  let addresses: readonly string[] = [];
  let slots: (string | undefined)[] = [];
  let masters: readonly ClusterNode[] = [];
  let generation = 0;
  let learntAtMs = Number.NEGATIVE_INFINITY;
  let isClosed = false;

  const nodeAt = (address: string): ClusterNode => {
    const known = nodes.get(address);
    if (known !== undefined) {
      if (known.idleSinceMs !== undefined) {
        known.idleSinceMs = performance.now(); // it serves nothing yet, and a slot is on its way to it
      }
      return known;
    }
    const node = createClusterNode({
      ...options,
      address,
      url: seeds[0],
      onConnect: () => {
        generation += 1;
      },
      onLost: () => doubt(),
    });
    nodes.set(address, node);
    return node;
  };

  const take = (views: readonly ClusterView[]): void => {
    if (isClosed) {
      return; // what is connected to now nobody would close
    }
    const learnt = mergeClaims(views);
    if (learnt.some((address, slot) => address !== slots[slot])) {
      generation += 1;
    }
    slots = learnt;
    addresses = [...new Set(views.flatMap((view) => view.addresses))];
    masters = [...new Set(slots)].filter((address) => address !== undefined).map(nodeAt);
    closeIdle();
  };

  /**
   * A node that serves nothing may still owe answers, and closing would pass them off as scripts that did not run: it is left
   * alone for as long as they may take, a library and then a script.
   */
  const closeIdle = (): void => {
    const nowMs = performance.now();
    for (const [address, node] of nodes) {
      node.idleSinceMs = masters.includes(node) ? undefined : (node.idleSinceMs ?? nowMs);
      if (node.idleSinceMs !== undefined && nowMs - node.idleSinceMs > 2 * options.commandTimeoutMs) {
        nodes.delete(address);
        node.close();
      }
    }
  };

  const learn = async (): Promise<void> => {
    learntAtMs = performance.now();
    const connected = masters.filter(({ commands }) => commands.status === "ready");
    const usable = connected.filter(({ isUsable }) => isUsable);
    const asked = usable.length > 0 ? usable : connected;
    const views = await Promise.all(asked.map(({ commands, host }) => askView(commands, host)));
    const known = views.filter((view) => view !== undefined);
    if (known.length > 0) {
      return take(known);
    }
    // Nobody whom this process knows as a master is there: any other node knows who is now.
    const urls = [...addresses.map((address) => urlOfNode(seeds[0], address)), ...seeds];
    const answers = await Promise.all(urls.map((url) => askStranger(url).catch(() => undefined)));
    const others = answers.filter((view) => view !== undefined);
    if (others.length > 0) {
      take(others);
    }
  };
  let learning: Promise<void> | undefined;
  const learnAgain = (): Promise<void> => {
    learning ??= learn()
      .catch(() => {}) // it is asked again soon
      .finally(() => {
        learning = undefined;
      });
    return learning;
  };
  const doubt = (): void => {
    if (!isClosed && performance.now() - learntAtMs > pauseMs) {
      void learnAgain();
    }
  };

  take(await askSeeds(seeds));
  await Promise.all(masters.map(({ firstConnected }) => firstConnected));

  return {
    get masters() {
      return masters;
    },
    get generation() {
      return generation;
    },
    nodeFor: (slot, address = slots[slot]) => (address === undefined ? undefined : nodeAt(address)),
    moved: (slot, address) => {
      if (slots[slot] !== address) {
        slots[slot] = address;
        generation += 1;
      }
      doubt();
    },
    doubt,
    look: async () => {
      if (performance.now() - learntAtMs > learnMs) {
        await learnAgain();
      }
      const failures = await Promise.all(masters.map(findFailure));
      if (failures.every((failure) => failure !== undefined)) {
        throw failures[0] ?? new Error("no node of the cluster serves a slot");
      }
    },
    urlOf: ({ address }) => urlOfNode(seeds[0], address),
    close: () => {
      isClosed = true;
      for (const node of nodes.values()) {
        node.close();
      }
    },
  };
}

/** Undefined when a node cannot say within a second. */
async function askView(client: Redis, host: string): Promise<ClusterView | undefined> {
  const text = await answeredInTime(client.cluster("NODES")).catch(() => undefined);
  return typeof text === "string" ? parseClusterNodes(text, host) : undefined;
}

/** Notes whether a node can be used, and says why not. */
async function findFailure(node: ClusterNode): Promise<Error | undefined> {
  const { commands, reads, address } = node;
  try {
    if (commands.status !== "ready" || reads.status !== "ready") {
      throw new Error("the connection was lost");
    }
    if (!/^cluster_state:ok/m.test(String(await answeredInTime(commands.cluster("INFO"))))) {
      throw new Error("it says that its cluster is down");
    }
    node.isUsable = true;
    return undefined;
  } catch (error) {
    node.isUsable = false;
    return new Error(`${address}: ${error instanceof Error ? error.message : error}`);
  }
}

/** What the nodes of REDIS_URL say at a start. */
async function askSeeds(seeds: readonly string[]): Promise<readonly ClusterView[]> {
  const answers = await Promise.allSettled(seeds.map(askStranger));
  const failures = answers.flatMap((answer) => (answer.status === "rejected" ? [answer.reason as Error] : []));
  const refusal = failures.find((failure) => failure instanceof StartError);
  if (refusal !== undefined) {
    throw refusal;
  }
  const views = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
  if (views.every(({ claims }) => claims.length === 0)) {
    const reason = failures[0] ? tellCertificate(failures[0]) : "none of them knows a master that serves slots";
    throw new StartError(
      `Redis Cluster cannot be reached: ${reason}. Check REDIS_URL, or leave it unset for a private one`,
    );
  }
  return views;
}

/** How long a node that is only asked once may take, in milliseconds. */
const strangerMs = 5000;

/** Asks a node over a connection of its own. */
async function askStranger(url: string): Promise<ClusterView> {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null, connectTimeout: strangerMs });
  let reason: Error | undefined;
  client.on("error", (error) => {
    reason = error;
  });
  try {
    await client.connect().catch((error) => {
      throw reason ?? error; // connect() itself only says that the connection was closed
    });
    if ((await answeredInTime(modeOf(client))) !== "cluster") {
      const { host } = new URL(url);
      throw new StartError(
        `REDIS_URL names several servers, and ${host} is no node of a Redis Cluster: give the nodes of one, or one address`,
      );
    }
    return parseClusterNodes(String(await answeredInTime(client.cluster("NODES"))), new URL(url).hostname);
  } finally {
    client.disconnect();
  }
}
