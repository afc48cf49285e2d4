import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { isAlive } from "../../src/dev/process-identity.ts";

/** Runs a program of this folder with one argument; its standard input stays open. */
export function run(program: string, argument: string): ChildProcess {
  const path = fileURLToPath(new URL(program, import.meta.url));
  return spawn(process.execPath, [path, argument], { stdio: ["pipe", "pipe", "inherit"] });
}

/** The first line a child prints. */
export async function readLine(child: ChildProcess): Promise<string> {
  let text = "";
  while (!text.includes("\n")) {
    const data = child.stdout === null ? [] : await once(child.stdout, "data");
    text += String(data[0]);
  }
  return text.trim();
}

/** Kills a process so that it can do nothing about it, and waits until it has gone. */
export async function killHard(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

/** Fails unless the process ends within the time. */
export async function expectEnd(pid: number, withinMs: number): Promise<void> {
  await expect
    .poll(() => isAlive(pid), { timeout: withinMs, interval: 20, message: `process ${pid} runs` })
    .toBe(false);
}

/** The session of a process (field 6 of its line in /proc). */
export function readSession(pid: number): number {
  return Number(readStatFields(pid)[3]);
}

/** The shells that watch over the servers of a session. */
export function findSupervisors(session: number): number[] {
  const pids = readdirSync("/proc").map(Number).filter(Boolean);
  return pids.filter((pid) => {
    const commandLine = tryRead(`/proc/${pid}/cmdline`);
    return commandLine.includes("supervise.sh") && readSession(pid) === session;
  });
}

function readStatFields(pid: number): string[] {
  const stat = tryRead(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function tryRead(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // The process has gone in the meantime.
    return "";
  }
}
