import { afterAll, beforeAll } from "vitest";
import type { PrivateRedis } from "../../src/dev/private-redis.ts";
import { type Holdfast, startHoldfast } from "./holdfast.ts";
import { createDatabase, startRedis, type TestDatabase } from "./servers.ts";

/** A Redis and a database that one test file has for itself; there from its `beforeAll` on. */
export interface Stores {
  redis: PrivateRedis;
  database: TestDatabase;
  /** Both addresses, as a Holdfast takes them. */
  readonly urls: { readonly redisUrl: string; readonly databaseUrl: string };
}

/** Gives a test file a Redis and a database of its own. */
export function useStores(): Stores {
  const stores = {} as { redis: PrivateRedis; database: TestDatabase };
  beforeAll(async () => {
    [stores.redis, stores.database] = await Promise.all([startRedis(), createDatabase()]);
  });
  afterAll(async () => {
    await Promise.all([stores.redis?.stop(), stores.database?.drop()]);
  });
  return Object.defineProperty(stores, "urls", {
    get: () => ({ redisUrl: stores.redis.url, databaseUrl: stores.database.url }),
  }) as Stores;
}

/** What a Holdfast of a test file is started with. */
export interface UseHoldfastOptions {
  readonly settings?: Readonly<Record<string, string>>;
  readonly clock?: () => number;
}

/** Gives a test file stores of its own and a Holdfast on them, in this process. */
export function useHoldfast(options: UseHoldfastOptions = {}): Stores & Holdfast {
  const file = useStores() as Stores & Holdfast;
  beforeAll(async () => {
    Object.assign(file, await startHoldfast({ ...file.urls, ...options }));
  });
  afterAll(async () => {
    await file.stop?.();
  });
  return file;
}
