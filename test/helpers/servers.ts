import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { inject } from "vitest";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "../../src/dev/embedded-postgres.ts";
import { type PrivateRedis, startPrivateRedis } from "../../src/dev/private-redis.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** URL of the PostgreSQL that the whole run shares, as a superuser. */
    postgresUrl: string;
  }
}

/** A folder under the system's temporary one; the caller removes it. */
export function createTemporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), "holdfast-test-"));
}

/** Run by Vitest once, before the first test file: one PostgreSQL with the product's own settings for all of them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await createTemporaryFolder();
  const postgres = await startEmbeddedPostgres({ dataDir });
  project.provide("postgresUrl", postgres.url);
  return async () => {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
}

/** A database that one test file has for itself. */
export interface TestDatabase {
  readonly url: string;
  /** Removes the database, also when connections to it are still open. */
  drop(): Promise<void>;
}

/** Creates an empty database in the PostgreSQL of the run. */
export async function createDatabase(): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString("hex")}`;
  await administrate(`create database ${name}`);
  const url = new URL(inject("postgresUrl"));
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => administrate(`drop database ${name} with (force)`) };
}

async function administrate(statement: string): Promise<void> {
  const client = new Client({ connectionString: inject("postgresUrl") });
  await client.connect();
  await client.query(statement).finally(() => client.end());
}

/** Starts a Redis of the caller's own that keeps nothing; `stop` also removes its folder. */
export async function startRedis(): Promise<PrivateRedis> {
  const dataDir = await createTemporaryFolder();
  const redis = await startPrivateRedis({ dataDir, persist: false });
  return {
    ...redis,
    stop: async () => {
      await redis.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
