import { Worker } from "node:worker_threads";
import type { Config } from "../config.ts";
import { StartError } from "../start-error.ts";

/** What the thread is given. */
export interface OwnServerOptions {
  readonly config: Config;
  readonly redisUrl: string;
  readonly databaseUrl: string;
}

/** A Holdfast in a thread of its own, so that buyers and server do not wait for each other. */
export interface OwnServer {
  /** `host:port` of its gRPC door. */
  readonly target: string;
  stop(): Promise<void>;
}

/** Starts a Holdfast in a thread, on free loopback ports. It ends with this process, however that ends. */
export async function startOwnServer(options: OwnServerOptions): Promise<OwnServer> {
  const address = { host: "127.0.0.1", port: 0 };
  const config = {
    ...options.config,
    grpcAddress: address,
    httpAddress: address,
    jwt: undefined,
    tls: undefined,
    seedFile: undefined,
  };
  const worker = new Worker(new URL("./own-server-thread.ts", import.meta.url), {
    workerData: { ...options, config },
    execArgv: [],
  });
  const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  const port = await new Promise<number>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", (error: Error) => reject(new StartError(error.message)));
  });
  return {
    target: `${address.host}:${port}`,
    stop: async () => {
      worker.postMessage("stop");
      await ended;
    },
  };
}
