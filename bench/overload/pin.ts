import { execFileSync } from "node:child_process";
import { availableParallelism } from "node:os";

/** Which cores do what: the callers have the first to themselves, and everything else the others. */
export interface Cores {
  readonly callers: string;
  readonly servers: string;
}

/** The cores of this machine; undefined where there is only one. */
export function chooseCores(count = availableParallelism()): Cores | undefined {
  return count < 2 ? undefined : { callers: "0", servers: count === 2 ? "1" : `1-${count - 1}` };
}

/** Keeps a process, with all its threads and those that it starts from now on, to some cores. Linux only. */
export function pin(pid: number, cores: string): void {
  execFileSync("taskset", ["-acp", cores, String(pid)], { stdio: ["ignore", "ignore", "inherit"] });
}
