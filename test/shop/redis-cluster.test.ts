import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { loadConfig } from "../../src/config.ts";
import { runDemo } from "../../src/demo/run-demo.ts";
import { openRateLimits } from "../../src/server/rate-limits.ts";
import { slotOf } from "../../src/shop/cluster-slots.ts";
import { shopKeys } from "../../src/shop/keys.ts";
import { connectRedis, RedisUnavailable } from "../../src/shop/redis.ts";
import { loadScripts } from "../../src/shop/scripts.ts";
import { createRedisNode, type RedisNode } from "../chaos/redis-node.ts";
import { type Acknowledged, auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { commitOf, persist } from "../helpers/load.ts";
import { startProxy } from "../helpers/proxy.ts";
import { type RedisCluster, startRedisCluster } from "../helpers/redis-cluster.ts";
import { readRefusal } from "../helpers/refusals.ts";
import { createDatabase, createTemporaryFolder, type TestDatabase } from "../helpers/servers.ts";
import { createUser, stockProduct, uniqueId } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";

let folder: string;
let cluster: RedisCluster;
let database: TestDatabase;
let servers: Holdfast[];

beforeAll(async () => {
  folder = await createTemporaryFolder();
  [cluster, database] = await Promise.all([startRedisCluster(folder), createDatabase()]);
  // The second one knows one node only, which tells it the others.
  const [first = ""] = cluster.url.split(",");
  const stores = [cluster.url, first].map((redisUrl) => ({ redisUrl, databaseUrl: database.url }));
  servers = await Promise.all(stores.map(startHoldfast));
}, 60_000);

afterAll(async () => {
  await Promise.all((servers ?? []).map((server) => server.stop()));
  await cluster?.stop();
  await database?.drop();
  await rm(folder, { recursive: true, force: true });
});

/** One shop on each of the three masters. */
async function openShops(): Promise<readonly string[]> {
  const shopOfNode = new Map<string, string>();
  for (let count = 0; shopOfNode.size < 3 && count < 1000; count += 1) {
    const shopId = uniqueId("shop");
    shopOfNode.set((await cluster.masterOf(shopId)).url, shopId);
  }
  const shopIds = [...shopOfNode.values()];
  await Promise.all(
    shopIds.map(async (shopId, index) => {
      const { grpc } = servers[index % 2] as Holdfast;
      // On a machine this busy a store may seem away for a moment.
      await persist(() => grpc.admin.createShop({ shopId, currencyCode: "USD", requestId: "birth" }));
      await persist(() => stockProduct(grpc, shopId, "ps5", 100_000));
      await persist(() => createUser(grpc, shopId, "u", 1_000_000_000));
    }),
  );
  return shopIds;
}

/** Callers of some shops who go on until they are told to stop. */
function startSale(shopIds: readonly string[]) {
  let isOver = false;
  const sold = new Map<string, Acknowledged[]>(shopIds.map((shopId) => [shopId, []]));

  const buy = async (shopId: string, doors: Holdfast, holds: boolean): Promise<void> => {
    const requestId = uniqueId("r");
    const lines = [{ sku: "ps5", quantity: 1 }];
    const { grpc } = doors;
    for (;;) {
      try {
        const answer = holds
          ? await grpc.inventory.holdStock({ shopId, requestId, holdId: requestId, userId: "u", lines })
          : await grpc.orders.placeOrder({
              shopId,
              requestId,
              orderId: requestId,
              userId: "u",
              lines,
              paymentMethod: PaymentMethod.WALLET,
            });
        sold.get(shopId)?.push(commitOf(answer));
        return;
      } catch (error) {
        // Nothing else may ever reach a caller, and on a slow machine the end of the caller's patience.
        if (ConnectError.from(error).code !== Code.DeadlineExceeded) {
          expect(readRefusal(error)).toMatchObject({ code: Code.Unavailable, retryMs: expect.any(Number) });
        }
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    }
  };
  const callers = shopIds.flatMap((shopId) =>
    servers.flatMap((server) =>
      [0, 1].map(async (index) => {
        while (!isOver) await buy(shopId, server, index === 0);
      }),
    ),
  );
  const countOf = (shopId: string): number => sold.get(shopId)?.length ?? 0;
  return {
    goesOn: async (shopId: string, count = 20) => {
      const enough = countOf(shopId) + count;
      await until(`shop ${shopId} goes on selling`, () => countOf(shopId) >= enough, 20_000);
    },
    end: async () => {
      isOver = true;
      await Promise.all(callers);
      for (const [shopId, acknowledged] of sold) {
        const redisUrl = (await cluster.masterOf(shopId)).url;
        await auditShop({ databaseUrl: database.url, redisUrl, shopId }, acknowledged);
      }
    },
  };
}

function answersOf(path: string): Promise<readonly number[]> {
  return Promise.all(servers.map(async ({ httpUrl }) => (await fetch(`${httpUrl}${path}`)).status));
}

test("computes slots as Redis does", async () => {
  await cluster.nodes[0]?.use(async (client) => {
    for (const key of ["{default}:log", "{a}:meta", "{émile}:meta", "123456789", "{}x", "x{y}{z}"]) {
      expect([key, slotOf(key)]).toEqual([key, await client.cluster("KEYSLOT", key)]);
    }
  });
});

test("holds the demo's sale, and the audit agrees", async () => {
  const written: string[] = [];
  const exitCode = await runDemo({
    config: loadConfig({}),
    values: { buyers: "60", stock: "20" },
    openStores: async () => ({ redisUrl: cluster.url, databaseUrl: database.url, stop: async () => {} }),
    output: { write: (text) => written.push(text) },
  });
  expect(written.join("")).toContain("Everybody agrees.");
  expect(exitCode).toBe(0);
}, 30_000);

test("shops on all nodes sell while the slot of one goes to another node, key by key", async () => {
  const shopIds = await openShops();
  const [moving = ""] = shopIds;
  const sale = startSale(shopIds);
  await Promise.all(shopIds.map((shopId) => sale.goesOn(shopId)));
  const before = await cluster.masterOf(moving);
  const target = await cluster.migrate(moving, () => new Promise((resolve) => setTimeout(resolve, 60)));
  expect((await cluster.masterOf(moving)).url).toBe(target.url);
  expect(target.url).not.toBe(before.url);
  await Promise.all(shopIds.map((shopId) => sale.goesOn(shopId)));
  await sale.end();
}, 40_000);

test("a node is killed: only its shops wait, and its replica takes over", async () => {
  const shopIds = await openShops();
  const [hit = ""] = shopIds;
  const sale = startSale(shopIds);
  await Promise.all(shopIds.map((shopId) => sale.goesOn(shopId)));
  const master = await cluster.masterOf(hit);
  await master.kill();
  const others = shopIds.slice(1);
  await Promise.all(others.map((shopId) => sale.goesOn(shopId)));
  expect(await answersOf("/readyz"), "one node of three is away").toEqual([200, 200]);
  await sale.goesOn(hit);
  expect((await cluster.masterOf(hit)).url).not.toBe(master.url);
  await cluster.mend();
  await sale.goesOn(hit);
  await sale.end();
}, 60_000);

test("a replica takes over because an operator says so", async () => {
  const shopIds = await openShops();
  const [moved = ""] = shopIds;
  const sale = startSale(shopIds);
  await sale.goesOn(moved);
  const master = await cluster.masterOf(moved);
  await (await cluster.replicaOf(moved)).command("CLUSTER", "FAILOVER");
  await until("the replica is the master", async () => (await cluster.masterOf(moved)).url !== master.url);
  await sale.goesOn(moved);
  // The audit goes to one node, so all nodes have to agree which.
  await cluster.mend();
  await sale.end();
}, 40_000);

test("a master that was away comes back when its replica is one, too", async () => {
  const shopIds = await openShops();
  const [torn = ""] = shopIds;
  const sale = startSale(shopIds);
  await sale.goesOn(torn);
  const master = await cluster.masterOf(torn);
  master.signal("SIGSTOP");
  await until("its replica is the master", async () => (await cluster.masterOf(torn)).url !== master.url, 20_000);
  master.signal("SIGCONT");
  await Promise.all(shopIds.map((shopId) => sale.goesOn(shopId)));
  await cluster.mend();
  await sale.end();
}, 60_000);

test("watchers of another process are told of commits when the node that told them is gone", async () => {
  const [shopId = ""] = await openShops();
  const [one, two] = servers as [Holdfast, Holdfast];
  for (const node of cluster.nodes.slice(0, 3)) {
    await node.kill();
    await cluster.mend();
  }
  const stop = new AbortController();
  const seen: bigint[] = [];
  const watching = (async () => {
    for await (const { message } of two.grpc.events.watchEvents({ shopId }, { signal: stop.signal })) {
      if (message.case === "batch") seen.push(message.value.position);
    }
  })().catch(() => {});
  const sale = startSale([shopId]);
  await sale.goesOn(shopId);
  await sale.end();
  const { shop } = await one.grpc.admin.getShop({ shopId });
  await until("the watcher saw the head", () => seen.at(-1) === shop?.headPosition);
  expect(seen).toEqual([...new Set(seen)].sort((a, b) => Number(a - b)));
  stop.abort();
  await watching;
}, 60_000);

describe("a node whose answers get lost", () => {
  let node: RedisNode;

  beforeAll(async () => {
    node = await createRedisNode(folder, "alone", { "cluster-enabled": "yes", "cluster-config-file": "nodes.conf" });
  });
  afterAll(() => node.kill());

  test("is not sent a script again", async () => {
    await node.start("empty");
    const proxy = await startProxy(node.url);
    // The node tells the address of the proxy as its own.
    await node.command("CONFIG", "SET", "cluster-announce-port", new URL(proxy.url).port);
    await node.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
    await until("it serves", async () => /cluster_state:ok/.test(String(await node.command("CLUSTER", "INFO"))));
    const runner = await connectRedis({ url: node.url, commandTimeoutMs: 2000, onError: () => {} });
    try {
      const scripts = loadScripts();
      await runner.load(scripts.peek.library);
      const keys = shopKeys("a");
      await runner.run(scripts.peek, keys, []);
      await node.command("CONFIG", "RESETSTAT");
      const dropped = proxy.dropAnswer((request) => request.includes(scripts.peek.functionName));
      const error = await runner.run(scripts.peek, keys, []).catch((reason: unknown) => reason);
      await dropped;
      expect(error).toBeInstanceOf(RedisUnavailable);
      expect(error).toMatchObject({ outcome: "unknown" });
      await until("the connection is back", () =>
        runner.run(scripts.peek, keys, []).then(
          () => true,
          () => false,
        ),
      );
      const [, runCount] = /cmdstat_fcall:calls=(\d+)/.exec(String(await node.command("INFO", "commandstats"))) ?? [];
      expect(runCount, "one whose answer was lost, and one more").toBe("2");
    } finally {
      await runner.close();
      await proxy.stop();
    }
  });
});

test("the calls of a shop are counted on the node that serves their key, by all processes together", async () => {
  const [first = ""] = cluster.url.split(",");
  const options = { rates: { shop: 10 }, windowSeconds: 60, logger: pino({ level: "silent" }) };
  const processes = await Promise.all([cluster.url, first].map((redisUrl) => openRateLimits({ ...options, redisUrl })));
  onTestFinished(() => processes.forEach((limits) => void limits?.close()));
  for (const shopId of ["one", "two", "three", "four"]) {
    let takenCount = 0;
    for (let refusals = 0; refusals < 20; refusals += 1) {
      for (const limits of processes) {
        try {
          for (;;) {
            limits?.take("", shopId);
            takenCount += 1;
            refusals = 0;
          }
        } catch (error) {
          expect(error).toMatchObject({ reason: "RATE_LIMITED" });
        }
      }
      await sleep(5); // a lease on its way is there by then, and after the last one there are no more
    }
    expect(takenCount, shopId).toBeGreaterThanOrEqual(600 * 0.9);
    expect(takenCount, shopId).toBeLessThanOrEqual(600 * 1.1);
  }
});
