import { closingOf, type Language, maskCode } from "./mask.ts";

/** A change of some characters of a file. */
export interface Edit {
  readonly operator: string;
  readonly start: number;
  readonly end: number;
  readonly replacement: string;
}

/** A file, as it stands and with its texts and comments masked. */
interface Source {
  readonly code: string;
  readonly masked: string;
  readonly language: Language;
}

type Place = Omit<Edit, "operator">;

/** What is done to one place of a file, by name. */
const operators: Readonly<Record<string, (source: Source) => Iterable<Place>>> = {
  "negate a condition": negations,
  "move a bound": swaps(/ (<=|>=|<|>)(?= )/g, { "<": "<=", "<=": "<", ">": ">=", ">=": ">" }),
  "turn an equality": swaps(/ (===|!==|==|~=)(?= )/g, { "===": "!==", "!==": "===", "==": "~=", "~=": "==" }),
  "turn a sign": swaps(/ ([+-])(?= (?!0\b))/g, { "+": "-", "-": "+" }),
  "turn a truth": swaps(/[ (](true|false)\b(?!:)/g, { true: "false", false: "true" }),
  "count one more": countOneMore,
  "drop an operand": droppedOperands,
  "drop a statement": droppedStatements,
};

/** Lines of TypeScript that say something instead of doing it, declare, or only clear up. */
const silent =
  /\b(logger|crashPoint|import|export type|export interface|throw new Error|readonly|clearTimeout|clearInterval|super)\b|\.catch\(\(\) => \{\}\)/;

/** Every change that the operators make to a file. Texts, comments, declarations and log lines stay as they are. */
export function editsOf(code: string, language: Language): Edit[] {
  const source = { code, masked: maskCode(code, language), language };
  return Object.entries(operators).flatMap(([operator, find]) =>
    [...find(source)]
      .filter(({ start }) => language === "lua" || !silent.test(lineAt(code, start)))
      .map((place) => ({ operator, ...place })),
  );
}

function lineAt(text: string, index: number): string {
  const end = text.indexOf("\n", index);
  return text.slice(text.lastIndexOf("\n", index - 1) + 1, end < 0 ? undefined : end);
}

function swaps(pattern: RegExp, by: Readonly<Record<string, string>>) {
  return function* ({ masked }: Source): Iterable<Place> {
    for (const match of masked.matchAll(pattern)) {
      const found = match[1] as string;
      const start = match.index + match[0].length - found.length;
      yield { start, end: start + found.length, replacement: by[found] as string };
    }
  };
}

function* negations({ code, masked, language }: Source): Iterable<Place> {
  for (const match of masked.matchAll(language === "lua" ? /\bif (?=([\s\S]+?) then\b)/g : /\bif (?=\()/g)) {
    const start = match.index + match[0].length;
    const end = language === "lua" ? start + (match[1] as string).length : (closingOf(masked, start) ?? start) + 1;
    const condition = code.slice(start, end);
    yield { start, end, replacement: language === "lua" ? `not (${condition})` : `(!${condition})` };
  }
}

/** In TypeScript only small numbers: larger ones say how long, and how much at most. */
function* countOneMore({ masked, language }: Source): Iterable<Place> {
  for (const match of masked.matchAll(/(?<![\w."$#])\d+(?![\w."])/g)) {
    const start = match.index;
    const isSetting = Number(match[0]) > 9 || /^(export )?const \w+ = [\d_]+;/.test(lineAt(masked, start));
    if (language === "ts" && isSetting) continue;
    yield { start, end: start + match[0].length, replacement: String(BigInt(match[0]) + 1n) };
  }
}

/** What joins two conditions; what stands before the first operand, and what after the last. */
const joints: Readonly<Record<Language, readonly [joint: RegExp, before: RegExp, after: RegExp]>> = {
  lua: [
    / (?:and|or) /g,
    /(?:\b(?:if|elseif|return|and|or|not) |(?:(?<![=~<>])=|[({,]) ?)$/,
    /^(?: (?:then|and|or|==|~=)\b|[,)}\n])/,
  ],
  ts: [/ (?:&&|\|\|) /g, /(?:\breturn |(?:(?<![=!<>])=|=>|&&|\|\||[({,?:]) ?)$/, /^(?: (?:&&|\|\||\?|:)|[,;)}\n])/],
};

/** `A and B` becomes `A`, or `B`. */
function* droppedOperands({ masked, language }: Source): Iterable<Place> {
  const [joint, before, after] = joints[language];
  for (const { index, 0: found } of masked.matchAll(joint)) {
    let end = index + found.length;
    while (end < masked.length && !after.test(masked.slice(end, end + 6))) {
      end = ("([{".includes(masked[end] as string) ? (closingOf(masked, end) ?? end) : end) + 1;
    }
    yield { start: index, end, replacement: "" };
    let start = index;
    while (start > 0 && !before.test(masked.slice(Math.max(0, start - 8), start)) && masked[start - 1] !== "\n") {
      start = (")]}".includes(masked[start - 1] as string) ? openingOf(masked, start - 1) : start) - 1;
    }
    yield { start, end: index + found.length, replacement: "" };
  }
}

function openingOf(masked: string, closing: number): number {
  let depth = 0;
  for (let index = closing; index > 0; index -= 1) {
    if (")]}".includes(masked[index] as string)) depth += 1;
    if ("([{".includes(masked[index] as string)) depth -= 1;
    if (depth === 0) return index;
  }
  return closing + 1;
}

/** A call whose answer nobody takes, or an assignment to something that is there already. */
const statements: Readonly<Record<Language, RegExp>> = {
  lua: /^ *(?!local |return |if |for |while |elseif )[\w.]+(?:\[[^\n\]]+\])?(?:\(|(?:, [\w.]+)* = )/gm,
  ts: /^ *(?:await |void )?(?:this\.)?(?!return |const |let |if |for |while |throw |yield )[#\w]+(?:[?.]+[#\w]+)*(?:\(|(?: =| \+=| -=| \?\?=) )/gm,
};

function* droppedStatements({ masked, language }: Source): Iterable<Place> {
  for (const { index, 0: found } of masked.matchAll(statements[language])) {
    const before = lineAt(masked, index - 1).trimEnd();
    const isElement = /[{([,]$|[=?:&|]$/.test(before) && !/\) (=> )?\{$|\b(do|else|try) ?\{$/.test(before);
    const end = statementEnd(masked, index, language);
    if (index === 0 || isElement || end === undefined || /^ *#/.test(found)) continue;
    yield { start: index, end, replacement: "" };
  }
}

/** The end of the line on which every bracket of a statement is closed; undefined when it opens a block there. */
function statementEnd(masked: string, start: number, language: Language): number | undefined {
  let depth = 0;
  for (let index = start; index < masked.length; index += 1) {
    if ("([{".includes(masked[index] as string)) depth += 1;
    if (")]}".includes(masked[index] as string)) depth -= 1;
    if (depth < 0) return undefined;
    if (masked[index] === "\n" && depth === 0) {
      return language === "lua" || masked[index - 1] === ";" ? index : undefined;
    }
  }
  return undefined;
}
