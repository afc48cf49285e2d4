import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Redis } from "ioredis";
import { chooseFreePort } from "../helpers/free-port.ts";

/** A redis-server of the run, without persistence, always on the same port. */
export interface RedisNode {
  readonly url: string;
  /** Starts it: empty, or with what its last snapshot held. Resolves when it answers. */
  start(from: "empty" | "snapshot"): Promise<void>;
  /** Ends it with SIGKILL. */
  kill(): Promise<void>;
  /** SIGSTOP or SIGCONT. */
  signal(signal: "SIGSTOP" | "SIGCONT"): void;
  /** Sends a command, on a connection of its own. */
  command(name: string, ...args: readonly string[]): Promise<unknown>;
  /** Reads or writes with a client that is gone afterwards. */
  use<Value>(work: (client: Redis) => Promise<Value>): Promise<Value>;
}

/** Makes a node with a folder under `parent`; it does not run yet. `settings` are those of redis.conf; `port`: default any. */
export async function createRedisNode(
  parent: string,
  name: string,
  settings: Readonly<Record<string, string>> = {},
  chosenPort?: number,
): Promise<RedisNode> {
  const folder = join(parent, name);
  await mkdir(folder, { recursive: true });
  const port = chosenPort ?? (await chooseFreePort());
  const url = `redis://127.0.0.1:${port}`;
  const flags = Object.entries({ port: String(port), bind: "127.0.0.1", dir: folder, save: "", ...settings });
  let server: ChildProcess | undefined;

  const use = async <Value>(work: (client: Redis) => Promise<Value>): Promise<Value> => {
    const client = new Redis(url, { retryStrategy: () => 20, maxRetriesPerRequest: null });
    // Refused connections are the usual answer of a server that has not come up yet.
    client.on("error", () => {});
    return work(client).finally(() => client.disconnect());
  };
  return {
    url,
    use,
    start: async (from) => {
      if (from === "empty") await rm(join(folder, "dump.rdb"), { force: true });
      server = spawn(
        "redis-server",
        flags.flatMap(([key, value]) => [`--${key}`, value]),
        { stdio: "ignore" },
      );
      endWithThisProcess(server);
      const failed = once(server, "exit").then(([code]) => {
        throw new Error(`redis-server on port ${port} ended with exit code ${code}`);
      });
      failed.catch(() => {}); // later it may end as it likes
      await use((client) => Promise.race([client.ping(), failed]));
    },
    kill: async () => {
      if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
      const ended = once(server, "exit");
      server.kill("SIGKILL");
      await ended;
    },
    signal: (signal) => void server?.kill(signal),
    command: (command, ...args) => use((client) => client.call(command, ...args)),
  };
}

/** Ends the server when this process ends. */
function endWithThisProcess(server: ChildProcess): void {
  const kill = (): void => void server.kill("SIGKILL");
  process.once("exit", kill);
  server.once("exit", () => process.off("exit", kill));
}
