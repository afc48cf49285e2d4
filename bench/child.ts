import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";

/** A module that runs in a process of its own and answers messages, one at a time. */
export interface Child {
  readonly pid: number;
  /** Sends a request and resolves with its answer. */
  ask<Answer>(request: unknown): Promise<Answer>;
  stop(): Promise<void>;
}

type Reply = { readonly answer: unknown } | { readonly failure: string };

/** Starts a module of this folder, which has to call `answerParent`; it ends with `cleanUp` at the latest. */
export function startChild(module: string, cleanUp: AsyncDisposableStack): Child {
  const child = fork(new URL(module, import.meta.url), { serialization: "advanced", execArgv: [] });
  const exited = once(child, "exit");
  const stop = async (): Promise<void> => {
    if (child.connected) {
      child.disconnect();
    }
    await exited;
  };
  cleanUp.defer(stop);
  return {
    pid: child.pid as number,
    ask: async <Answer>(request: unknown) => {
      const lost = exited.then(() => ({ failure: "ended unexpectedly" }) satisfies Reply);
      child.send(request as object);
      const reply = (await Promise.race([nextReply(child), lost])) as Reply;
      if ("failure" in reply) {
        throw new Error(`${module}: ${reply.failure}`);
      }
      return reply.answer as Answer;
    },
    stop,
  };
}

async function nextReply(child: ChildProcess): Promise<Reply> {
  const [reply] = await once(child, "message");
  return reply as Reply;
}

/** The other side: answers every message of the parent, and ends the process when the parent is gone or wants it. */
export function answerParent<Request>(answer: (request: Request) => Promise<unknown>): void {
  // Ctrl-C reaches the whole process group; the parent decides what follows from it.
  process.on("SIGINT", () => {});
  process.on("disconnect", () => process.exit());
  process.on("message", (request: Request) => {
    answer(request).then(
      (value) => process.send?.({ answer: value }),
      (error: Error) => process.send?.({ failure: error.stack ?? error.message }),
    );
  });
}
