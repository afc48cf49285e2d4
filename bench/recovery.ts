import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { Client } from "pg";
import { RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { AdminService } from "../gen/holdfast/v1/admin_service_pb.js";
import { InventoryService } from "../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../gen/holdfast/v1/order_service_pb.js";
import { PaymentMethod } from "../gen/holdfast/v1/resources_pb.js";
import { UserService } from "../gen/holdfast/v1/user_service_pb.js";
import { createGrpcTransport } from "../src/client/grpc-transport.ts";
import { startChild } from "./child.ts";
import { readCpuTimeUs } from "./cpu-time.ts";
import type { HoldfastPorts, HoldfastRequest } from "./holdfast-server.ts";
import { fillLargeShop, type LargeShop } from "./large-shop.ts";
import { largeShopUser, loseTail } from "./lost-tail.ts";
import { median } from "./median.ts";
import { type BenchStores, startStores } from "./stores.ts";

const usage = `usage: npm run bench:recovery [-- --rounds N] [-- --users N] [-- --skus N] [-- --holds N] [-- --orders N] [-- --verify]

Fills a large shop in PostgreSQL, empties Redis and measures how long the shop takes to answer again, what its callers are told
meanwhile, and how much longer another shop's calls take. Then Redis goes back to what it was 1,000
commits ago, as after a failover to a replica that lagged. On private servers; takes about five minutes. --verify ends with VerifyShop.
`;

const shopId = "large";
const otherShopId = "other";

const { values } = parseArgs({
  options: {
    rounds: { type: "string" },
    users: { type: "string" },
    skus: { type: "string" },
    holds: { type: "string" },
    orders: { type: "string" },
    verify: { type: "boolean" },
    help: { type: "boolean" },
  },
});

type Clients = ReturnType<typeof createClients>;

function createClients(target: string, cleanUp: AsyncDisposableStack) {
  const transport = createGrpcTransport({ target, connectionCount: 1 });
  cleanUp.defer(() => transport.close());
  return {
    admin: createClient(AdminService, transport),
    inventory: createClient(InventoryService, transport),
    orders: createClient(OrderService, transport),
    users: createClient(UserService, transport),
  };
}

/** What happened while the shop was away. */
interface Recovery {
  readonly seconds: number;
  /** CPU time meanwhile: of the server, Redis and PostgreSQL. Other work on the machine does not change it much. */
  readonly cpuSeconds: readonly number[];
  /** How long another shop's calls took before and meanwhile, in milliseconds. */
  readonly usualMs: number;
  readonly medianMs: number;
  readonly worstMs: number;
  /** How long the first answer of a shop took that this process had not opened, in milliseconds. */
  readonly firstAnswerMs: number;
  /** What callers with 500 ms were told: how often, and the first hint and the last. */
  readonly refusedCount: number;
  readonly hintsMs: readonly number[];
  readonly longestScriptMs: number;
  readonly beforeMb: number;
  readonly peakMb: number;
}

async function time(call: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await call();
  return performance.now() - startedAt;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Empties Redis, and keeps the shop from being opened until its memory is free again: Redis frees it beside its work, which keeps
 * a core busy for seconds, and a Redis that came back empty has nothing to free. Leaves the transaction open that has the shop's row.
 */
async function losesAll(redis: Redis, database: Client): Promise<void> {
  await database.query("begin");
  await database.query("select from shops where shop_id = $1 for update", [shopId]);
  await redis.flushall("ASYNC");
  while (!/lazyfree_pending_objects:0/.test(await redis.info("memory"))) {
    await pause(20);
  }
}

async function recover(
  clients: Clients,
  redis: Redis,
  database: Client,
  stores: BenchStores,
  pid: number,
  index: number,
): Promise<Recovery> {
  const { admin, inventory } = clients;
  const other = () => inventory.getStock({ shopId: otherShopId, sku: "a" });
  const freshShopId = `fresh-${index}`;
  await admin.createShop({ shopId: freshShopId, currencyCode: "USD" }, { timeoutMs: 60_000 });
  await untilAnswered(() => inventory.getStock({ shopId, sku: "sku-1" }, { timeoutMs: 30_000 }));
  await inventory.getStock({ shopId: otherShopId, sku: "a" }, { timeoutMs: 60_000 });
  const usual: number[] = [];
  for (let each = 0; each < 100; each += 1) {
    usual.push(await time(other));
    await pause(5);
  }
  const beforeMb = await residentMb(pid);
  await redis.call("CONFIG", "SET", "slowlog-log-slower-than", "1000");
  await redis.call("SLOWLOG", "RESET");
  let isOver = false;
  const meanwhile: number[] = [];
  const hints: number[] = [];
  let peakMb = 0;
  const watchOther = async (): Promise<void> => {
    while (!isOver) {
      meanwhile.push(await time(other));
      peakMb = Math.max(peakMb, await residentMb(pid));
      await pause(5);
    }
  };
  const impatient = async (): Promise<void> => {
    await pause(200);
    while (!isOver) {
      await inventory.getStock({ shopId, sku: "sku-1" }, { timeoutMs: 500 }).catch((error) => {
        hints.push(retryMs(error));
      });
      await pause(500);
    }
  };
  const openFresh = () => inventory.getStock({ shopId: freshShopId, sku: "a" }).catch(() => {}); // there is none
  const first = pause(1000).then(() => time(openFresh));
  const cpuTimes = (): number[] => [pid, stores.redisPid, stores.postgresPid].map((each) => readCpuTimeUs(each) ?? 0);
  await losesAll(redis, database);
  await untilAnswered(other);
  const cpuBefore = cpuTimes();
  const startedAt = performance.now();
  await database.query("rollback");
  const patient = untilAnswered(() => inventory.getStock({ shopId, sku: "sku-1" }, { timeoutMs: 30_000 }));
  const watching = [watchOther(), impatient()];
  await patient;
  const seconds = (performance.now() - startedAt) / 1000;
  isOver = true;
  const cpuSeconds = cpuTimes().map((us, each) => (us - (cpuBefore[each] as number)) / 1_000_000);
  await Promise.all(watching);
  const slow = (await redis.call("SLOWLOG", "GET", "1000")) as [number, number, number, string[]][];
  return {
    seconds,
    cpuSeconds,
    usualMs: median(usual),
    medianMs: median(meanwhile),
    worstMs: Math.max(...meanwhile),
    firstAnswerMs: await first,
    refusedCount: hints.length,
    hintsMs: hints,
    beforeMb,
    longestScriptMs: Math.max(
      0,
      ...slow.filter(([, , , [name]]) => /^fcall$/i.test(name ?? "")).map(([, , us]) => us / 1000),
    ),
    peakMb,
  };
}

/** Commits that Redis loses. */
const lostCommits = 1000;

/** Calls of four kinds, as many commits as Redis is to lose; `round` makes their ids new ones. */
async function useShop({ orders, users, inventory }: Clients, shop: LargeShop, round: number): Promise<void> {
  const calls = [
    (id: string, lines: Lines) =>
      orders.placeOrder({ shopId, orderId: id, paymentMethod: PaymentMethod.EXTERNAL, lines }),
    (id: string, lines: Lines, userId: string) => inventory.holdStock({ shopId, holdId: id, userId, lines }),
    (_: string, __: Lines, userId: string) => users.depositFunds({ shopId, userId, amountMinor: 100n }),
    (id: string) => users.createUser({ shopId, userId: id, email: `${id}@example.com` }),
  ];
  const caller = async (first: number): Promise<void> => {
    for (let made = first; made < lostCommits; made += 20) {
      const number = round * lostCommits + made;
      const lines = [{ sku: `sku-${(number % shop.skuCount) + 1}`, quantity: 1 }];
      const userId = largeShopUser((number % shop.userCount) + 1);
      await calls[made % calls.length]?.(`lost-${number}`, lines, userId);
    }
  };
  await Promise.all(Array.from({ length: 20 }, (_, first) => caller(first)));
}

type Lines = { sku: string; quantity: number }[];

/** Redis goes back by so many commits: how long until the shop answers again, in seconds. */
async function catchUp(clients: Clients, stores: BenchStores, shop: LargeShop, round: number): Promise<number> {
  const answered = () => untilAnswered(() => clients.inventory.getStock({ shopId, sku: "sku-1" }));
  const use = () => useShop(clients, shop, round);
  return (await loseTail(stores.redisUrl, use, () => time(answered))) / 1000;
}

/** A caller with 30 s, who comes back when it is told to: then `seconds` is more than a rebuild. */
async function untilAnswered<Value>(call: () => Promise<Value>): Promise<Value> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      process.stderr.write(`a caller with 30 s got: ${String(error)}, RetryInfo ${retryMs(error)} ms\n`);
      await pause(100);
    }
  }
}

/** The RetryInfo of an UNAVAILABLE in milliseconds; -1 for anything else. */
function retryMs(error: unknown): number {
  if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) {
    return -1;
  }
  const { seconds = 0n, nanos = 0 } = error.findDetails(RetryInfoSchema)[0]?.retryDelay ?? {};
  return Number(seconds) * 1000 + Math.round(nanos / 1_000_000);
}

async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}

async function main(): Promise<void> {
  if (values.help === true) {
    process.stdout.write(usage);
    return;
  }
  const number = (text: string | undefined, otherwise: number) => Number(text ?? otherwise);
  const shop = {
    userCount: number(values.users, 1_000_000),
    skuCount: number(values.skus, 100_000),
    holdCount: number(values.holds, 100_000),
    orderCount: number(values.orders, 10_000),
  };
  await using cleanUp = new AsyncDisposableStack();
  const stores = await startStores(cleanUp);
  const database = new Client({ connectionString: stores.databaseUrl });
  await database.connect();
  cleanUp.defer(() => database.end());
  const redis = new Redis(stores.redisUrl);
  cleanUp.defer(() => redis.disconnect());
  const { databaseUrl, redisUrl } = stores;
  const child = startChild("./holdfast-server.ts", cleanUp);
  const request = { redisUrl, databaseUrl, logLevel: "info" } satisfies HoldfastRequest;
  const { grpcPort } = await child.ask<HoldfastPorts>(request);
  const clients = createClients(`127.0.0.1:${grpcPort}`, cleanUp);
  await clients.admin.createShop({ shopId, currencyCode: "USD" });
  await clients.admin.createShop({ shopId: otherShopId, currencyCode: "USD" });
  await clients.inventory.putProduct({ shopId: otherShopId, sku: "a", title: "A", priceMinor: 1n });
  const filledMs = await time(() => fillLargeShop(database, shopId, shop));
  process.stdout.write(`${JSON.stringify(shop)}, filled in ${(filledMs / 1000).toFixed(1)} s\n\n`);
  process.stdout.write(
    "| full rebuild in s | CPU s: server, Redis, PostgreSQL | another shop's calls, p50 in ms: before | meanwhile | worst | a new shop's first answer in ms | refused, hints in ms | longest script in ms | RSS of the server in MB: before | most |\n",
  );
  process.stdout.write("|---:|---|---:|---:|---:|---:|---|---:|---:|---:|\n");
  const rounds: Recovery[] = [];
  for (let round = 0; round < number(values.rounds, 3); round += 1) {
    const found = await recover(clients, redis, database, stores, child.pid, round);
    rounds.push(found);
    const cells = [
      found.seconds.toFixed(1),
      found.cpuSeconds.map((each) => each.toFixed(1)).join(", "),
      found.usualMs.toFixed(1),
      found.medianMs.toFixed(1),
      found.worstMs.toFixed(0),
    ];
    cells.push(found.firstAnswerMs.toFixed(0), `${found.refusedCount}: ${found.hintsMs.join(" ")}`);
    cells.push(found.longestScriptMs.toFixed(1), found.beforeMb.toFixed(0), found.peakMb.toFixed(0));
    process.stdout.write(`| ${cells.join(" | ")} |\n`);
  }
  process.stdout.write(`\nmedian of ${rounds.length}: ${median(rounds.map((each) => each.seconds)).toFixed(1)} s\n`);
  const caughtUp: number[] = [];
  for (let round = 0; round < rounds.length; round += 1) {
    caughtUp.push(await catchUp(clients, stores, shop, round));
  }
  const seconds = caughtUp.map((each) => each.toFixed(2));
  process.stdout.write(`\nafter ${lostCommits} lost commits: ${seconds.join(", ")} s until the first answer\n`);
  if (values.verify === true) {
    for await (const { discrepancies, checkedCount, done } of clients.admin.verifyShop({ shopId })) {
      if (done || discrepancies.length > 0) {
        const text = discrepancies.map(
          ({ kind, subject, expected, found }) => `${kind} ${subject}: ${expected} but ${found}`,
        );
        process.stdout.write(
          `VerifyShop: ${checkedCount} checked, ${text.slice(0, 5).join("; ") || "nothing found"}\n`,
        );
      }
    }
  }
}

await main();
