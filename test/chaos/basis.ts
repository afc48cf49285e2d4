import type { Client } from "pg";
import { type FakeStripe, type Fault, startFakeStripe } from "../helpers/fake-stripe.ts";
import { Random } from "./callers/random.ts";
import { type PostgresNode, startPostgresNode } from "./postgres-node.ts";
import { createSlot, type ServerSlot } from "./server-slot.ts";
import type { World } from "./world.ts";

/** What a basis needs. */
export interface BasisOptions {
  readonly folder: string;
  readonly serverCount: number;
  readonly settings: Readonly<Record<string, string>>;
  readonly redisUrls: readonly string[];
  readonly isCluster: boolean;
  readonly emptyRedis: () => Promise<unknown>;
}

/** What every world has, whatever its Redis is. */
export type Basis = Omit<World, "useRedis">;

/** How long holds and unpaid orders last that name no duration, in milliseconds: some end within their round. */
export const holdMs = 3000;

/** What a gateway does wrong now and then. */
const gatewayFaults: readonly Fault[] = ["decline", "cut", "unavailable", "drop", "error", "processing"];

/** Starts PostgreSQL and a gateway, and makes places for servers. `renew` starts the servers. */
export async function openBasis(options: BasisOptions): Promise<Basis> {
  const postgres = await startPostgresNode(options.folder);
  const stripe = await startFakeStripe();
  misbehave(stripe);
  const settings = {
    HOLDFAST_PAYMENT_GATEWAY: "stripe",
    STRIPE_API_BASE: stripe.url,
    STRIPE_API_KEY: "sk_test_holdfast",
    HOLDFAST_PAYMENT_RETRY_MS: "50",
    HOLDFAST_PAYMENT_BREAK_MS: "200",
    HOLDFAST_PAYMENT_ATTEMPT_TIMEOUT_MS: "500",
    HOLDFAST_PG_POOL_SIZE: "8",
    HOLDFAST_HOLD_SECONDS: String(holdMs / 1000),
    ...options.settings,
  };
  const { redisUrls, isCluster } = options;
  const servers: ServerSlot[] = [];
  for (let index = 0; index < options.serverCount; index += 1) {
    servers.push(await createSlot({ redisUrls, isCluster, postgresUrl: postgres.url, settings }));
  }
  const pointToPostgres = (): void => {
    for (const { postgresProxy } of servers) postgresProxy.retarget(postgres.url);
  };
  return {
    servers,
    postgres,
    stripe,
    pointToPostgres,
    mend: async () => {
      for (const { redisProxies, postgresProxy } of servers)
        for (const each of [...redisProxies, postgresProxy]) {
          each.thaw();
          each.accept();
          each.delay(0);
        }
    },
    renew: async () => {
      await Promise.all(servers.map((server) => server.kill()));
      await emptyDatabase(postgres);
      await options.emptyRedis();
      const [first, ...others] = servers as [ServerSlot, ...ServerSlot[]];
      await first.start(postgres.url);
      await Promise.all(others.map((server) => server.start(postgres.url)));
    },
    close: async () => {
      await Promise.all(servers.map((server) => server.close()));
      await stripe.stop();
      await postgres.stop();
    },
  };
}

function misbehave(stripe: FakeStripe): void {
  const random = new Random(1);
  stripe.misbehave(() => (random.chance(15) ? random.from(gatewayFaults) : undefined));
}

async function emptyDatabase(postgres: PostgresNode): Promise<void> {
  await postgres.use((client: Client) => client.query("drop schema public cascade; create schema public"));
}
