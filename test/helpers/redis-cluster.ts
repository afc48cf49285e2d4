import type { Redis } from "ioredis";
import { mergeClaims, parseClusterNodes, slotOf } from "../../src/shop/cluster-slots.ts";
import { createRedisNode, type RedisNode } from "../chaos/redis-node.ts";
import { chooseLastingPort } from "./free-port.ts";
import { until } from "./until.ts";

/** Three masters and three replicas of a test's own; they end with the process that started them. */
export interface RedisCluster {
  /** All nodes: what began as masters, then what began as their replicas. */
  readonly nodes: readonly RedisNode[];
  /** The addresses of the first three nodes, as REDIS_URL takes them. */
  readonly url: string;
  /** The node that serves a shop, as the nodes that run now say. */
  masterOf(shopId: string): Promise<RedisNode>;
  /** The nodes that serve slots. */
  masters(): Promise<readonly RedisNode[]>;
  /** A replica of the node that serves a shop. */
  replicaOf(shopId: string): Promise<RedisNode>;
  /** Moves a shop's slot to another master, key by key, with `between` run after each key. Returns that master. */
  migrate(shopId: string, between?: () => Promise<unknown>): Promise<RedisNode>;
  /** Works on the node that serves a shop. */
  useRedis<Value>(shopId: string, work: (client: Redis) => Promise<Value>): Promise<Value>;
  /** Starts what does not run, wakes what is stopped, and waits until all slots are served and all replicas follow. */
  mend(): Promise<void>;
  stop(): Promise<void>;
}

/** How long a node may be silent before the others take it for dead, in milliseconds. */
export const nodeTimeoutMs = 1500;

const slotsPerMaster = Math.ceil(16_384 / 3);

/** Starts a cluster on free ports, with folders in `folder`. */
export async function startRedisCluster(folder: string): Promise<RedisCluster> {
  const nodes: RedisNode[] = [];
  const busPorts: number[] = [];
  for (let index = 0; index < 6; index += 1) {
    const busPort = await chooseLastingPort();
    busPorts.push(busPort);
    nodes.push(await createRedisNode(folder, `cluster-${index}`, settingsOf(busPort), await chooseLastingPort()));
  }
  await Promise.all(nodes.map((node) => node.start("empty")));
  await form(nodes, busPorts);

  const running = new Set(nodes);
  const paused = new Set<RedisNode>();
  const wrapped = nodes.map((node) => ({
    ...node,
    start: async (from: "empty" | "snapshot") => {
      await node.start(from);
      running.add(node);
    },
    kill: async () => {
      running.delete(node);
      paused.delete(node);
      await node.kill();
    },
    signal: (signal: "SIGSTOP" | "SIGCONT") => {
      node.signal(signal);
      paused[signal === "SIGSTOP" ? "add" : "delete"](node);
    },
  }));
  const alive = () => wrapped.filter((_, index) => isAlive(nodes[index] as RedisNode));
  const isAlive = (node: RedisNode): boolean => running.has(node) && !paused.has(node);
  const nodeAt = (address: string): RedisNode => wrapped.find(({ url }) => url.endsWith(address)) as RedisNode;
  const views = () => Promise.all(alive().map((node) => viewOf(node)));

  const masterOf = async (shopId: string): Promise<RedisNode> => {
    const address = mergeClaims(await views())[slotOf(`{${shopId}}`)];
    if (address === undefined) throw new Error(`nobody serves shop ${shopId}`);
    return nodeAt(address);
  };
  const replicaOf = async (shopId: string): Promise<RedisNode> => {
    const id = await idOf(await masterOf(shopId));
    for (const node of alive()) {
      const myself = String(await node.command("CLUSTER", "NODES"))
        .split("\n")
        .find((line) => line.includes("myself"));
      if (myself?.includes(` ${id} `) === true) return node;
    }
    throw new Error(`the node of shop ${shopId} has no replica`);
  };
  return {
    nodes: wrapped,
    url: wrapped
      .slice(0, 3)
      .map(({ url }) => url)
      .join(","),
    masterOf,
    masters: async () =>
      [...new Set(mergeClaims(await views()))].flatMap((each) => (each === undefined ? [] : nodeAt(each))),
    replicaOf,
    useRedis: async (shopId, work) => (await masterOf(shopId)).use(work),
    migrate: async (shopId, between) => {
      const source = await masterOf(shopId);
      const owners = new Set(mergeClaims(await views()));
      const address = [...owners].find((each) => each !== undefined && !source.url.endsWith(each)) as string;
      const target = nodeAt(address);
      await migrateSlot(String(slotOf(`{${shopId}}`)), source, target, between);
      return target;
    },
    mend: async () => {
      for (const node of wrapped) node.signal("SIGCONT");
      for (const [index, node] of nodes.entries()) {
        if (!running.has(node)) await (wrapped[index] as RedisNode).start("empty");
      }
      await until("the cluster is whole", () => isWhole(nodes), 30_000);
    },
    stop: async () => {
      await Promise.all(nodes.map((node) => node.kill()));
    },
  };
}

function settingsOf(busPort: number): Readonly<Record<string, string>> {
  return {
    "cluster-enabled": "yes",
    "cluster-port": String(busPort),
    "cluster-config-file": "nodes.conf",
    "cluster-node-timeout": String(nodeTimeoutMs),
    // A replica takes over however old its data is, and one shard that is away stops nobody else.
    "cluster-replica-validity-factor": "0",
    "cluster-require-full-coverage": "no",
    "cluster-allow-replica-migration": "no",
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
  };
}

async function form(nodes: readonly RedisNode[], busPorts: readonly number[]): Promise<void> {
  const [first] = nodes as [RedisNode, ...RedisNode[]];
  for (const [index, node] of nodes.entries()) {
    await node.command("CLUSTER", "SET-CONFIG-EPOCH", String(index + 1));
    if (index < 3) {
      const last = Math.min((index + 1) * slotsPerMaster, 16_384) - 1;
      await node.command("CLUSTER", "ADDSLOTSRANGE", String(index * slotsPerMaster), String(last));
    }
    if (index > 0) await first.command("CLUSTER", "MEET", "127.0.0.1", portOf(node), String(busPorts[index]));
  }
  for (const [index, replica] of nodes.slice(3).entries()) {
    const masterId = await idOf(nodes[index] as RedisNode);
    const follows = () =>
      replica.command("CLUSTER", "REPLICATE", masterId).then(
        () => true,
        () => false,
      );
    await until("a replica knows its master", follows, 30_000);
  }
  await until("the cluster is whole", () => isWhole(nodes), 30_000);
}

/** Everybody agrees who serves what, and every replica follows its master. */
async function isWhole(nodes: readonly RedisNode[]): Promise<boolean> {
  const states = await Promise.all(
    nodes.map(async (node) => {
      const [cluster, replication] = await node.use((client) =>
        Promise.all([client.cluster("INFO"), client.info("replication")]),
      );
      const isThere = /cluster_state:ok/.test(String(cluster)) && /cluster_known_nodes:6/.test(String(cluster));
      const isReplica = /role:slave/.test(replication);
      return { isRight: isThere && (!isReplica || /master_link_status:up/.test(replication)), isReplica };
    }),
  );
  const slots = (await Promise.all(nodes.map(viewOf))).map((view) => JSON.stringify(mergeClaims([view])));
  return (
    states.every(({ isRight }) => isRight) &&
    states.filter(({ isReplica }) => isReplica).length === 3 &&
    new Set(slots).size === 1
  );
}

async function viewOf(node: RedisNode) {
  return parseClusterNodes(String(await node.command("CLUSTER", "NODES")), "127.0.0.1");
}

async function idOf(node: RedisNode): Promise<string> {
  return String(await node.command("CLUSTER", "MYID"));
}

function portOf({ url }: RedisNode): string {
  return new URL(url).port;
}

/** What `redis-cli --cluster reshard` does, with time between the keys in which callers meet a slot that is in two places. */
async function migrateSlot(
  slot: string,
  source: RedisNode,
  target: RedisNode,
  between: () => Promise<unknown> = async () => {},
): Promise<void> {
  const [sourceId, targetId] = await Promise.all([idOf(source), idOf(target)]);
  await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", sourceId);
  await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", targetId);
  await source.use(async (client) => {
    for (;;) {
      const [key] = (await client.call("CLUSTER", "GETKEYSINSLOT", slot, "1")) as string[];
      if (key === undefined) return;
      await client.call("MIGRATE", "127.0.0.1", portOf(target), key, "0", "5000");
      await between();
    }
  });
  await target.command("CLUSTER", "SETSLOT", slot, "NODE", targetId);
  await source.command("CLUSTER", "SETSLOT", slot, "NODE", targetId);
}
