import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { baseEnvironment } from "./base-environment.ts";

/** A program of examples/ that runs. */
export interface Example {
  readonly pid: number;
  /** What it printed so far, on both outputs. */
  readonly output: string;
  signal(signal: NodeJS.Signals): void;
  /** Resolves with the exit code when it has ended; undefined when a signal ended it. */
  readonly ended: Promise<number | undefined>;
}

const projectFolder = fileURLToPath(new URL("../..", import.meta.url));
const guard = fileURLToPath(new URL("end-with-parent.ts", import.meta.url));

/** Starts a worker of examples/ by its name; it also ends when this process does. */
export function startWorker(name: string, env: Readonly<Record<string, string>>): Example {
  return start(process.execPath, ["--import", guard, `examples/${name}.ts`], env);
}

/** Runs a program to its end. */
export async function runProgram(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number | undefined; readonly output: string }> {
  const program = start(command, args, env);
  const code = await program.ended;
  return { code, output: program.output };
}

function start(command: string, args: readonly string[], env: Readonly<Record<string, string>>): Example {
  const child = spawn(command, [...args], {
    cwd: projectFolder,
    env: { ...baseEnvironment, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => {
      output += data;
    });
  }
  // What is written to a program that has ended is lost, as it should be.
  child.stdin.on("error", () => {});
  return {
    pid: child.pid as number,
    get output() {
      return output;
    },
    signal: (signal) => child.kill(signal),
    ended: once(child, "close").then(([code]) => (code as number | null) ?? undefined),
  };
}
