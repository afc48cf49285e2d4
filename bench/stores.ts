import { rmSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "../src/dev/embedded-postgres.ts";
import { startPrivateRedis } from "../src/dev/private-redis.ts";

/** The stores that all contestants of a benchmark use, with the settings Holdfast gives its own. */
export interface BenchStores {
  readonly databaseUrl: string;
  readonly postgresPid: number;
  readonly redisUrl: string;
  readonly redisPid: number;
  /** For what a benchmark writes while it runs. */
  readonly folder: string;
}

/** One Redis. */
export interface RedisStore {
  readonly url: string;
  readonly pid: number;
}

/** Starts both in a temporary folder; what the stack defers ends them and removes it. */
export async function startStores(cleanUp: AsyncDisposableStack): Promise<BenchStores> {
  const dataDir = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  // PostgreSQL does not run as root and has to reach its own, closed folder in here.
  await chmod(dataDir, 0o711);
  const removeAtExit = (): void => rmSync(dataDir, { recursive: true, force: true });
  process.once("exit", removeAtExit);
  cleanUp.defer(async () => {
    await rm(dataDir, { recursive: true, force: true });
    process.off("exit", removeAtExit);
  });
  const postgres = await startEmbeddedPostgres({ dataDir });
  cleanUp.defer(() => postgres.stop());
  const redis = await startPrivateRedis({ dataDir, persist: false });
  cleanUp.defer(() => redis.stop());
  return {
    databaseUrl: postgres.url,
    postgresPid: postgres.pid,
    redisUrl: redis.url,
    redisPid: redis.pid,
    folder: dataDir,
  };
}

/** Starts one more Redis, for a server that is to have one of its own. */
export async function startRedis(
  { folder }: BenchStores,
  name: string,
  cleanUp: AsyncDisposableStack,
): Promise<RedisStore> {
  const redis = await startPrivateRedis({ dataDir: join(folder, name), persist: false });
  cleanUp.defer(() => redis.stop());
  return { url: redis.url, pid: redis.pid };
}
