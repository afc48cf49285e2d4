import { pino } from "pino";
import { type Durability, loadConfig } from "../src/config.ts";
import { startServer } from "../src/serve.ts";
import { answerParent } from "./child.ts";

/** Where the stores are. */
export interface HoldfastRequest {
  readonly redisUrl: string;
  readonly databaseUrl: string;
  /** When a mutation is acknowledged; default "postgres". */
  readonly durability?: Durability;
  /** What it logs, on the standard error; default "warn". */
  readonly logLevel?: "info" | "warn";
}

// All of Holdfast, with its default settings, on free ports.
answerParent<HoldfastRequest>(async ({ logLevel = "warn", durability = "postgres", ...stores }) => {
  const config = loadConfig({
    HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
    HOLDFAST_HTTP_ADDR: "127.0.0.1:0",
    HOLDFAST_DURABILITY: durability,
  });
  const logger = pino({ level: logLevel }, pino.destination(2));
  const { grpcPort } = await startServer({ config, ...stores, logger });
  return grpcPort;
});
