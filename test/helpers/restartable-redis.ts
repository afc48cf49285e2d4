import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { Redis } from "ioredis";
import { chooseFreePort } from "./free-port.ts";
import { createTemporaryFolder } from "./servers.ts";

/** A Redis that can be killed and comes back empty under the same address. */
export interface RestartableRedis {
  readonly url: string;
  /** Ends it with SIGKILL and waits for its end. */
  kill(): Promise<void>;
  /** Starts it again, with nothing in it. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a Redis on a free port, in memory only. */
export async function startRestartableRedis(): Promise<RestartableRedis> {
  const folder = await createTemporaryFolder();
  const port = await chooseFreePort();
  const url = `redis://127.0.0.1:${port}`;
  let server = await launch(folder, port, url);
  const kill = async (): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, "exit");
    server.kill("SIGKILL");
    await ended;
  };
  const killWithParent = (): void => void server.kill("SIGKILL");
  process.once("exit", killWithParent);
  return {
    url,
    kill,
    restart: async () => {
      server = await launch(folder, port, url);
    },
    stop: async () => {
      process.off("exit", killWithParent);
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function launch(folder: string, port: number, url: string): Promise<ChildProcess> {
  const settings = { port, bind: "127.0.0.1", dir: folder, save: "", appendonly: "no" };
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const server = spawn("redis-server", flags, { stdio: "ignore" });
  const client = new Redis(url, { retryStrategy: () => 20, maxRetriesPerRequest: null });
  // Refused connections are the usual answer of a server that has not come up yet.
  client.on("error", () => {});
  const failed = once(server, "exit").then(([code]) => {
    throw new Error(`redis-server ended with exit code ${code}`);
  });
  await Promise.race([client.ping(), failed]).finally(() => client.disconnect());
  failed.catch(() => {});
  return server;
}
