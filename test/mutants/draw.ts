import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import type { Language } from "./mask.ts";
import { type Edit, editsOf } from "./operators.ts";
import { projectFolder } from "./tree.ts";

/** A file of the product with one place changed. */
export interface Mutant {
  /** Path from the tree's root. */
  readonly file: string;
  /** The first line that differs, from 1. */
  readonly line: number;
  readonly operator: string;
  /** The changed lines without their indentation: `- <before>` and `+ <after>`. */
  readonly diff: string;
  /** The whole file, changed. */
  readonly code: string;
}

/** Where mutants are drawn. */
const sources: readonly (readonly [folder: string, extension: string, language: Language])[] = [
  ["lua", ".lua", "lua"],
  ["src/shop", ".ts", "ts"],
];

/** Draws mutants for ever: each from a random line of those that can be changed. The same seed and tree give the same ones. */
export function* drawMutants(seed: number): Generator<Mutant> {
  const random = randomNumbers(seed);
  const lines = sources.map(([folder, extension, language]) => changeableLines(folder, extension, language));
  for (;;) {
    const { file, code, edits } = pick(pick(lines, random), random);
    yield mutantOf(file, code, pick(edits, random));
  }
}

/** A line, and all that can be done to it. */
interface ChangeableLine {
  readonly file: string;
  readonly code: string;
  readonly edits: readonly Edit[];
}

function changeableLines(folder: string, extension: string, language: Language): ChangeableLine[] {
  const names = readdirSync(join(projectFolder, folder), { recursive: true, encoding: "utf8" });
  return names
    .filter((name) => name.endsWith(extension))
    .sort()
    .flatMap((name) => {
      const path = join(projectFolder, folder, name);
      const code = readFileSync(path, "utf8");
      const byLine = Map.groupBy(editsOf(code, language), ({ start }) => lineNumber(code, start));
      return Array.from(byLine.values(), (edits) => ({ file: relative(projectFolder, path), code, edits }));
    });
}

function lineNumber(code: string, index: number): number {
  return code.slice(0, index).split("\n").length;
}

function mutantOf(file: string, code: string, { operator, start, end, replacement }: Edit): Mutant {
  const changed = code.slice(0, start) + replacement + code.slice(end);
  const from = code.lastIndexOf("\n", start - 1) + 1;
  const line = lineNumber(code, start);
  const before = code.slice(from, lineEnd(code, end));
  const after = changed.slice(from, lineEnd(changed, start + replacement.length));
  return { file, line, operator, diff: [...marked("-", before), ...marked("+", after)].join("\n"), code: changed };
}

function lineEnd(text: string, index: number): number {
  const end = text.indexOf("\n", index);
  return end < 0 ? text.length : end;
}

function marked(mark: string, text: string): string[] {
  return text
    .split("\n")
    .map((each) => each.trim())
    .filter((each) => each !== "")
    .map((each) => `${mark} ${each}`);
}

function pick<Value>(values: readonly Value[], random: () => number): Value {
  return values[Math.floor(random() * values.length)] as Value;
}

/** Numbers from 0 to 1 that follow from a seed (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
