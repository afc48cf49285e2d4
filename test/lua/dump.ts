import type { Redis } from "ioredis";

/** One key: fields of a hash, members and scores of a sorted set, or entries of a stream with their flat fields. */
export type KeyContent = Readonly<Record<string, string | readonly string[]>>;

/** Everything a Redis holds, by key without its hash tag: `stock` for `{shop}:stock`. */
export type Dump = Readonly<Record<string, KeyContent>>;

/** What two dumps differ in: the later value of every field, null where it is gone. Keys without a difference are absent. */
export type Changes = Readonly<Record<string, Readonly<Record<string, string | readonly string[] | null>>>>;

/** Reads every key there is, whoever wrote it. */
export async function dumpAll(redis: Redis): Promise<Dump> {
  const names = (await redis.keys("*")).sort();
  const contents = await Promise.all(names.map(async (name) => [withoutTag(name), await read(redis, name)] as const));
  return Object.fromEntries(contents);
}

function withoutTag(name: string): string {
  return name.replace(/^\{[^}]*\}:/, "");
}

async function read(redis: Redis, name: string): Promise<KeyContent> {
  const type = await redis.type(name);
  switch (type) {
    case "hash":
      return redis.hgetall(name);
    case "zset":
      return pairs(await redis.zrange(name, "0", "-1", "WITHSCORES"));
    case "stream":
      return Object.fromEntries(await redis.xrange(name, "-", "+"));
    default:
      throw new Error(`${name} is a ${type}, which no key of a shop is`);
  }
}

function pairs(flat: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (let index = 0; index < flat.length; index += 2) {
    found[flat[index] as string] = flat[index + 1] as string;
  }
  return found;
}

/** Compares two dumps field by field. */
export function changesBetween(before: Dump, after: Dump): Changes {
  const found: Record<string, Record<string, string | readonly string[] | null>> = {};
  for (const key of namesOf(before, after)) {
    for (const field of namesOf(before[key], after[key])) {
      const value = after[key]?.[field] ?? null;
      if (JSON.stringify(before[key]?.[field] ?? null) !== JSON.stringify(value)) {
        found[key] = { ...found[key], [field]: value };
      }
    }
  }
  return found;
}

function namesOf(before: object = {}, after: object = {}): Set<string> {
  return new Set([...Object.keys(before), ...Object.keys(after)]);
}

/** Remembers every key as it is and returns what puts Redis back there. */
export async function takeSnapshot(redis: Redis): Promise<() => Promise<void>> {
  const names = await redis.keys("*");
  const contents = await Promise.all(names.map((name) => redis.dumpBuffer(name)));
  return async () => {
    await redis.flushall();
    await Promise.all(names.map((name, index) => redis.restore(name, 0, contents[index] as Buffer)));
  };
}
