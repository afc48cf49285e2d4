// Every check that is not a test: one line per step with its time, and the output of the step that fails.
//
// usage: node scripts/check.js
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const maxOutputBytes = 64 * 1024 * 1024;

/** A step answers nothing when it passed, why it did not apply, or throws with what to show. */
const steps = {
  types: () => runTool("tsc", "--noEmit"),
  "lint and format": () => runTool("biome", "check", "--error-on-warnings", "--max-diagnostics=50"),
  "proto lint": () => runTool("buf", "lint"),
  "proto format": () => runTool("buf", "format", "--diff", "--exit-code"),
  "proto breaking": checkBreaking,
  "generated code": checkGenerated,
};

class StepError extends Error {}

function run(command, args) {
  return spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: maxOutputBytes });
}

function runTool(tool, ...args) {
  const { status, error, stdout, stderr } = run(join(root, "node_modules", ".bin", tool), args);
  if (status !== 0) throw new StepError(`${stdout ?? ""}${stderr ?? ""}${error?.message ?? ""}`);
}

function git(...args) {
  const { status, stdout } = run("git", args);
  return status === 0 ? stdout.trim() : undefined;
}

function withTemporaryFolder(use) {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-check-"));
  try {
    return use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Against the last commit on main that this clone has: from an archive, which works in shallow clones and worktrees too. */
function checkBreaking() {
  const commit = ["main", "origin/main"]
    .map((name) => git("rev-parse", "--verify", "--quiet", `${name}^{commit}`))
    .find(Boolean);
  if (commit === undefined) return "no commit on main here";
  if (!git("ls-tree", "--name-only", commit, "proto", "buf.yaml")?.includes("proto")) return "no contract on main yet";
  return withTemporaryFolder((folder) => {
    const archive = join(folder, "main.tar");
    if (git("archive", "--output", archive, commit, "proto", "buf.yaml") === undefined)
      return "main cannot be read here";
    runTool("buf", "breaking", "--against", archive);
    return undefined;
  });
}

function checkGenerated() {
  withTemporaryFolder((folder) => {
    runTool("buf", "generate", "--output", folder);
    const differences = compareFolders(join(root, "gen"), join(folder, "gen"));
    if (differences.length > 0) {
      throw new StepError(`gen/ is not what the contract gives; run npm run gen:\n  ${differences.join("\n  ")}`);
    }
  });
}

/** The files that are in one folder only or differ. */
function compareFolders(left, right) {
  const paths = new Set([...listFiles(left), ...listFiles(right)]);
  return [...paths].filter((path) => readIfThere(join(left, path)) !== readIfThere(join(right, path))).sort();
}

function listFiles(folder) {
  if (!existsSync(folder)) return [];
  const entries = readdirSync(folder, { recursive: true }).map((entry) => join(folder, entry));
  return entries.filter((path) => statSync(path).isFile()).map((path) => relative(folder, path));
}

function readIfThere(path) {
  return existsSync(path) ? readFileSync(path, "utf8") : undefined;
}

function runStep(name, step) {
  const startedMs = performance.now();
  const line = (mark, note = "") => {
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    process.stdout.write(`${mark} ${name.padEnd(16)} ${seconds.padStart(5)} s${note}\n`);
  };
  try {
    const whySkipped = step();
    if (whySkipped === undefined) line("ok  ");
    else line("skip", `   ${whySkipped}`);
    return true;
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    line("FAIL");
    process.stdout.write(`${error.message.trimEnd()}\n`);
    return false;
  }
}

for (const [name, step] of Object.entries(steps)) {
  if (runStep(name, step)) continue;
  process.exitCode = 1;
  break;
}
