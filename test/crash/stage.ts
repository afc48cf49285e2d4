import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { Client } from "pg";
import { type FakeStripe, startFakeStripe } from "../helpers/fake-stripe.ts";
import { type Doors, type HoldfastProcess, spawnHoldfast } from "../helpers/holdfast.ts";
import { persist } from "../helpers/load.ts";
import { uniqueId } from "../helpers/shop.ts";
import type { CallRecord } from "../history/history.ts";
import { send } from "../model/caller.ts";
import { bodyOf } from "../model/decide.ts";
import type { Plain } from "../model/plain.ts";
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

/** What the callers of a sweep sell and spend. */
const opening: readonly (readonly [rpc: string, request: Plain])[] = [
  ...["s0", "s1", "s2", "due"].flatMap((sku): [string, Plain][] => [
    ["PutProduct", { sku, title: `Title of ${sku}`, price_minor: 100 }],
    ["AdjustStock", { sku, delta_count: sku === "s2" ? 200 : 100_000, reason: 5 }],
  ]),
  ...["u0", "u1", "u2"].flatMap((user_id): [string, Plain][] => [
    ["CreateUser", { user_id, email: `${user_id}@example.com`, display_name: user_id }],
    ["DepositFunds", { user_id, amount_minor: 1_000_000 }],
  ]),
];

/** Creates a shop with it; returns its id, and the calls that were made of it. */
export async function stageShop(doors: Doors): Promise<{ shopId: string; calls: readonly CallRecord[] }> {
  const shopId = uniqueId("crash");
  // A server that stood still meanwhile may find out only now that the last plan took Postgres away for a while.
  await persist(() => doors.grpc.admin.createShop({ shopId, currencyCode: "USD" }));
  const calls: CallRecord[] = [];
  for (const [index, [rpc, request]] of opening.entries()) {
    const call = {
      rpc,
      request: bodyOf(rpc, request),
      requestId: `opening-${index}`,
      door: "grpc",
      idBy: "field",
    } as const;
    const invokedMs = performance.now();
    const outcome = await send(doors, shopId, call);
    calls.push({ call, invokedMs, attemptMs: invokedMs, returnedMs: performance.now(), outcome });
  }
  return { shopId, calls };
}

/** Sets a trap in a server. */
export function setTrapIn(server: HoldfastProcess, trap: Trap): void {
  server.tell(JSON.stringify(trap));
}

/** Whether a server stands still, or has ended. */
export async function isDown({ pid }: HoldfastProcess): Promise<boolean> {
  return /^(T|Z|gone)/.test(await stateOf(pid));
}

/** As `ps` writes it; asked of /proc where there is one, because every `ps` takes as long as a few calls to a server. */
async function stateOf(pid: number): Promise<string> {
  if (process.platform === "linux") {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => ") gone");
    return stat.slice(stat.lastIndexOf(")") + 2);
  }
  const { stdout } = await run("ps", ["-o", "state=", "-p", String(pid)]).catch(() => ({ stdout: "gone" }));
  return stdout.trim();
}
