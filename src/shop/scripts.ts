import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

/** One atomic operation in Redis: what its header declares and the text that is sent. */
export interface Script {
  /** The file's name in camel case: `placeOrder`. */
  readonly name: string;
  /** The key names of the header, in order; the caller gives one Redis key for each. */
  readonly keys: readonly string[];
  /** The named arguments of the header, in order; further values may follow where the header says so. */
  readonly argumentNames: readonly string[];
  /** SHA-1 of `source`: scripts are addressed by content, so two versions of Holdfast can work on one Redis. */
  readonly sha: string;
  readonly source: string;
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

/** Every script of `lua/`, by name in camel case. */
export interface Scripts {
  readonly adjustStock: Script;
  readonly createUser: Script;
  readonly depositFunds: Script;
  readonly expireHolds: Script;
  readonly extendHold: Script;
  readonly finish: Script;
  readonly getHold: Script;
  readonly getStock: Script;
  readonly holdStock: Script;
  readonly keep: Script;
  readonly load: Script;
  readonly loadLimits: Script;
  readonly look: Script;
  readonly observe: Script;
  readonly peek: Script;
  readonly placeOrder: Script;
  readonly putProduct: Script;
  readonly readLog: Script;
  readonly releaseHold: Script;
  readonly trimLog: Script;
}

const luaFolder = new URL("../../lua/", import.meta.url).pathname;

/**
 * Reads every script of `lua/`. The header is the truth: its KEYS and ARGV become the locals of the script, so a name
 * that the header lacks is an undefined global and fails the script's first run, and a malformed header fails here.
 */
export function loadScripts(folder: string = luaFolder): Scripts {
  const scripts: Record<string, Script> = {};
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".lua"))) {
    const script = assemble(folder, file);
    scripts[script.name] = script;
  }
  return scripts as unknown as Scripts;
}

function assemble(folder: string, file: string): Script {
  const text = readFileSync(join(folder, file), "utf8");
  const [shebang, ...rest] = text.split("\n");
  if (shebang === undefined || !/^#!lua( flags=[a-z,-]+)?$/.test(shebang)) {
    throw new Error(`lua/${file}: the first line is not "#!lua" with optional flags`);
  }
  const keys = names(headerLine(text, "KEYS"), file);
  const { argumentNames, hasRest } = parseArguments(headerLine(text, "ARGV"), file);
  const bindings = [
    bind(keys, "KEYS"),
    bind(argumentNames, "ARGV"),
    hasRest ? `local rest = ${argumentNames.length + 1}` : "",
  ];
  const body = rest.filter((line) => !line.startsWith("--")).join("\n");
  const source = [shebang, ...bindings, ...includes(folder, text, file), body].filter((part) => part !== "").join("\n");
  const name = basename(file, ".lua").replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return { name, keys, argumentNames, sha: createHash("sha1").update(source).digest("hex"), source };
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

function bind(list: readonly string[], source: string): string {
  const values = list.map((_, index) => `${source}[${index + 1}]`).join(", ");
  return list.length === 0 ? "" : `local ${list.join(", ")} = ${values}`;
}

/** The functions a file asks for with `@include`, each once, what it needs before it. */
function includes(folder: string, text: string, file: string, seen: Set<string> = new Set()): string[] {
  const wanted = /^-- @include +(.+)$/m.exec(text)?.[1];
  const parts: string[] = [];
  for (const name of wanted === undefined ? [] : names(wanted, file)) {
    if (seen.has(name)) {
      continue;
    }
    seen.add(name);
    const path = join(folder, "include", `${name}.lua`);
    const included = readFileSync(path, "utf8");
    parts.push(...includes(folder, included, `include/${name}.lua`, seen), stripComments(included));
  }
  return parts;
}

function stripComments(text: string): string {
  return text
    .split("\n")
    .filter((line) => !line.trimStart().startsWith("--") && line !== "")
    .join("\n");
}
