import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { StartError } from "../start-error.ts";
import { endLeftOver } from "./end-left-over.ts";
import { lockDataFolder } from "./lock-data-folder.ts";
import { createStop, type ServerOptions } from "./running-server.ts";
import { startOnFreePort } from "./start-on-free-port.ts";
import { supervise } from "./supervise.ts";

const probeMs = 2_000;

/** Where and how a private Redis runs. */
export interface PrivateRedisOptions extends ServerOptions {
  /** Whether data is kept over a clean restart, by a snapshot that SIGTERM makes Redis write. Default true. */
  readonly persist?: boolean;
}

/** A Redis of our own, on a loopback port and with a password that differ from start to start. */
export interface PrivateRedis {
  /** `redis://` with the password. */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Ends the server, after its snapshot when it keeps data, and resolves when it has ended. */
  stop(): Promise<void>;
}

/**
 * Starts the system's redis-server (or valkey-server) in `<dataDir>/redis`.
 * Throws, with one message to show, when there is none, the folder is in use, or the server does not start.
 */
export async function startPrivateRedis(options: PrivateRedisOptions): Promise<PrivateRedis> {
  const onProgress = options.onProgress ?? (() => {});
  const dataDir = resolve(options.dataDir);
  const program = await findProgram();
  const lock = await lockDataFolder(dataDir, "redis");
  try {
    const folder = join(dataDir, "redis");
    const logFile = join(dataDir, "redis.log");
    const password = randomBytes(24).toString("base64url");
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const pidFile = join(folder, "redis.pid");
    await endLeftOver({ title: "Redis", pidFile, folder, gentleSignal: "SIGTERM", onProgress });
    onProgress("starting Redis");
    const { server, port } = await startOnFreePort({
      title: "Redis",
      logFile,
      onProgress,
      launch: async (freePort) => {
        await writeConfiguration(folder, configure(freePort, password, options.persist ?? true));
        const command = [program, "./redis.conf"];
        return supervise({ command, cwd: folder, logFile, gentleSignal: "TERM", firmSignal: "KILL" });
      },
      isReady: (_, launchedPort) => answersPing(launchedPort, password),
    });
    const stop = createStop(server, lock, (how) => options.onExit?.(`Redis ended by itself (${how}), see ${logFile}`));
    return { url: `redis://:${password}@127.0.0.1:${port}`, port, pid: server.pid, stop };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

async function findProgram(): Promise<string> {
  const look = "command -v redis-server || command -v valkey-server";
  const found = await promisify(execFile)("/bin/sh", ["-c", look]).catch(() => undefined);
  if (found !== undefined) return found.stdout.trim();
  throw new StartError(
    "redis-server was not found: install it (Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis), " +
      "or set REDIS_URL to a Redis 7.0 or newer",
  );
}

/** No snapshots while it runs and no append-only file: PostgreSQL is the record, Redis is rebuilt from it. */
function configure(port: number, password: string, persist: boolean): string {
  return [
    "bind 127.0.0.1",
    `port ${port}`,
    `requirepass ${password}`,
    "daemonize no",
    "dir ./",
    "pidfile redis.pid",
    "dbfilename dump.rdb",
    'save ""',
    "appendonly no",
    `shutdown-on-sigterm ${persist ? "save" : "nosave"}`,
    "maxmemory-policy noeviction",
    'proc-title-template "{title} {listen-addr} {config-file}"',
    "",
  ].join("\n");
}

async function writeConfiguration(folder: string, text: string): Promise<void> {
  const path = join(folder, "redis.conf");
  // Removed first: an earlier start may have been another user's.
  await rm(path, { force: true });
  await writeFile(path, text, { mode: 0o600 });
  await chmod(path, 0o600);
}

/** True when our Redis answers on the port; while it loads its snapshot, or when it is a stranger's port, it does not. */
function answersPing(port: number, password: string): Promise<boolean> {
  return new Promise((resolveAnswer) => {
    const socket = connect(port, "127.0.0.1");
    let received = "";
    socket.setTimeout(probeMs, () => socket.destroy());
    socket.on("connect", () => socket.write(`AUTH ${password}\r\nPING\r\n`));
    socket.on("data", (data) => {
      received += data.toString("latin1");
      if (received.split("\r\n").length > 2) socket.destroy();
    });
    // A refused connection is the usual answer of a server that has not come up yet.
    socket.on("error", () => {});
    socket.on("close", () => resolveAnswer(received.endsWith("+PONG\r\n")));
  });
}
