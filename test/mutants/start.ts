import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { startPrivateRedis } from "../../src/dev/private-redis.ts";

/** What a caller without special wishes does; each has to be answered with 200. */
const purchase: readonly (readonly [rpc: string, body: object])[] = [
  ["InventoryService/PutProduct", { sku: "ps5", title: "PS5", priceMinor: 100 }],
  ["InventoryService/AdjustStock", { sku: "ps5", deltaCount: 5, reason: "ADJUST_REASON_INITIAL" }],
  ["UserService/CreateUser", { userId: "ann", email: "ann@example.com" }],
  ["UserService/DepositFunds", { userId: "ann", amountMinor: 500 }],
  ["OrderService/PlaceOrder", { orderId: "o1", userId: "ann", lines: [{ sku: "ps5", quantity: 2 }] }],
  ["OrderService/GetOrder", { orderId: "o1" }],
  ["InventoryService/GetStock", { sku: "ps5" }],
];

/** How long a server may take to start, and a call to be answered, in milliseconds. */
const patienceMs = 120_000;

/**
 * Starts `holdfast serve` of a tree on an empty Redis and an empty database, so that all its code and scripts are loaded, and
 * with `sells` also makes a purchase. Undefined when that works, else what does not: any test would fail on such a tree.
 */
export async function whyDeadTree(folder: string, postgresUrl: string, sells: boolean): Promise<string | undefined> {
  await using cleanUp = new AsyncDisposableStack();
  const dataDir = await mkdtemp(join(tmpdir(), "holdfast-mutant-redis-"));
  cleanUp.defer(() => rm(dataDir, { recursive: true, force: true }));
  const redis = await startPrivateRedis({ dataDir, persist: false });
  cleanUp.defer(() => redis.stop());
  const databaseUrl = await createDatabase(postgresUrl, cleanUp);
  const child = spawnServer(folder, { REDIS_URL: redis.url, DATABASE_URL: databaseUrl });
  cleanUp.defer(() => end(child));
  try {
    const http = await doorOf(child);
    for (const [rpc, body] of sells ? purchase : []) await call(http, rpc, body);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

async function createDatabase(postgresUrl: string, cleanUp: AsyncDisposableStack): Promise<string> {
  const name = `mutant_${randomBytes(6).toString("hex")}`;
  const client = new Client({ connectionString: postgresUrl });
  await client.connect();
  cleanUp.defer(() => client.end());
  await client.query(`create database ${name}`);
  cleanUp.defer(async () => {
    await client.query(`drop database ${name} with (force)`);
  });
  const url = new URL(postgresUrl);
  url.pathname = `/${name}`;
  return url.href;
}

function spawnServer(folder: string, stores: Record<string, string>): ChildProcess {
  const guard = join(folder, "test/helpers/end-with-parent.ts");
  const doors = { HOLDFAST_GRPC_ADDR: "127.0.0.1:0", HOLDFAST_HTTP_ADDR: "127.0.0.1:0" };
  return spawn(process.execPath, ["--import", guard, "src/main.ts", "serve"], {
    cwd: folder,
    env: { PATH: process.env.PATH, ...doors, ...stores },
    stdio: ["pipe", "pipe", "pipe"],
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

/** The HTTP door's address, from the line that is logged when both are open. */
async function doorOf(child: ChildProcess): Promise<string> {
  let log = "";
  return new Promise((resolve, reject) => {
    const fail = (how: string): void => reject(new Error(`holdfast serve ${how}: ${log.slice(0, 1000)}`));
    const timer = setTimeout(fail, patienceMs, "opens no door");
    child.stderr?.on("data", (data) => {
      log += data;
    });
    child.stdout?.on("data", (data) => {
      log += data;
      const line = log.split("\n").find((each) => each.includes('"grpc":') && each.endsWith("}"));
      if (line === undefined) return;
      clearTimeout(timer);
      resolve(JSON.parse(line).http);
    });
    child.once("close", (code) => {
      clearTimeout(timer);
      fail(`ended with exit code ${code}`);
    });
  });
}

/** Calls until the server is not busy any more: a server of a busy machine may take its stores for away. */
async function call(http: string, rpc: string, body: object): Promise<void> {
  const givesUpAt = performance.now() + patienceMs;
  for (;;) {
    const answer = await fetch(`${http}/holdfast.v1.${rpc}`, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": rpc.replace("/", ".") },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(patienceMs),
    });
    if (answer.ok) return;
    if (answer.status !== 503 || performance.now() > givesUpAt) {
      throw new Error(`${rpc} answers ${answer.status}: ${await answer.text()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}
