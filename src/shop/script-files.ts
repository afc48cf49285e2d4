import { readFileSync } from "node:fs";
import { basename, join } from "node:path";

/** A file of `lua/`. */
export interface ScriptFile {
  /** Its name without `.lua`. */
  readonly stem: string;
  /** `#!lua`, with the flags of the script. */
  readonly shebang: string;
  readonly flags: readonly string[];
  readonly keys: readonly string[];
  readonly argumentNames: readonly string[];
  /** The names of the header. */
  readonly variables: readonly Variable[];
  /** What it includes, each file once, what is needed first in front. */
  readonly includes: readonly IncludeFile[];
  readonly body: string;
}

/** A name of a header, and what it stands for: `KEYS[1]`, `ARGV[1]` or, for `rest`, a number. */
export interface Variable {
  readonly name: string;
  readonly value: string;
}

/** A file of `lua/include/`. */
export interface IncludeFile {
  /** Its name without `.lua`. */
  readonly stem: string;
  /** Its functions and variables, without comments; the variables have no values yet. */
  readonly code: string;
  /** The statements that give its variables their values. */
  readonly state: readonly string[];
  /** The names of its functions and variables. */
  readonly declared: readonly string[];
}

/** What every mutation brings, in the order of ARGV; a header writes it as `(call)`. */
export const callArguments = [
  "epoch",
  "commit_id",
  "request_id",
  "oldest_id_ms",
  "looked_up",
  "memory_count",
  "clock_ms",
  "call",
] as const;

/** Reads a file of `lua/` and what it includes. Throws when its header is malformed or an include is not one. */
export function readScriptFile(folder: string, file: string): ScriptFile {
  const text = readFileSync(join(folder, file), "utf8");
  const [shebang = "", ...rest] = text.split("\n");
  const flags = /^#!lua(?: flags=([a-z,-]+))?$/.exec(shebang);
  if (flags === null) {
    throw new Error(`lua/${file}: the first line is not "#!lua" with optional flags`);
  }
  const keys = names(headerLine(text, "KEYS"), file);
  const { argumentNames, hasRest } = parseArguments(headerLine(text, "ARGV"), file);
  return {
    stem: basename(file, ".lua"),
    shebang,
    flags: flags[1]?.split(",") ?? [],
    keys,
    argumentNames,
    variables: [
      ...keys.map((name, index) => ({ name, value: `KEYS[${index + 1}]` })),
      ...argumentNames.map((name, index) => ({ name, value: `ARGV[${index + 1}]` })),
      ...(hasRest ? [{ name: "rest", value: String(argumentNames.length + 1) }] : []),
    ],
    includes: readIncludes(folder, text, file),
    body: rest
      .filter((line) => !line.startsWith("--"))
      .join("\n")
      .trim(),
  };
}

function headerLine(text: string, label: string): string {
  return new RegExp(`^-- ${label} +(.+)$`, "m").exec(text)?.[1] ?? "";
}

function names(list: string, file: string): string[] {
  const found = list === "" ? [] : list.split(",").map((name) => name.trim());
  for (const name of found) {
    if (!/^[a-z][a-z0-9_]*$/.test(name)) {
      throw new Error(`lua/${file}: "${name}" in the header is not a name`);
    }
  }
  return found;
}

/** `(call), order_id, hold_id ("" = none), then per line: sku` names the arguments up to `then`; notes stand in parentheses. */
function parseArguments(line: string, file: string): { argumentNames: string[]; hasRest: boolean } {
  const [fixed = "", tail] = line.split(/,? *then per /);
  const hasCall = fixed.startsWith("(call)");
  const own = fixed.replace(/\s*\([^)]*\)/g, "").replace(/^,/, "");
  return {
    argumentNames: [...(hasCall ? callArguments : []), ...names(own.trim(), file)],
    hasRest: tail !== undefined,
  };
}

/** The files that a file asks for with `@include`, each once, what it needs before it. */
function readIncludes(folder: string, text: string, file: string, seen: Set<string> = new Set()): IncludeFile[] {
  const wanted = headerLine(text, "@include");
  const found: IncludeFile[] = [];
  for (const name of names(wanted, file)) {
    if (seen.has(name)) {
      continue;
    }
    seen.add(name);
    const path = `include/${name}.lua`;
    const included = readFileSync(join(folder, path), "utf8");
    found.push(...readIncludes(folder, included, path, seen), parseInclude(name, included));
  }
  return found;
}

/**
 * Tells an include's functions from its variables, which every run sets anew: in Redis a function outlives its runs, and
 * so would what it keeps. Local functions and variables of one line are all that an include may have.
 */
function parseInclude(stem: string, text: string): IncludeFile {
  const code: string[] = [];
  const state: string[] = [];
  const declared: string[] = [];
  let isInside = false;
  for (const line of text.split("\n").filter((each) => !/^\s*(--|$)/.test(each))) {
    const named = /^local function (\w+)\(/.exec(line);
    const variables = /^local (?!function\b)(\w+(?:, \w+)*)(?: = (.+))?$/.exec(line);
    if (isInside && /^(\s|end$)/.test(line)) {
      code.push(line);
      isInside = line !== "end";
    } else if (!isInside && named !== null) {
      code.push(line);
      declared.push(named[1] as string);
      isInside = !line.endsWith(" end");
    } else if (!isInside && variables !== null) {
      const [, list = "", value = "nil"] = variables;
      code.push(`local ${list}`);
      state.push(`${list} = ${value}`);
      declared.push(...list.split(", "));
    } else {
      throw new Error(`lua/include/${stem}.lua: "${line}" is neither a local function nor a variable on one line`);
    }
  }
  if (isInside) {
    throw new Error(`lua/include/${stem}.lua: a function has no end`);
  }
  return { stem, code: code.join("\n"), state, declared };
}
