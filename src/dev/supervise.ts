import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, open, rename, stat } from "node:fs/promises";
import type { Socket } from "node:net";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { isAlive } from "./process-identity.ts";

/**
 * Invariant: a server started here ends with this process, however this process ends. The shell script between the two
 * holds the reading end of a pipe whose only writing end is ours, and runs in a session of its own, so that a Ctrl-C in
 * the terminal reaches Holdfast alone, which drains first and stops its servers after.
 */
const script = fileURLToPath(new URL("./supervise.sh", import.meta.url));

const maxLogBytes = 10 * 1024 * 1024;
const maxTailBytes = 4096;

/** How to run one server. */
export interface SuperviseOptions {
  readonly command: readonly string[];
  /** Working directory. */
  readonly cwd: string;
  /** Takes both output streams; appended to, and moved to `<logFile>.old` at a start that finds it above 10 MiB. */
  readonly logFile: string;
  /** Asks the server to end well. */
  readonly gentleSignal: "INT" | "TERM";
  /** Sent when the gentle one did not help; SIGKILL follows. */
  readonly firmSignal: "QUIT" | "KILL";
}

/** A server process that ends when `stop` is called or when this process ends. */
export interface SupervisedServer {
  readonly pid: number;
  /** Resolves when the server has ended, for whatever reason, with a few words like `exit code 1`. */
  readonly ended: Promise<string>;
  /** The newest lines that the server has logged since this start, at most 4 KiB. */
  readLogTail(): Promise<string>;
  /** From now on the server no longer keeps this process alive; when this process ends, the server ends too. */
  unref(): void;
  /** Ends the server, and resolves when it has ended. A second call waits for the same end. */
  stop(): Promise<void>;
}

/** Starts a server under its supervisor; resolves as soon as it has a process id, which is before it is ready. */
export async function supervise(options: SuperviseOptions): Promise<SupervisedServer> {
  const log = await openLog(options.logFile);
  try {
    const child = spawn("/bin/sh", [script, options.gentleSignal, options.firmSignal, ...options.command], {
      cwd: options.cwd,
      detached: true,
      stdio: ["pipe", "pipe", log.handle.fd],
    });
    const ended = once(child, "exit").then(([code, signal]) =>
      code === null ? `signal ${signal}` : `exit code ${code}`,
    );
    const pid = await readPid(child, ended);
    // Writing "stop" to a supervisor that has just ended by itself is no fault.
    child.stdin?.on("error", () => {});
    return {
      pid,
      ended,
      readLogTail: () => readTail(options.logFile, log.startByte),
      unref: () => unref(child),
      stop: () => stop(child, pid, ended),
    };
  } finally {
    await log.handle.close();
  }
}

async function openLog(logFile: string) {
  await mkdir(dirname(logFile), { recursive: true });
  const size = await stat(logFile).then(
    (found) => found.size,
    () => 0,
  );
  if (size > maxLogBytes) await rename(logFile, `${logFile}.old`);
  const handle = await open(logFile, "a", 0o600);
  return { handle, startByte: size > maxLogBytes ? 0 : size };
}

async function readPid(child: ChildProcess, ended: Promise<string>): Promise<number> {
  const { stdout } = child;
  if (stdout === null) throw new Error("the supervisor has no output pipe");
  const line = await Promise.race([once(stdout, "data").then(([data]) => String(data)), ended]);
  const pid = Number.parseInt(line, 10);
  stdout.destroy();
  if (!(pid > 0)) throw new Error(`the supervisor ended before it started the server: ${line}`);
  return pid;
}

function unref(child: ChildProcess): void {
  child.unref();
  (child.stdin as Socket | null)?.unref();
}

async function readTail(logFile: string, startByte: number): Promise<string> {
  const handle = await open(logFile, "r");
  try {
    const { size } = await handle.stat();
    const from = Math.max(startByte, size - maxTailBytes);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(maxTailBytes), 0, Math.max(0, size - from), from);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await handle.close();
  }
}

async function stop(child: ChildProcess, pid: number, ended: Promise<string>): Promise<void> {
  child.ref();
  if (child.stdin?.writable) child.stdin.end("stop\n");
  await ended;
  // Normally false at once. The server outlives a supervisor that somebody killed, by the moment its watcher needs.
  while (isAlive(pid)) await sleep(20);
}
