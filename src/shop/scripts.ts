import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { readScriptFile, type ScriptFile, type Variable } from "./script-files.ts";

/** One atomic operation in Redis: what its header declares and the text that is sent. */
export interface Script {
  /** The file's name in camel case: `placeOrder`. */
  readonly name: string;
  /** The key names of the header, in order; the caller gives one Redis key for each. */
  readonly keys: readonly string[];
  /** The named arguments of the header, in order; further values may follow where the header says so. */
  readonly argumentNames: readonly string[];
  /** What FCALL calls it: `place_order_<digits>`, with the digits of its library's name. */
  readonly functionName: string;
  /** The library that has it as a function. */
  readonly library: Library;
  /** The same script as EVAL takes it: by itself, with all the functions that it needs. */
  readonly source: string;
}

/** Every script as a function of Redis. */
export interface Library {
  /** `holdfast_<16 digits of its code's SHA-1>`: addressed by content, so that two versions of Holdfast can work on one Redis. */
  readonly name: string;
  /** As FUNCTION LOAD takes it. */
  readonly source: string;
}

/** Every script of `lua/`, by name in camel case. */
export interface Scripts {
  readonly adjustStock: Script;
  readonly cancelOrder: Script;
  readonly cancelScheduledChange: Script;
  readonly changeTier: Script;
  readonly confirmOrder: Script;
  readonly createUser: Script;
  readonly depositFunds: Script;
  readonly expireHolds: Script;
  readonly extendHold: Script;
  readonly finish: Script;
  readonly forget: Script;
  readonly fulfillOrder: Script;
  readonly getHold: Script;
  readonly getOrder: Script;
  readonly getShopStats: Script;
  readonly getStock: Script;
  readonly getSubscription: Script;
  readonly grantCredits: Script;
  readonly holdStock: Script;
  readonly keep: Script;
  readonly load: Script;
  readonly loadLimits: Script;
  readonly look: Script;
  readonly lookBack: Script;
  readonly observe: Script;
  readonly peek: Script;
  readonly placeOrder: Script;
  readonly previewTierChange: Script;
  readonly putProduct: Script;
  readonly putTier: Script;
  readonly readLog: Script;
  readonly readState: Script;
  readonly refundOrder: Script;
  readonly releaseHold: Script;
  readonly renewSubscriptions: Script;
  readonly scanState: Script;
  readonly settleRefund: Script;
  readonly trimLog: Script;
  readonly updateUser: Script;
  readonly withdrawFunds: Script;
}

const luaFolder = new URL("../../lua/", import.meta.url).pathname;

/**
 * Reads every script of `lua/`. The header is the truth: its KEYS and ARGV become the variables of the script, so a name
 * that the header lacks is an undefined global and fails the script's first run, and a malformed header fails here.
 */
export function loadScripts(folder: string = luaFolder): Scripts {
  const files = listFiles(folder).map((name) => readScriptFile(folder, name));
  const code = assembleLibrary(files);
  const digits = createHash("sha1").update(code).digest("hex").slice(0, 16);
  const named = lines(`#!lua name=${libraryPrefix}${digits}`, code.replaceAll(digitsMark, digits));
  const library = { name: `${libraryPrefix}${digits}`, source: named };
  const scripts: Record<string, Script> = {};
  for (const file of files) {
    const { stem, keys, argumentNames } = file;
    const name = inCamelCase(stem);
    scripts[name] = {
      name,
      keys,
      argumentNames,
      functionName: `${stem}_${digits}`,
      library,
      source: assembleAlone(file),
    };
  }
  return scripts as unknown as Scripts;
}

/** The names of the scripts that `loadScripts` reads. */
export function scriptNames(folder: string = luaFolder): string[] {
  return listFiles(folder).map((name) => inCamelCase(name.replace(/\.lua$/, "")));
}

function listFiles(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.endsWith(".lua"));
}

function inCamelCase(stem: string): string {
  return stem.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** What the name of every library of Holdfast begins with. */
export const libraryPrefix = "holdfast_";

/** Stands for the digits of a library's name in the code that they are made from. */
const digitsMark = "<digits>";

/**
 * The functions of `lua/include/` are made once, when Redis loads the library, and shared by all scripts; so are the names
 * of headers that these functions use. `bind` gives those their values for one run, and the variables of `lua/include/`
 * theirs, so that no run sees anything of the run before it.
 */
function assembleLibrary(files: readonly ScriptFile[]): string {
  const includes = new Map(files.flatMap((file) => file.includes.map((each) => [each.stem, each])));
  const words = new Set([...includes.values()].flatMap(({ code }) => withoutTexts(code).match(/\w+/g) ?? []));
  const isShared = ({ name }: Variable): boolean => words.has(name);
  const shared = new Set(files.flatMap(({ variables }) => variables.filter(isShared)).map(({ name }) => name));
  const topNames = ["ARGV", ...shared];
  assertDistinct(["bind", "run", ...topNames, ...[...includes.values()].flatMap(({ declared }) => declared)]);
  return lines(
    `local ${topNames.join(", ")}`,
    ...Array.from(includes.values(), ({ code }) => code),
    ...files.map((file) => assembleFunction(file, isShared)),
  );
}

function assembleFunction(file: ScriptFile, isShared: (variable: Variable) => boolean): string {
  const flags = file.flags.map((flag) => `"${flag}"`).join(", ");
  return lines(
    "do",
    "local function bind(KEYS, A)",
    "ARGV = A",
    assign("", file.variables.filter(isShared)),
    ...file.includes.flatMap(({ state }) => state),
    "end",
    "local function run(KEYS, ARGV)",
    "bind(KEYS, ARGV)",
    assign(
      "local ",
      file.variables.filter((each) => !isShared(each)),
    ),
    file.body,
    "end",
    `redis.register_function({ function_name = "${file.stem}_${digitsMark}", callback = run, flags = { ${flags} } })`,
    "end",
  );
}

function assembleAlone(file: ScriptFile): string {
  const includes = file.includes.flatMap(({ code, state }) => [code, ...state]);
  return lines(file.shebang, assign("local ", file.variables), ...includes, file.body);
}

function assign(keyword: "local " | "", variables: readonly Variable[]): string {
  const list = (field: keyof Variable): string => variables.map((each) => each[field]).join(", ");
  return variables.length === 0 ? "" : `${keyword}${list("name")} = ${list("value")}`;
}

/** Code without what stands between quotes. */
function withoutTexts(code: string): string {
  return code.replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, '""');
}

function assertDistinct(list: readonly string[]): void {
  const twice = list.find((name, index) => list.indexOf(name) !== index);
  if (twice !== undefined) {
    throw new Error(`lua: "${twice}" is declared twice, by headers and includes or by two includes`);
  }
}

function lines(...parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join("\n");
}
