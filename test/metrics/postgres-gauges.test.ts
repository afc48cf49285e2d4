import type { Kysely } from "kysely";
import { Client } from "pg";
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { createPostgresGauges } from "../../src/metrics/postgres-gauges.ts";
import { openDatabase } from "../../src/postgres/connection.ts";
import { lookAtPostgres } from "../../src/postgres/looks.ts";
import type { Database } from "../../src/postgres/schema.ts";
import { parseMetrics } from "../helpers/metrics-text.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { administrate, createDatabase, type TestDatabase } from "../helpers/servers.ts";
import { until } from "../helpers/until.ts";

/** Nobody but these tests has a transaction on it. */
let database: TestDatabase;
let proxy: TcpProxy;
let db: Kysely<Database>;

beforeAll(async () => {
  database = await createDatabase();
  // What is shown instead of PostgreSQL's own view is found before it.
  await administrate(`alter database ${database.name} set search_path = public, pg_catalog`);
  proxy = await startProxy(database.url);
  db = openDatabase({ url: proxy.url, size: 2, onError: () => {} });
});
afterAll(async () => {
  await db?.destroy();
  await proxy?.stop();
  await database?.drop();
});

/** Begins a transaction that stays open until the test is over. */
async function beginTransaction(): Promise<void> {
  const client = new Client({ connectionString: database.url });
  await client.connect();
  onTestFinished(() => client.end());
  await client.query("begin");
}

/** Shows whoever looks an autovacuum that has taken an hour: PostgreSQL begins one when it likes. */
async function showAutovacuum(): Promise<void> {
  const row = `jsonb_build_object('datname', current_database(), 'pid', 0, 'backend_type', 'autovacuum worker',
    'xact_start', now() - interval '1 hour')`;
  const client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query(`
    create view pg_stat_activity as select * from pg_catalog.pg_stat_activity
    union all select (jsonb_populate_record(null::pg_catalog.pg_stat_activity, ${row})).*`);
  await client.end();
}

describe("the oldest transaction", () => {
  test("is one of a client, not an autovacuum", async () => {
    await showAutovacuum();
    expect((await lookAtPostgres(db)).oldestTransactionSeconds).toBe(0);
    await beginTransaction();
    expect((await lookAtPostgres(db)).oldestTransactionSeconds).toBeGreaterThan(0);
  });
});

describe("what PostgreSQL is looked at for", () => {
  test("is 0 while PostgreSQL is away, and shown again when it is back", async () => {
    const registry = new Registry();
    onTestFinished(createPostgresGauges({ registry, db, lookMs: 10, logger: pino({ level: "silent" }) }));
    const oldestSeconds = async () =>
      parseMetrics(await registry.metrics()).sum("holdfast_postgres_oldest_transaction_seconds");
    await beginTransaction();
    await until("it is shown", async () => (await oldestSeconds()) > 0);
    proxy.refuse();
    await until("it is 0", async () => (await oldestSeconds()) === 0);
    proxy.accept();
    await until("it is shown again", async () => (await oldestSeconds()) > 0);
  });
});
