import cluster from "node:cluster";
import { fileURLToPath } from "node:url";
import { StartError } from "../start-error.ts";
import { closeUnaccepted } from "./close-unaccepted.ts";
import type { Order, Ports, Report, Task } from "./messages.ts";

/** A process that serves, as the one that started it sees it. */
export interface ServingProcess {
  readonly pid: number | undefined;
  /** Resolves when its doors are open; rejects with a StartError when it could not open them. */
  readonly ready: Promise<Ports>;
  /** Resolves when the process has ended, with a few words like `was ended by SIGKILL`. */
  readonly ended: Promise<string>;
  /** Lets it finish what is in flight and end. */
  askToStop(): void;
  /** Ends it at once. */
  kill(): void;
}

const program = fileURLToPath(new URL("./process-program.ts", import.meta.url));

/** Starts a process that shares the doors with the others and ends with this process, however this process ends. */
export function forkProcess(task: Task): ServingProcess {
  // Said here, because an environment variable could have it otherwise: processes that accept by themselves share unevenly.
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({ exec: program, args: [], serialization: "advanced" });
  const worker = cluster.fork();
  closeUnaccepted(worker);
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
      } else {
        reject(new StartError(report.failure));
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
    askToStop: () => tell("stop"),
    kill: () => worker.process.kill("SIGKILL"),
  };
}
