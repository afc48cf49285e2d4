import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { Client } from "pg";
import { type FakeStripe, startFakeStripe } from "../helpers/fake-stripe.ts";
import { type Clients, type HoldfastProcess, spawnHoldfast } from "../helpers/holdfast.ts";
import { createUser, stockProduct, uniqueId } from "../helpers/shop.ts";
import type { Trap } from "./set-trap.ts";

/** Where the stores are. */
export interface Urls {
  readonly redisUrl: string;
  readonly databaseUrl: string;
}

/** The stores of a sweep, looked at with the harness' own connections, a payment gateway, and the servers it starts. */
export interface Stage {
  readonly urls: Urls;
  readonly redis: Redis;
  readonly postgres: Client;
  readonly stripe: FakeStripe;
  /** Starts a server that waits for its trap. */
  spawn(): Promise<HoldfastProcess>;
  /** Ends everything it started. */
  close(): Promise<void>;
}

const run = promisify(execFile);
/** What a server loads to be able to fall into a trap. */
export const setTrapModule = fileURLToPath(new URL("set-trap.ts", import.meta.url));

/** Opens a stage on stores that are there. */
export async function openStage(urls: Urls): Promise<Stage> {
  const stripe = await startFakeStripe();
  const redis = new Redis(urls.redisUrl);
  const postgres = new Client({ connectionString: urls.databaseUrl });
  await postgres.connect();
  const started: HoldfastProcess[] = [];
  const settings = {
    HOLDFAST_REQUEST_MEMORY_COUNT: "30",
    HOLDFAST_PAYMENT_GATEWAY: "stripe",
    STRIPE_API_KEY: "sk_test_holdfast",
    STRIPE_API_BASE: stripe.url,
    HOLDFAST_PAYMENT_RETRY_MS: "20",
  };
  return {
    urls,
    redis,
    postgres,
    stripe,
    spawn: async () => {
      const server = await spawnHoldfast({ ...urls, settings, preloads: [setTrapModule] });
      started.push(server);
      return server;
    },
    close: async () => {
      await Promise.all(started.map((each) => each.kill()));
      redis.disconnect();
      await postgres.end();
      await stripe.stop();
    },
  };
}

/** Creates a shop with what the callers of a sweep sell and spend. */
export async function stageShop(clients: Clients): Promise<string> {
  const shopId = uniqueId("crash");
  await clients.admin.createShop({ shopId, currencyCode: "USD" });
  const stock = { s0: 100_000, s1: 100_000, s2: 200, due: 1000 };
  await Promise.all([
    ...Object.entries(stock).map(([sku, count]) => stockProduct(clients, shopId, sku, count)),
    ...["u0", "u1", "u2"].map((userId) => createUser(clients, shopId, userId, 1_000_000)),
  ]);
  return shopId;
}

/** Sets a trap in a server. */
export function setTrapIn(server: HoldfastProcess, trap: Trap): void {
  server.tell(JSON.stringify(trap));
}

/** Whether a server stands still, or has ended. */
export async function isDown({ pid }: HoldfastProcess): Promise<boolean> {
  const { stdout } = await run("ps", ["-o", "state=", "-p", String(pid)]).catch(() => ({ stdout: "gone" }));
  return /^(T|Z|gone)/.test(stdout.trim());
}
