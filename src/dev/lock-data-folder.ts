import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StartError } from "../start-error.ts";
import { isAlive, readStartMark } from "./process-identity.ts";

const maxAttemptCount = 6;

/** Another process runs servers in the data folder. */
export class DataFolderInUse extends StartError {
  /** The beginning of every sentence about it: which folder, and whose it is. */
  readonly what: string;

  constructor(dataDir: string, pid: number) {
    const what = `the data folder ${dataDir} is in use by another Holdfast (process ${pid})`;
    super(`${what}: stop it, or give this one its own folder with HOLDFAST_DATA_DIR`);
    this.what = what;
  }
}

/** A held lock; `release` gives it back. */
export interface DataFolderLock {
  release(): Promise<void>;
}

/**
 * Makes this process the only one that runs the server called `name` in a data folder.
 *
 * Invariant: whoever wants the lock first shows its own file, named after its pid and start time, and only then looks
 * for others. Of two that come at once at least one sees the other, so two never hold it; both may step back, hence the
 * attempts. A file whose process is gone counts for nothing and is removed, and as no two processes share a name, that
 * never removes the file of a live one.
 */
export async function lockDataFolder(dataDir: string, name: string): Promise<DataFolderLock> {
  const prefix = `${name}.lock.`;
  const own = `${prefix}${process.pid}.${readStartMark(process.pid)}`;
  const ownPath = join(dataDir, own);
  await makeFolder(dataDir);
  for (let attempt = 1; ; attempt++) {
    await createOwn(ownPath, dataDir);
    const holderPid = await findHolder(dataDir, prefix, own);
    if (holderPid === undefined) return { release: () => rm(ownPath, { force: true }) };
    await rm(ownPath, { force: true });
    if (attempt === maxAttemptCount) throw new DataFolderInUse(dataDir, holderPid);
    await sleep(10 + Math.random() * 40);
  }
}

async function makeFolder(dataDir: string): Promise<void> {
  await mkdir(dataDir, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    throw new StartError(notWritable(dataDir, error));
  });
}

async function createOwn(path: string, dataDir: string): Promise<void> {
  await writeFile(path, "", { flag: "wx" }).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "EEXIST"
      ? new DataFolderInUse(dataDir, process.pid)
      : new StartError(notWritable(dataDir, error));
  });
}

/** The pid of another live process that shows its file; files of dead ones are removed on the way. */
async function findHolder(dataDir: string, prefix: string, own: string): Promise<number | undefined> {
  let holderPid: number | undefined;
  for (const file of await readdir(dataDir)) {
    if (!file.startsWith(prefix) || file === own) continue;
    const [pid, startMark] = file.slice(prefix.length).split(".");
    if (isAlive(Number(pid)) && readStartMark(Number(pid)) === startMark) holderPid = Number(pid);
    else await rm(join(dataDir, file), { force: true });
  }
  return holderPid;
}

function notWritable(dataDir: string, error: NodeJS.ErrnoException): string {
  return `the data folder ${dataDir} cannot be written (${error.code}): choose another one with HOLDFAST_DATA_DIR`;
}
