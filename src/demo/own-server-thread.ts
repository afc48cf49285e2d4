import { parentPort, workerData } from "node:worker_threads";
import { pino } from "pino";
import { startServer } from "../serve.ts";
import type { OwnServerOptions } from "./own-server.ts";

// The thread of own-server.ts: answers with the port of the gRPC door, and stops at the first message.
const options = workerData as OwnServerOptions;
const server = await startServer({ ...options, logger: pino({ level: "error" }, pino.destination(2)) });
parentPort?.once("message", () => void server.stop());
parentPort?.postMessage(server.grpcPort);
