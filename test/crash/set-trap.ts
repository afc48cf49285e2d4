// Loaded before a server of the sweep. A trap is {"point", "hit", "signal"}: the server sends itself the signal when it passes
// the point for the hit-th time since the trap was set, by its environment or by a line on its standard input.
import { createInterface } from "node:readline";
import { type CrashPoint, onCrashPoint } from "../../src/crash-point.ts";

/** Where a server ends, and how. */
export interface Trap {
  readonly point: CrashPoint;
  /** Counts from 1. */
  readonly hit: number;
  /** SIGSTOP: it stands still until it is sent SIGCONT. */
  readonly signal: "SIGKILL" | "SIGSTOP";
}

let trap: Trap | undefined;
let hits = 0;

function set(text: string): void {
  trap = JSON.parse(text) as Trap;
  hits = 0;
}

onCrashPoint((point) => {
  if (point !== trap?.point) return;
  hits += 1;
  // Every thread of the process is stopped before the system call returns.
  if (hits === trap.hit) process.kill(process.pid, trap.signal);
});
if (process.env.CRASH_TRAP !== undefined) set(process.env.CRASH_TRAP);
createInterface({ input: process.stdin }).on("line", set);
