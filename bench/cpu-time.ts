import { readdirSync, readFileSync } from "node:fs";

/** Linux counts a process' time in hundredths of a second, whatever the kernel's own tick is. */
const microsecondsPerTick = 10_000;

/** CPU time of a process and its children, in microseconds; undefined where there is no /proc. */
export function readCpuTimeUs(rootPid: number): number | undefined {
  const processes = readProcesses();
  if (processes === undefined) {
    return undefined;
  }
  const ticks = processes
    .filter(({ pid, parentPid }) => pid === rootPid || parentPid === rootPid)
    .reduce((sum, each) => sum + each.ownTicks + (each.pid === rootPid ? each.endedChildrenTicks : 0), 0);
  return ticks * microsecondsPerTick;
}

interface ProcessTimes {
  readonly pid: number;
  readonly parentPid: number;
  readonly ownTicks: number;
  readonly endedChildrenTicks: number;
}

function readProcesses(): ProcessTimes[] | undefined {
  try {
    const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    return pids.flatMap((pid) => readProcess(Number(pid)) ?? []);
  } catch {
    // Not Linux.
    return undefined;
  }
}

function readProcess(pid: number): ProcessTimes | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // Field 2, the name, is in brackets and may hold spaces. After it: field 3 is the state, 4 the parent, 14 to 17 the times.
    const fields = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number);
    const [user = 0, system = 0, childrenUser = 0, childrenSystem = 0] = fields.slice(11, 15);
    return {
      pid,
      parentPid: fields[1] ?? 0,
      ownTicks: user + system,
      endedChildrenTicks: childrenUser + childrenSystem,
    };
  } catch {
    // Gone since the folder was listed.
    return undefined;
  }
}
