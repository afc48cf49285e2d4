import { execFileSync } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";

/** True while a process with this id runs; one that has ended and only waits to be reaped does not run. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return readState(pid)?.code !== "Z";
}

/**
 * The moment a process started, as text that only its own pid and start can have; `0` where the system does not tell
 * (anything but Linux), which leaves the pid alone as its identity.
 */
export function readStartMark(pid: number): string {
  return readState(pid)?.startTicks ?? "0";
}

/**
 * True when the process works in the folder, which is what tells a server left behind by an earlier start from a
 * stranger that got the same pid. Linux says it by the working directory, other systems by the command line.
 */
export function worksIn(pid: number, folder: string): boolean {
  try {
    if (process.platform === "linux") return readlinkSync(`/proc/${pid}/cwd`) === folder;
    return execFileSync("ps", ["-ww", "-o", "command=", "-p", String(pid)], { encoding: "utf8" }).includes(folder);
  } catch {
    // Gone in the meantime, or another user's: not ours either way.
    return false;
  }
}

function readState(pid: number): { code: string | undefined; startTicks: string | undefined } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, field 2, is in brackets and may hold spaces; the fields after it are plain: state is 3, start time 22.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { code: fields[0], startTicks: fields[19] };
  } catch {
    // No /proc on this system, or the process has just gone.
    return undefined;
  }
}
