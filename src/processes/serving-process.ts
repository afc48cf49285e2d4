import cluster from "node:cluster";
import { fileURLToPath } from "node:url";
import { StartError } from "../start-error.ts";
import { closeUnaccepted } from "./close-unaccepted.ts";
import type { Order, Ports, Report, Task } from "./messages.ts";
import { createQuestions } from "./questions.ts";

/** A process that serves, as the one that started it sees it. */
export interface ServingProcess {
  readonly pid: number | undefined;
  /** Resolves when its doors are open; rejects with a StartError when it could not open them. */
  readonly ready: Promise<Ports>;
  /** Resolves when the process has ended, with a few words like `was ended by SIGKILL`. */
  readonly ended: Promise<string>;
  /** Its metrics; rejects when it does not say them within a second. */
  metrics(): Promise<string>;
  /** Lets it finish what is in flight and end. */
  askToStop(): void;
  /** Ends it at once. */
  kill(): void;
}

const program = fileURLToPath(new URL("./process-program.ts", import.meta.url));

/** A process that does not say its metrics in this time is left out, in milliseconds. */
const sayMs = 1000;

/**
 * Starts a process that shares the doors with the others and ends with this process, however this process ends. `gather` gives
 * the metrics of all processes when this one is asked for them.
 */
export function forkProcess(task: Task, gather: () => Promise<string>): ServingProcess {
  // Said here, because an environment variable could have it otherwise: processes that accept by themselves share unevenly.
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({ exec: program, args: [], serialization: "advanced" });
  const worker = cluster.fork();
  closeUnaccepted(worker);
  const questions = createQuestions({ timeoutMs: sayMs, unanswered: "it does not say its metrics" });
  const ended = new Promise<string>((resolve) => {
    worker.once("exit", (code, signal) =>
      resolve(signal ? `was ended by ${signal}` : `ended by itself with exit code ${code}`),
    );
    worker.on("error", (error) => {
      // Without a pid there will be no exit; otherwise a message was not sent because the process is ending.
      if (worker.process.pid === undefined) {
        resolve(`could not be started: ${error.message}`);
      }
    });
  });
  const ready = new Promise<Ports>((resolve, reject) => {
    worker.on("message", (report: Report) => {
      if ("ready" in report) {
        resolve(report.ready);
      } else if ("failure" in report) {
        reject(new StartError(report.failure));
      } else if ("said" in report) {
        questions.answer(report.said, report.text);
      } else {
        void gather().then((text) => tell({ page: report.askedForPage, text }));
      }
    });
    void ended.then((how) => reject(new StartError(`process ${task.number} ${how} before it could serve`)));
  });
  const tell = (order: Order): void => {
    if (worker.isConnected()) {
      worker.send(order);
    }
  };
  tell({ start: task });
  return {
    pid: worker.process.pid,
    ready,
    ended,
    metrics: () => questions.ask((question) => tell({ say: question })),
    askToStop: () => tell("stop"),
    kill: () => worker.process.kill("SIGKILL"),
  };
}
