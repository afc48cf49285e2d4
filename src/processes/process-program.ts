// The program of a serving process: opens its side of the doors, and stops when it is told to. node:cluster ends it at once
// when the process that started it is gone.
import { once } from "node:events";
import { createLogger } from "../logger.ts";
import { startServer } from "../serve.ts";
import { StartError } from "../start-error.ts";
import type { Order, Report, Task } from "./messages.ts";

/** How long the metrics of all processes may take, in milliseconds: more than a process that does not say its own is waited for. */
const pageMs = 3000;

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
/** Who waits for the metrics of all processes, by the number of the question. */
const waiting = new Map<number, (text: string) => void>();
let askedCount = 0;

const { number, config, logLevel, ...stores } = await readTask();
const logger = createLogger(logLevel).child({ process: number });
try {
  const place = { number, gatherMetrics };
  const { grpcPort, httpPort, metrics, stop } = await startServer({ config, ...stores, process: place, logger });
  process.on("message", (order: Order) => {
    if (typeof order === "object" && "say" in order) {
      void metrics().then((text) => report({ said: order.say, text }));
    } else if (typeof order === "object" && "page" in order) {
      waiting.get(order.page)?.(order.text);
    }
  });
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
    if (typeof order === "object" && "start" in order) {
      return order.start;
    }
  }
}

/** The process that started this one asks all of them. */
async function gatherMetrics(): Promise<string> {
  askedCount += 1;
  const question = askedCount;
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error("the process that hands out connections does not answer")), pageMs);
  waiting.set(question, resolve);
  report({ askedForPage: question });
  return promise.finally(() => {
    clearTimeout(timer);
    waiting.delete(question);
  });
}

function report(message: Report): void {
  process.send?.(message);
}
