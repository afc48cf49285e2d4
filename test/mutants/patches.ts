import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const patchFolder = fileURLToPath(new URL("patches", import.meta.url));

/** A deliberate break of the product, and the test that has to notice it. */
export interface MutantPatch {
  /** The file's name without `.patch`. */
  readonly name: string;
  readonly path: string;
  /** The promise that is broken, in a few words. */
  readonly breaks: string;
  /** Path of the test file that kills it. */
  readonly testFile: string;
  /** The names of the tests that run, as a pattern; undefined = all of the file. */
  readonly testName: string | undefined;
  /** The files it changes. */
  readonly files: readonly string[];
}

/**
 * Reads every patch of `patches/`: lines `Breaks: <promise>`, `Killed by: <test file>` and, when not all tests of the file are
 * to run, `Test: <pattern of names>` stand in front of a unified diff. Throws when one of the first two is missing.
 */
export function readPatches(): MutantPatch[] {
  const files = readdirSync(patchFolder).filter((file) => file.endsWith(".patch"));
  return files.sort().map((file) => readPatch(join(patchFolder, file)));
}

function readPatch(path: string): MutantPatch {
  const [head = "", ...diff] = readFileSync(path, "utf8").split(/^(?=diff --git )/m);
  const header = (label: string): string | undefined => new RegExp(`^${label}: (.+)$`, "m").exec(head)?.[1];
  const [breaks, testFile] = [header("Breaks"), header("Killed by")];
  if (breaks === undefined || testFile === undefined) throw new Error(`${path}: "Breaks:" or "Killed by:" is missing`);
  const files = diff.map((part) => /^\+\+\+ b\/(.+)$/m.exec(part)?.[1] ?? "");
  return { name: basename(path, ".patch"), path, breaks, testFile, testName: header("Test"), files };
}
