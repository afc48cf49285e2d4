import { pino } from "pino";
import { type Durability, loadConfig } from "../src/config.ts";
import { startProcesses } from "../src/processes/start-processes.ts";
import { startServer } from "../src/serve.ts";
import { answerParent } from "./child.ts";
import { readMemoryUse } from "./memory-use.ts";

/** Starts a server, once; afterwards "memory" asks what it takes. */
export type HoldfastRequest = StartRequest | "memory";

/** Where the stores are, and what is not as by default. */
export interface StartRequest {
  readonly redisUrl: string;
  readonly databaseUrl: string;
  /** When a mutation is acknowledged; default "postgres". */
  readonly durability?: Durability;
  /** What it logs; default "warn". */
  readonly logLevel?: "info" | "warn" | "fatal";
  /** Where to; default: the standard error. */
  readonly logFile?: string;
  /** Default 1. */
  readonly processCount?: number;
  /** More of them, as environment variables. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** Where its doors are. */
export interface HoldfastPorts {
  readonly grpcPort: number;
  readonly httpPort: number;
}

answerParent<HoldfastRequest>(async (request) => (request === "memory" ? readMemoryUse() : start(request)));

/** All of Holdfast on free ports. */
async function start(request: StartRequest): Promise<HoldfastPorts> {
  const { logLevel = "warn", logFile = 2, durability = "postgres", processCount = 1, settings, ...stores } = request;
  const config = loadConfig({
    HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
    HOLDFAST_HTTP_ADDR: "127.0.0.1:0",
    HOLDFAST_DURABILITY: durability,
    HOLDFAST_PROCESSES: String(processCount),
    ...settings,
  });
  const logger = pino({ level: logLevel }, pino.destination(logFile));
  const options = { config, ...stores, logger };
  const onGone = (error: Error): void => {
    throw error;
  };
  const { grpcPort, httpPort } = await (processCount === 1
    ? startServer(options)
    : startProcesses({ ...options, onGone }));
  return { grpcPort, httpPort };
}
