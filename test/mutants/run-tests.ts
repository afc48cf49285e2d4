import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
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

/** How long a run may take, in milliseconds: a mutant may hang in its set-up. */
const runMs = 600_000;

/** Runs tests in a tree, up to the first failure, and reads what vitest reports. */
export async function runTests(folder: string, { files, name }: TestSelection): Promise<TestResults> {
  const reportFolder = mkdtempSync(join(tmpdir(), "holdfast-mutant-report-"));
  const reportPath = join(reportFolder, "report.json");
  const vitest = ["node_modules/vitest/vitest.mjs", "run", ...files, "--reporter=json", `--outputFile=${reportPath}`];
  const options = ["--maxWorkers=1", "--bail=1", ...(name === undefined ? [] : ["-t", name])];
  try {
    const output = await runNode(folder, [...vitest, ...options]);
    return summarize(folder, readReport(reportPath, output));
  } finally {
    rmSync(reportFolder, { recursive: true, force: true });
  }
}

async function runNode(folder: string, args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => {
      output += data;
    });
  }
  const timer = setTimeout(() => child.kill(), runMs);
  await once(child, "close");
  clearTimeout(timer);
  return output;
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
