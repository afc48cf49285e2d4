import { appendFile, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "pg";
import { describe, expect, test } from "vitest";
import { startEmbeddedPostgres } from "../../src/dev/embedded-postgres.ts";
import { useDataFolder } from "./data-folder.ts";

const folder = useDataFolder();

async function query(url: string, statement: string) {
  const client = new Client({ connectionString: url });
  // The server may end while the connection is open; the query's own promise tells.
  client.on("error", () => {});
  await client.connect();
  const { rows } = await client.query(statement).finally(() => client.end());
  return rows;
}

describe("startEmbeddedPostgres", () => {
  test("creates the cluster at the first start only and keeps its data", async () => {
    const { dataDir } = folder;
    await rm(join(dataDir, "postgres"), { recursive: true });
    const messages: string[] = [];
    const options = { dataDir, onProgress: (message: string) => messages.push(message) };
    const first = await startEmbeddedPostgres(options);
    await query(first.url, "create table kept as select 42 as answer");
    await first.stop();
    expect(messages).toEqual(["creating the database cluster (first start only)", "starting PostgreSQL"]);

    messages.length = 0;
    const second = await startEmbeddedPostgres(options);
    expect(await query(second.url, "select answer from kept")).toEqual([{ answer: 42 }]);
    expect(messages).toEqual(["starting PostgreSQL"]);
    await second.stop();
    expect((await readdir(dataDir)).sort()).toEqual(["postgres", "postgres.log"]);
  });

  test("runs with the settings that durability rests on, even against a file in the data folder", async () => {
    const { dataDir } = folder;
    const lines = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nlisten_addresses = '*'\n";
    await appendFile(join(dataDir, "postgres", "postgresql.conf"), lines);
    const postgres = await startEmbeddedPostgres({ dataDir });
    const rows = await query(postgres.url, "select name, current_setting(name) as setting from pg_settings");
    const settings = Object.fromEntries(rows.map((row) => [row.name, row.setting]));
    expect(settings).toMatchObject({
      fsync: "on",
      full_page_writes: "on",
      synchronous_commit: "on",
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      max_connections: "200",
      shared_buffers: "256MB",
      max_wal_size: "2GB",
      server_encoding: "UTF8",
      lc_messages: "C",
      TimeZone: "UTC",
    });
    expect(await query(postgres.url, "select datcollate from pg_database where datname = 'holdfast'")).toEqual([
      { datcollate: "C" },
    ]);
    await postgres.stop();
  });

  test("lets nobody in without the password", async () => {
    const { dataDir } = folder;
    const postgres = await startEmbeddedPostgres({ dataDir });
    const url = new URL(postgres.url);
    url.password = "wrong";
    await expect(query(url.href, "select 1")).rejects.toThrow("password authentication failed");
    await postgres.stop();
  });

  test("tells when the server ends by itself, and recovers every committed row at the next start", async () => {
    const { dataDir } = folder;
    const { promise: exited, resolve: onExit } = Promise.withResolvers<string>();
    const postgres = await startEmbeddedPostgres({ dataDir, onExit });
    await query(postgres.url, "create table kept as select 42 as answer");
    process.kill(postgres.pid, "SIGKILL");
    expect(await exited).toBe(`PostgreSQL ended by itself (exit code 137), see ${join(dataDir, "postgres.log")}`);
    await postgres.stop();

    const next = await startEmbeddedPostgres({ dataDir });
    expect(await query(next.url, "select answer from kept")).toEqual([{ answer: 42 }]);
    await next.stop();
  });

  test("stops at once although a connection is open", async () => {
    const { dataDir } = folder;
    const postgres = await startEmbeddedPostgres({ dataDir });
    const sleeping = query(postgres.url, "select pg_sleep(60)").catch((error: Error) => error.message);
    const stoppedAt = Date.now();
    await Promise.all([postgres.stop(), postgres.stop()]);
    expect(Date.now() - stoppedAt).toBeLessThan(2000);
    expect(await sleeping).toBeTypeOf("string");
  });

  test("shows the last lines of the log when the server does not start", async () => {
    const { dataDir } = folder;
    await appendFile(join(dataDir, "postgres", "postgresql.conf"), "no_such_setting = 1\n");
    await expect(startEmbeddedPostgres({ dataDir })).rejects.toThrow(
      /^PostgreSQL did not start \(exit code 1\)(?:.|\n)*unrecognized configuration parameter "no_such_setting"/,
    );
    expect(await readdir(dataDir)).not.toContainEqual(expect.stringContaining("lock"));
  });

  test("refuses a folder that another version wrote", async () => {
    const { dataDir } = folder;
    await writeFile(join(dataDir, "postgres", "PG_VERSION"), "15\n");
    await expect(startEmbeddedPostgres({ dataDir })).rejects.toThrow("was written by PostgreSQL 15");
  });

  test("starts anew when the first start was interrupted", async () => {
    const { dataDir } = folder;
    const unfinished = join(dataDir, "postgres.new.0badcafe");
    await rm(join(dataDir, "postgres"), { recursive: true });
    await writeFile(unfinished, "");
    const postgres = await startEmbeddedPostgres({ dataDir });
    expect(await query(postgres.url, "select 1 as one")).toEqual([{ one: 1 }]);
    expect(await readdir(dataDir)).not.toContain("postgres.new.0badcafe");
    await postgres.stop();
  });

  test("leaves a stranger alone that has the process id of an earlier server", async () => {
    const { dataDir } = folder;
    await writeFile(join(dataDir, "postgres", "postmaster.pid"), `${process.ppid}\n/elsewhere\n0\n1\n\n\n0 0\nready\n`);
    const postgres = await startEmbeddedPostgres({ dataDir });
    expect(await readFile(join(dataDir, "postgres", "postmaster.pid"), "utf8")).toMatch(`${postgres.pid}\n`);
    await postgres.stop();
  });
});
