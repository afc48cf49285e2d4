// The program of a serving process: opens its side of the doors, and stops when it is told to. node:cluster ends it at once
// when the process that started it is gone.
import { once } from "node:events";
import { createLogger } from "../logger.ts";
import { startServer } from "../serve.ts";
import { StartError } from "../start-error.ts";
import type { Order, Report, Task } from "./messages.ts";

// Ctrl-C in a terminal reaches every process of the group; the one that started this one decides what follows from it.
process.on("SIGINT", () => {});
const stopAsked = new Promise<void>((resolve) => {
  process.once("SIGTERM", resolve);
  process.on("message", (order: Order) => {
    if (order === "stop") {
      resolve();
    }
  });
});

const { number, config, logLevel, ...stores } = await readTask();
const logger = createLogger(logLevel).child({ process: number });
try {
  const { grpcPort, httpPort, stop } = await startServer({ config, ...stores, logger });
  logger.info(`process ${number} serves`);
  report({ ready: { grpcPort, httpPort } });
  await stopAsked;
  await stop().catch((error: unknown) => {
    // Who asked waits for the end of this process, and reads nothing of it any more.
    logger.error({ err: error }, `process ${number} could not stop as it should`);
    process.exitCode = 1;
  });
} catch (error) {
  const isExpected = error instanceof StartError;
  report({ failure: isExpected ? error.message : String((error as Error | undefined)?.stack ?? error) });
}
process.disconnect();

async function readTask(): Promise<Task> {
  for (;;) {
    const [order] = (await once(process, "message")) as [Order];
    if (order !== "stop") {
      return order.start;
    }
  }
}

function report(message: Report): void {
  process.send?.(message);
}
