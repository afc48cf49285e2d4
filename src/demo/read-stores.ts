import { Cluster, Redis } from "ioredis";
import { Client } from "pg";
import { connectionStringOf } from "../postgres/connection-string.ts";
import { sku } from "./flash-sale.ts";

/** What both stores say about a sale, read past Holdfast's own code. */
export interface StoreRecords {
  readonly postgres: {
    readonly orderIds: readonly string[];
    readonly orderedUnits: number;
    readonly availableCount: number;
    readonly heldCount: number;
    readonly soldCount: number;
    readonly depositedMinor: number;
    readonly revenueMinor: number;
    readonly walletsMinor: number;
    /** Commits whose ledger entries of one kind do not sum to zero. */
    readonly unbalancedCommitCount: number;
    /** Users whose balances differ from the sum of their ledger entries. */
    readonly wrongWalletCount: number;
    readonly overdrawnWalletCount: number;
    readonly commitCount: number;
    readonly headPosition: number;
  };
  readonly redis: {
    readonly availableCount: number;
    readonly heldCount: number;
    readonly soldCount: number;
    readonly walletsMinor: number;
    readonly headPosition: number;
  };
}

/** Where the stores are, and which shop is meant. */
export interface StoreAddresses {
  readonly redisUrl: string;
  readonly databaseUrl: string;
  readonly shopId: string;
}

/** Reads both stores with plain SQL and plain Redis commands. */
export async function readStores({ redisUrl, databaseUrl, shopId }: StoreAddresses): Promise<StoreRecords> {
  const client = new Client({ connectionString: connectionStringOf(databaseUrl) });
  const redis = await openRedis(redisUrl);
  // Commands report a lost connection to their callers.
  redis.on("error", () => {});
  try {
    await client.connect();
    return { postgres: await readPostgres(client, shopId), redis: await readRedis(redis, shopId) };
  } finally {
    redis.disconnect();
    await client.end();
  }
}

/** A client that only reads, of one Redis or of the cluster that the first address belongs to. */
async function openRedis(redisUrl: string): Promise<Redis | Cluster> {
  const urls = redisUrl.split(",");
  const node = new Redis(urls[0] as string);
  const isCluster = /^cluster_enabled:1/m.test(await node.info("cluster"));
  if (!isCluster) {
    return node;
  }
  const { username, password, tls } = node.options;
  node.disconnect();
  return new Cluster(urls, { redisOptions: { username, password, tls } });
}

const numbersQuery = `
  select
    (select coalesce(sum(item_count), 0) from orders where shop_id = $1) as "orderedUnits",
    (select available_count from stock where shop_id = $1 and sku = $2) as "availableCount",
    (select held_count from stock where shop_id = $1 and sku = $2) as "heldCount",
    (select sold_count from stock where shop_id = $1 and sku = $2) as "soldCount",
    (select coalesce(-sum(delta), 0) from ledger_entries where shop_id = $1 and kind = 1 and account = 'funding')
      as "depositedMinor",
    (select coalesce(sum(delta), 0) from ledger_entries where shop_id = $1 and kind = 1 and account = 'revenue')
      as "revenueMinor",
    (select coalesce(sum(balance_minor), 0) from users where shop_id = $1) as "walletsMinor",
    (select count(*) from (
      select from ledger_entries where shop_id = $1 group by position, kind having sum(delta) <> 0
    ) as unbalanced) as "unbalancedCommitCount",
    (select count(*) from users u left join (
      select account, sum(delta) filter (where kind = 1) as money, sum(delta) filter (where kind = 2) as credits
      from ledger_entries where shop_id = $1 group by account
    ) as entries on entries.account = 'user:' || u.user_id
    where u.shop_id = $1
      and (u.balance_minor, u.credits) is distinct from (coalesce(entries.money, 0), coalesce(entries.credits, 0))
    ) as "wrongWalletCount",
    (select count(*) from users where shop_id = $1 and balance_minor < 0) as "overdrawnWalletCount",
    (select count(*) from commits where shop_id = $1) as "commitCount",
    (select head_position from shops where shop_id = $1) as "headPosition"`;

async function readPostgres(client: Client, shopId: string): Promise<StoreRecords["postgres"]> {
  const { rows } = await client.query<Record<string, string>>(numbersQuery, [shopId, sku]);
  const numbers = Object.fromEntries(Object.entries(rows[0] ?? {}).map(([name, text]) => [name, Number(text)]));
  const orders = await client.query<{ order_id: string }>("select order_id from orders where shop_id = $1", [shopId]);
  const orderIds = orders.rows.map((row) => row.order_id);
  return { ...(numbers as Omit<StoreRecords["postgres"], "orderIds">), orderIds };
}

async function readRedis(redis: Redis | Cluster, shopId: string): Promise<StoreRecords["redis"]> {
  const levels = await redis.hmget(`{${shopId}}:stock`, `${sku}:available`, `${sku}:held`, `${sku}:sold`);
  const [availableCount = Number.NaN, heldCount = Number.NaN, soldCount = Number.NaN] = levels.map(Number);
  const headPosition = Number(await redis.hget(`{${shopId}}:meta`, "position"));
  return {
    availableCount,
    heldCount,
    soldCount,
    walletsMinor: await sumWallets(redis, `{${shopId}}:users`),
    headPosition,
  };
}

async function sumWallets(redis: Redis | Cluster, key: string): Promise<number> {
  // HSCAN may name a field twice.
  const balances = new Map<string, number>();
  for (let cursor: string | undefined; cursor !== "0"; ) {
    const [next, fields] = await redis.hscan(key, cursor ?? "0", "MATCH", "*:balance", "COUNT", 1000);
    for (let index = 0; index < fields.length; index += 2) {
      balances.set(fields[index] as string, Number(fields[index + 1]));
    }
    cursor = next;
  }
  return [...balances.values()].reduce((sum, balance) => sum + balance, 0);
}
