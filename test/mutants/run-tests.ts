import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

/** Which tests of a tree run. */
export interface TestSelection {
  /** Paths from the tree's root. */
  readonly files: readonly string[];
  /** A pattern of test names; undefined = all. */
  readonly name?: string | undefined;
}

/** A test that failed. */
export interface FailedTest {
  readonly file: string;
  readonly name: string;
  /** The first line of why. */
  readonly why: string;
  /** Whether it just did not end. */
  readonly isTimeout: boolean;
}

/** What became of the tests. A file that cannot be loaded, or whose set-up failed, has no test that failed. */
export interface TestResults {
  readonly failed: readonly FailedTest[];
  /** `<file> > <name>` of every test that passed. */
  readonly passed: ReadonlySet<string>;
  /** Files that could not be loaded or set up, with the first line of why. */
  readonly broken: readonly string[];
}

/** The part of vitest's JSON report that is read. */
interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly { fullName: string; status: string; failureMessages: string[] }[];
  }[];
}

/** How long a run may take, in milliseconds: a mutant may go round in circles, where no time-out of a test is noticed. */
const runMs = 300_000;

/** How long vitest has to end its own servers when it is told to, in milliseconds. */
const graceMs = 5_000;

/** Runs tests in a tree, up to the first failure, and reads what vitest reports; undefined when they do not end. */
export async function runTests(folder: string, { files, name }: TestSelection): Promise<TestResults | undefined> {
  // PostgreSQL is another user, and has to reach its own folder in here.
  const temporary = mkdtempSync(join(folder, "tests-"));
  for (const each of [folder, temporary]) chmodSync(each, 0o711);
  const reportPath = join(temporary, "report.json");
  const vitest = ["node_modules/vitest/vitest.mjs", "run", ...files, "--reporter=json", `--outputFile=${reportPath}`];
  const options = ["--maxWorkers=1", "--bail=1", ...(name === undefined ? [] : ["-t", name])];
  try {
    const output = await runNode(folder, [...vitest, ...options], temporary);
    return output === undefined ? undefined : summarize(folder, readReport(reportPath, output));
  } finally {
    // Servers of tests that had to be ended may need a moment to end too.
    rmSync(temporary, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

/** Runs Node in a process group of its own, which ends with it. Undefined when it had to be ended. */
async function runNode(folder: string, args: readonly string[], temporary: string): Promise<string | undefined> {
  const env = { ...process.env, TMPDIR: temporary };
  const child = spawn(process.execPath, args, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const endGroup = (): void => endProcesses(-(child.pid as number));
  process.once("exit", endGroup);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => {
      output += data;
    });
  }
  const timers = [setTimeout(() => child.kill(), runMs), setTimeout(endGroup, runMs + graceMs)];
  const startedMs = performance.now();
  await once(child, "exit");
  timers.forEach(clearTimeout);
  process.off("exit", endGroup);
  endGroup();
  return performance.now() - startedMs < runMs ? output : undefined;
}

function endProcesses(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // None is left.
  }
}

function readReport(path: string, output: string): Report {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    throw new Error(`vitest wrote no report:\n${output.slice(-2000)}`);
  }
}

function summarize(folder: string, { testResults }: Report): TestResults {
  const failed: FailedTest[] = [];
  const passed = new Set<string>();
  const broken: string[] = [];
  for (const { name: path, status, message, assertionResults } of testResults) {
    const file = path.slice(path.indexOf(folder) + folder.length + 1);
    for (const { fullName, status: outcome, failureMessages } of assertionResults) {
      if (outcome === "passed") passed.add(`${file} > ${fullName}`);
      if (outcome === "failed") failed.push(failedTest(file, fullName, failureMessages.join("\n")));
    }
    if (status === "failed" && !failed.some((each) => each.file === file)) {
      broken.push(`${file}: ${firstLine(message) || "its set-up failed"}`);
    }
  }
  return { failed, passed, broken };
}

function failedTest(file: string, name: string, message: string): FailedTest {
  return { file, name, why: firstLine(message), isTimeout: /^TestTimeoutError|^Error: Test timed out/.test(message) };
}

function firstLine(text: string): string {
  return text.split("\n")[0] ?? "";
}
