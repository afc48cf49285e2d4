import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { inject } from "vitest";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "../../src/dev/embedded-postgres.ts";
import { type PrivateRedis, startPrivateRedis } from "../../src/dev/private-redis.ts";
import { openDatabase } from "../../src/postgres/connection.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import { fillCompileCache } from "./base-environment.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** URL of the PostgreSQL that the whole run shares, as a superuser. */
    postgresUrl: string;
  }
}

/** A database with the schema and nothing in it; nobody is ever connected to it, so that it can be copied. */
const templateName = "holdfast_template";

/** A folder under the system's temporary one; the caller removes it. */
export function createTemporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), "holdfast-test-"));
}

/** Run by Vitest once, before the first test file: one PostgreSQL with the product's own settings for all of them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await createTemporaryFolder();
  const [postgres] = await Promise.all([startEmbeddedPostgres({ dataDir }), fillCompileCache()]);
  await createTemplate(postgres.url);
  project.provide("postgresUrl", postgres.url);
  return async () => {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
}

async function createTemplate(postgresUrl: string): Promise<void> {
  await run(postgresUrl, `create database ${templateName}`);
  const db = openDatabase({ url: urlOf(postgresUrl, templateName), size: 1, onError: () => {} });
  await migrate(db).finally(() => db.destroy());
}

/** A database that one test file has for itself. */
export interface TestDatabase {
  readonly name: string;
  readonly url: string;
  /** Removes the database, also when connections to it are still open. */
  drop(): Promise<void>;
}

/** Creates a database in the PostgreSQL of the run: with the schema and no rows, or with nothing at all. */
export async function createDatabase(content: "schema" | "nothing" = "schema"): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString("hex")}`;
  await administrate(`create database ${name}${content === "schema" ? ` template ${templateName}` : ""}`);
  const url = urlOf(inject("postgresUrl"), name);
  return { name, url, drop: () => administrate(`drop database ${name} with (force)`) };
}

/** Runs statements as a superuser, in a database of nobody. Each is a transaction of its own. */
export function administrate(...statements: string[]): Promise<void> {
  return run(inject("postgresUrl"), ...statements);
}

async function run(url: string, ...statements: string[]): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

function urlOf(postgresUrl: string, database: string): string {
  const url = new URL(postgresUrl);
  url.pathname = `/${database}`;
  return url.href;
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
