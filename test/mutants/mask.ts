/** The languages that mutants are made in. */
export type Language = "lua" | "ts";

interface Syntax {
  /** What begins a comment, and the pattern that the whole of it matches. */
  readonly comments: readonly RegExp[];
  readonly texts: readonly RegExp[];
}

const syntaxes: Readonly<Record<Language, Syntax>> = {
  lua: { comments: [/--[^\n]*/y, /#![^\n]*/y], texts: [/"(?:[^"\\\n]|\\.)*"/y, /'(?:[^'\\\n]|\\.)*'/y] },
  ts: {
    comments: [/\/\*[\s\S]*?\*\//y, /\/\/[^\n]*/y],
    texts: [
      /"(?:[^"\\\n]|\\.)*"/y,
      /'(?:[^'\\\n]|\\.)*'/y,
      /`(?:[^`\\]|\\[\s\S])*`/y,
      // A regular expression stands where a division cannot.
      /(?<=[(,=:!&|] ?)\/(?![/*])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y,
    ],
  },
};

/** Code in which every comment is blank and every text is `_`, at the same places: what is left is syntax. */
export function maskCode(code: string, language: Language): string {
  const { comments, texts } = syntaxes[language];
  let masked = "";
  while (masked.length < code.length) {
    const comment = matchAt(code, masked.length, comments);
    const text = comment ?? matchAt(code, masked.length, texts);
    if (comment !== undefined) masked += comment.replace(/[^\n]/g, " ");
    else if (text !== undefined) masked += `"${text.slice(1, -1).replace(/[^\n]/g, "_")}"`;
    else masked += code[masked.length];
  }
  return masked;
}

function matchAt(code: string, index: number, patterns: readonly RegExp[]): string | undefined {
  for (const pattern of patterns) {
    pattern.lastIndex = index;
    const found = pattern.exec(code)?.[0];
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Where the bracket at an index is closed; undefined when it is not. */
export function closingOf(masked: string, opening: number): number | undefined {
  let depth = 0;
  for (let index = opening; index < masked.length; index += 1) {
    if ("([{".includes(masked[index] as string)) depth += 1;
    if (")]}".includes(masked[index] as string)) depth -= 1;
    if (depth === 0) return index;
  }
  return undefined;
}
