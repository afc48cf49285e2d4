import { Redis } from "ioredis";
import { shopKeys } from "../../src/shop/keys.ts";

/** What Redis holds of a shop, in a form that two copies can be compared in. */
export interface RedisState {
  readonly hashes: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly sortedSets: Readonly<Record<string, readonly string[]>>;
  /** `request:`, `order:` and `hold:` fields of both halves of the recent memory. */
  readonly recent: Readonly<Record<string, string>>;
  readonly log: unknown;
  /** Position, commit id and time of the log's last entry. */
  readonly last: readonly (string | null)[];
}

/** Reads everything that a shop's decisions rest on, from an address or over a connection that is there. */
export async function readRedisState(from: string | Redis, shopId: string): Promise<RedisState> {
  const redis = typeof from === "string" ? new Redis(from) : from;
  const key = (name: string): string => `{${shopId}}:${name}`;
  const byName = async <Value>(names: readonly string[], read: (key: string) => Promise<Value>) =>
    Object.fromEntries(await Promise.all(names.map(async (name) => [name, await read(key(name))] as const)));
  try {
    return {
      hashes: await byName(
        ["stock", "holds", "users", "emails", "limits", "orders", "codes", "tiers", "stats"],
        (name) => redis.hgetall(name),
      ),
      sortedSets: await byName(["due", "due_skus", "renewals"], (name) => redis.zrange(name, "0", "-1", "WITHSCORES")),
      recent: { ...(await redis.hgetall(key("recent_0"))), ...(await redis.hgetall(key("recent_1"))) },
      log: await redis.xrange(key("log"), "-", "+"),
      last: await redis.hmget(key("meta"), "position", "commit_id", "time"),
    };
  } finally {
    if (redis !== from) redis.disconnect();
  }
}

/** A copy of all keys of a shop, as they are at one moment. */
export type ShopCopy = readonly (readonly [key: string, dump: Buffer])[];

/** Copies all keys of a shop at one moment. */
export async function copyShop(redis: Redis, shopId: string): Promise<ShopCopy> {
  // Not those that are there: one may be made before they are read.
  const keys = Object.values(shopKeys(shopId));
  const pipeline = redis.multi();
  for (const key of keys) pipeline.dumpBuffer(key);
  const results = (await pipeline.exec()) ?? [];
  return keys.flatMap((key, index) => {
    const dump = results[index]?.[1];
    return dump instanceof Buffer ? [[key, dump] as const] : [];
  });
}

/** Puts a copy back in place of what is there, at one moment: Redis has lost what it did since. */
export async function restoreShop(redis: Redis, shopId: string, copy: ShopCopy): Promise<void> {
  const pipeline = redis.multi().del(...Object.values(shopKeys(shopId)));
  for (const [key, dump] of copy) pipeline.restore(key, 0, dump);
  const results = await pipeline.exec();
  const failed = results?.find(([error]) => error !== null);
  if (failed !== undefined) throw failed[0];
}
