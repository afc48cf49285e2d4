// The program of a serving process: opens its side of the doors, and stops when it is told to. node:cluster ends it at once
// when the process that started it is gone.
import { once } from "node:events";
import { createLogger } from "../logger.ts";
import { explainMissingRight } from "../missing-right.ts";
import { startServer } from "../serve.ts";
import { StartError } from "../start-error.ts";
import type { Order, Report, Task } from "./messages.ts";
import { createQuestions } from "./questions.ts";

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
/** Asks the process that started this one, which asks all. */
const questions = createQuestions({
  timeoutMs: pageMs,
  unanswered: "the process that hands out connections does not answer",
});

const { number, config, logLevel, ...stores } = await readTask();
const logger = createLogger(logLevel).child({ process: number });
try {
  const gatherMetrics = () => questions.ask((question) => report({ askedForPage: question }));
  const place = { number, gatherMetrics };
  const { grpcPort, httpPort, metrics, stop } = await startServer({ config, ...stores, process: place, logger });
  process.on("message", (order: Order) => {
    if (typeof order === "object" && "say" in order) {
      void sayMetrics(order.say, metrics);
    } else if (typeof order === "object" && "page" in order) {
      questions.answer(order.page, order.text);
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
} catch (thrown) {
  const error = explainMissingRight(thrown);
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

/** Metrics that cannot be said are missing on the page of all processes; that is no reason to end. */
async function sayMetrics(question: number, metrics: () => Promise<string>): Promise<void> {
  try {
    report({ said: question, text: await metrics() });
  } catch (error) {
    logger.error({ err: error }, `process ${number} could not say its metrics`);
  }
}

/** Nobody listens any more once the channel is closed, and to write to it would be an error that nobody catches. */
function report(message: Report): void {
  if (process.connected) {
    process.send?.(message);
  }
}
