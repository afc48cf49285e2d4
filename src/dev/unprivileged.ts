import { chmod, readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { StartError } from "../start-error.ts";

/** Whom a server that refuses to run as root runs as. */
export interface Unprivileged {
  /** What to put before the server's command. Empty when this process is not root itself. */
  readonly commandPrefix: readonly string[];
  /** Owner for what the server writes; undefined when that is this process's own user. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

/** The user `nobody` has this id on every Linux. */
const nobody = { uid: 65_534, gid: 65_534 };

/** Bits of the capability sets in /proc: read and search anywhere; or everything that file modes forbid. */
const capabilities = [
  { name: "dac_read_search", bit: 2n },
  { name: "dac_override", bit: 1n },
];

/**
 * PostgreSQL refuses to run as root. When this process is root, the server runs as whoever owns the data folder, or as
 * `nobody`. The project may lie where only root can go (/root has mode 700): then the server also gets the one
 * capability that lets it reach its files, and nothing else of root.
 *
 * `no_setuid_fixup` is needed because PostgreSQL asks access(2) whether it may run its own binary, and access(2) ignores
 * the capabilities of a user who is not root unless that bit is set.
 */
export async function chooseUnprivileged(dataFolder: string, programs: readonly string[]): Promise<Unprivileged> {
  if (process.getuid?.() !== 0) return { commandPrefix: [], owner: undefined };
  if (process.platform !== "linux") throw new StartError(refusal("on this system Holdfast cannot drop root's rights"));
  const owner = await readOwner(dataFolder);
  for (const program of programs) await makeExecutable(program);
  const prefix = ["setpriv", `--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--clear-groups"];
  if (await canEveryoneReach([dataFolder, ...programs])) return { commandPrefix: prefix, owner };
  const capability = await chooseCapability();
  if (capability === undefined) {
    throw new StartError(
      refusal(`user ${owner.uid} cannot reach ${dataFolder}, and this root lacks the rights to let it`),
    );
  }
  const reach = ["--securebits=+no_setuid_fixup", `--inh-caps=+${capability}`, `--ambient-caps=+${capability}`];
  return { commandPrefix: [...prefix, ...reach], owner };
}

function refusal(why: string): string {
  return (
    `PostgreSQL does not run as root, and ${why}: ` +
    "start Holdfast as another user, move it out of the private folder, or set DATABASE_URL"
  );
}

/** Who owns the server's folder already, else who owns the data folder around it, unless that is root. */
async function readOwner(dataFolder: string): Promise<{ uid: number; gid: number }> {
  for (const folder of [dataFolder, dirname(dataFolder)]) {
    const found = await stat(folder).catch(() => undefined);
    if (found !== undefined && found.uid !== 0) return { uid: found.uid, gid: found.gid };
  }
  return nobody;
}

/** A clone made under a strict umask leaves the package's programs to root alone. */
async function makeExecutable(program: string): Promise<void> {
  const { mode } = await stat(program);
  if ((mode & 0o555) !== 0o555) await chmod(program, mode | 0o555);
}

/** True when every folder on the way to each path lets everybody pass. Folders that do not exist yet count as open. */
async function canEveryoneReach(paths: readonly string[]): Promise<boolean> {
  for (const path of paths) {
    for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder)) {
      const found = await stat(folder).catch(() => undefined);
      if (found !== undefined && (found.mode & 0o001) === 0) return false;
    }
  }
  return true;
}

async function chooseCapability(): Promise<string | undefined> {
  const status = await readFile("/proc/self/status", "utf8");
  const permitted = BigInt(`0x${/^CapPrm:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  return capabilities.find(({ bit }) => (permitted >> bit) & 1n)?.name;
}
