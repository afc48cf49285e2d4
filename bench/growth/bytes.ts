import type { Redis } from "ioredis";
import type { Client } from "pg";
import { shopKeys } from "../../src/shop/keys.ts";

/** What one thing of a kind takes, on average. */
export interface Bytes {
  /** The size of the shop it was measured in. */
  readonly size: number;
  readonly thing: string;
  /** In Redis, with what makes it be found; and how many of them Redis has. */
  readonly redisBytes: number;
  readonly redisCount: number;
  /** In PostgreSQL, with its indexes; and how many of them PostgreSQL has. */
  readonly postgresBytes: number;
  readonly postgresCount: number;
}

/** A kind of thing: the tables and the keys that have nothing else in them, or the share of a key that is theirs. */
export interface Kind {
  readonly thing: string;
  readonly tables: readonly string[];
  readonly postgresCount: number;
  readonly keys: Readonly<Record<string, number>>;
  readonly redisCount: number;
}

/** Bytes of each table with its indexes. */
export async function readTableBytes(database: Client): Promise<ReadonlyMap<string, number>> {
  const { rows } = await database.query<{ name: string; bytes: string }>(
    "select relname as name, pg_total_relation_size(oid) as bytes from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
  );
  return new Map(rows.map(({ name, bytes }) => [name, Number(bytes)]));
}

/** Fields that Redis looks at to tell what a key takes: all of them would stop it for seconds. */
const sampleCount = 10_000;

/** What each thing of some kinds takes: Redis has just been loaded, and `before` was read before PostgreSQL was filled. */
export async function readBytes(
  { database, redis }: { readonly database: Client; readonly redis: Redis },
  shop: { readonly shopId: string; readonly size: number },
  before: ReadonlyMap<string, number>,
  kinds: readonly Kind[],
): Promise<Bytes[]> {
  const after = await readTableBytes(database);
  const keys = shopKeys(shop.shopId);
  const bytes: Bytes[] = [];
  for (const { thing, redisCount, postgresCount, ...where } of kinds.filter((kind) => kind.postgresCount > 0)) {
    let keyBytes = 0;
    for (const [name, share] of Object.entries(where.keys)) {
      keyBytes += share * Number((await redis.memory("USAGE", keys[name] as string, "SAMPLES", sampleCount)) ?? 0);
    }
    const tableBytes = where.tables.reduce((sum, name) => sum + (after.get(name) ?? 0) - (before.get(name) ?? 0), 0);
    const each = { redisBytes: keyBytes / redisCount, postgresBytes: tableBytes / postgresCount };
    bytes.push({ size: shop.size, thing, redisCount, postgresCount, ...each });
  }
  return bytes;
}
