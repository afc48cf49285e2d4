import { pino } from "pino";
import { type Durability, loadConfig } from "../src/config.ts";
import { startProcesses } from "../src/processes/start-processes.ts";
import { startServer } from "../src/serve.ts";
import { answerParent } from "./child.ts";
import { readMemoryUse } from "./memory-use.ts";

/** Starts a server, once; afterwards "memory" asks what it takes. */
export type HoldfastRequest = StartRequest | "memory";

/** Where the stores are. */
interface StartRequest {
  readonly redisUrl: string;
  readonly databaseUrl: string;
  /** When a mutation is acknowledged; default "postgres". */
  readonly durability?: Durability;
  /** What it logs, on the standard error; default "warn". */
  readonly logLevel?: "info" | "warn";
  /** Default 1. */
  readonly processCount?: number;
}

answerParent<HoldfastRequest>(async (request) => (request === "memory" ? readMemoryUse() : start(request)));

/** All of Holdfast, with its default settings, on free ports. Resolves with that of the gRPC door. */
async function start(request: StartRequest): Promise<number> {
  const { logLevel = "warn", durability = "postgres", processCount = 1, ...stores } = request;
  const config = loadConfig({
    HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
    HOLDFAST_HTTP_ADDR: "127.0.0.1:0",
    HOLDFAST_DURABILITY: durability,
    HOLDFAST_PROCESSES: String(processCount),
  });
  const logger = pino({ level: logLevel }, pino.destination(2));
  const options = { config, ...stores, logger };
  const onGone = (error: Error): void => {
    throw error;
  };
  const { grpcPort } = await (processCount === 1 ? startServer(options) : startProcesses({ ...options, onGone }));
  return grpcPort;
}
