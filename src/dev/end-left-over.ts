import { readFile, realpath } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { StartError } from "../start-error.ts";
import { isAlive, worksIn } from "./process-identity.ts";

const gentleMs = 6_000;
const firmMs = 2_000;
const killedMs = 2_000;

/** Where a server of an earlier start may have left its mark. */
export interface LeftOver {
  /** `PostgreSQL`, for the messages. */
  readonly title: string;
  /** A file whose first line is the process id. */
  readonly pidFile: string;
  /** The folder the server works in: a process that works elsewhere is a stranger and is left alone. */
  readonly folder: string;
  readonly gentleSignal: "SIGINT" | "SIGTERM";
  readonly onProgress: (message: string) => void;
}

/**
 * Ends what an earlier start left running in a data folder; needs the folder's lock, so that nobody else wants it.
 * Usually its supervisor is about to do so anyway. Gives up after 10 s, with an error.
 */
export async function endLeftOver({ title, pidFile, folder, gentleSignal, onProgress }: LeftOver): Promise<void> {
  const pid = await readPidFile(pidFile);
  if (pid === undefined || !isAlive(pid) || !worksIn(pid, await realpath(folder))) return;
  onProgress(`ending the ${title} that an earlier start left here (process ${pid})`);
  if (await endWith(pid, gentleSignal, gentleMs)) return;
  if (await endWith(pid, "SIGQUIT", firmMs)) return;
  if (await endWith(pid, "SIGKILL", killedMs)) return;
  throw new StartError(
    `the ${title} that an earlier start left in ${folder} (process ${pid}) does not end: end it by hand`,
  );
}

/** The process id that a server wrote; undefined when there is none. */
export async function readPidFile(pidFile: string): Promise<number | undefined> {
  const text = await readFile(pidFile, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
  const pid = Number.parseInt(text, 10);
  return pid > 0 ? pid : undefined;
}

async function endWith(pid: number, signal: NodeJS.Signals, patienceMs: number): Promise<boolean> {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return true;
    throw error;
  }
  const giveUpAt = Date.now() + patienceMs;
  while (Date.now() < giveUpAt) {
    if (!isAlive(pid)) return true;
    await sleep(25);
  }
  return false;
}
