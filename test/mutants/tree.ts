import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The work tree that mutants are made from. */
export const projectFolder = fileURLToPath(new URL("../..", import.meta.url));

/** A copy of the work tree in a temporary folder. */
export interface Tree extends Disposable {
  readonly folder: string;
}

/** Folders that are still there; they are gone when the process has ended, however it ends. */
const folders = new Set<string>();

function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  folders.delete(folder);
}

process.once("exit", () => folders.forEach(removeFolder));

/** Copies the tracked files as they are now; packages are linked, so that what a test run caches stays in the copy. */
export function copyTree(): Tree {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-mutant-"));
  folders.add(folder);
  for (const path of trackedFiles()) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    cpSync(join(projectFolder, path), join(folder, path));
  }
  const packages = join(projectFolder, "node_modules");
  mkdirSync(join(folder, "node_modules"));
  for (const name of readdirSync(packages).filter((each) => !/^\.(?!bin$)/.test(each))) {
    symlinkSync(join(packages, name), join(folder, "node_modules", name));
  }
  return { folder, [Symbol.dispose]: () => removeFolder(folder) };
}

function trackedFiles(): string[] {
  const { status, stdout, stderr } = spawnSync("git", ["ls-files", "-z"], { cwd: projectFolder, encoding: "utf8" });
  if (status !== 0) throw new Error(`git ls-files: ${stderr}`);
  return stdout.split("\0").filter((path) => path !== "" && existsSync(join(projectFolder, path)));
}

/** Applies a patch to a tree, or only looks whether it would; undefined when it does, else what git says. */
export function applyPatch(folder: string, patchPath: string, ...options: readonly "--check"[]): string | undefined {
  const { status, stderr, error } = spawnSync("git", ["apply", ...options, patchPath], {
    cwd: folder,
    encoding: "utf8",
    // A copy is not in a repository, whatever is above the temporary folder.
    env: { ...process.env, GIT_CEILING_DIRECTORIES: dirname(folder) },
  });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}
