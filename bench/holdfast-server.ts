import { pino } from "pino";
import { type Durability, loadConfig } from "../src/config.ts";
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
}

answerParent<HoldfastRequest>(async (request) => (request === "memory" ? readMemoryUse() : start(request)));

/** All of Holdfast, with its default settings, on free ports. Resolves with that of the gRPC door. */
async function start({ logLevel = "warn", durability = "postgres", ...stores }: StartRequest): Promise<number> {
  const config = loadConfig({
    HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
    HOLDFAST_HTTP_ADDR: "127.0.0.1:0",
    HOLDFAST_DURABILITY: durability,
  });
  const logger = pino({ level: logLevel }, pino.destination(2));
  const { grpcPort } = await startServer({ config, ...stores, logger });
  return grpcPort;
}
