import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const files = globSync(["*.md", "docs/**/*.md", "examples/**/*.md"], { cwd: root }).sort();
const documents = files.map((path) => ({ path, text: read(path) }));

/** Named though they are not there: examples, and what commands make. */
const notKept = ["bench/results/", "examples/python/stubs", "lua/transfer_funds.lua", "transferFunds"];

function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** What a pattern's first group finds in each document, as `document: found`. */
function find(pattern: RegExp, isAmiss: (found: RegExpMatchArray, path: string) => boolean): string[] {
  return documents.flatMap(({ path, text }) =>
    [...text.matchAll(pattern)].filter((found) => isAmiss(found, path)).map(([whole]) => `${path}: ${whole}`),
  );
}

/** The fragments that lead to a document's headings, as GitHub makes them. */
function fragmentsOf(text: string): string[] {
  return [...text.replaceAll(/^```.*?^```/gms, "").matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-"),
  );
}

describe("the documents", () => {
  it("are these", () => {
    expect(files.length).toBeGreaterThan(30);
  });

  it("link to files and headings that exist", () => {
    const isAmiss = ([, target = ""]: RegExpMatchArray, path: string): boolean => {
      const [file = "", fragment] = target.split("#");
      const found = file === "" ? path : join(dirname(path), file);
      return !existsSync(join(root, found)) || (fragment !== undefined && !fragmentsOf(read(found)).includes(fragment));
    };
    expect(find(/\]\((?!https?:|mailto:)([^)\s]+)\)/g, isAmiss)).toEqual([]);
  });

  it("name files that exist", () => {
    const paths = /(?<![\w./-])(?:bench|deploy|docs|examples|gen|lua|proto|scripts|src|test)\/[\w./-]*[\w/]/g;
    expect(find(paths, ([path]) => !notKept.includes(path) && !existsSync(join(root, path)))).toEqual([]);
  });

  it("name what the code has", () => {
    const sources = globSync(["{examples,lua,src,test}/**/*.{json,lua,ts}"], { cwd: root }).map(read).join("");
    const isAmiss = ([, name = ""]: RegExpMatchArray, path: string): boolean =>
      dirname(path) !== "docs/adr" && !notKept.includes(name) && !sources.includes(name);
    expect(find(/`(?:\w+\.)?(#?[a-z]+[A-Z][A-Za-z]*|#[a-z]+)(?:\(\))?`/g, isAmiss)).toEqual([]);
  });

  it("name tests by words of their titles", () => {
    const titles = /`(test\/[\w./-]+\.test\.ts)`, "([^"]+?)(?: ?\.\.\.)?"/g;
    expect(find(titles, () => true).length).toBeGreaterThan(10);
    expect(find(titles, ([, path = "", title = ""]) => !read(path).includes(title))).toEqual([]);
  });
});

describe("the decisions", () => {
  it("carry their number in their title", () => {
    const decisions = documents.filter(({ path }) => dirname(path) === "docs/adr");
    const numberOf = (path: string): number => Number(basename(path).slice(0, 4));
    const titles = decisions.map(({ text }) => text.slice(0, text.indexOf("\n")));
    expect(titles).toEqual(decisions.map(({ path }) => expect.stringMatching(`^# ${numberOf(path)}\\. [A-Z]`)));
    expect(decisions.map(({ path }) => numberOf(path))).toEqual(decisions.map((_, index) => index + 1));
  });

  it("are linked by it", () => {
    expect(find(/\[(\d{4})\]\((?:\S*\/)?(\d{4})-[^)]+\)/g, ([, shown, linked]) => shown !== linked)).toEqual([]);
  });
});

describe("the settings of the README", () => {
  const settings =
    read("README.md")
      .split("\n## ")
      .find((section) => section.startsWith("Settings\n")) ?? "";
  const rows = settings.split("\n").filter((line) => line.startsWith("| `"));
  const config = read("src/config.ts");

  it("are those that there are", () => {
    const namesIn = (text: string, pattern: RegExp): string[] => [...new Set(text.match(pattern))].sort();
    const [, list = ""] = /^const names = \[(.*?)^\]/ms.exec(config) ?? [];
    const named = rows.map((row) => row.split("|")[1]).join();
    expect(namesIn(named, /HOLDFAST_\w+/g)).toEqual(namesIn(list, /HOLDFAST_\w+/g));
  });

  it("say their range", () => {
    const format = (text = ""): string => Number(text.replaceAll("_", "")).toLocaleString("en-US");
    const ranges = [...config.matchAll(/readCount\(env, "(\w+)", ([\d_]+), ([\d_]+)\)/g)].map(
      ([, name, min, max]) => [name, `${format(min)} to ${format(max)}`] as const,
    );
    const seconds = [...config.matchAll(/readMs\(env, "(\w+)", ([\d_]+)\)/g)].map(
      ([, name, max]) => [name, `1 to ${format(max)}`] as const,
    );
    expect(Math.min(ranges.length, seconds.length)).toBeGreaterThan(5);
    const rowOf = (name = ""): string => rows.find((row) => row.includes(`\`${name}\``)) ?? "";
    expect([...ranges, ...seconds].filter(([name, range]) => !rowOf(name).includes(range))).toEqual([]);
  });
});

describe("the table of what breaks are noticed by", () => {
  it("has every patch, with what it breaks and the test that kills it", () => {
    const patches = globSync("test/mutants/patches/*.patch", { cwd: root }).map((path) => {
      const [, breaks, killedBy] = /^Breaks: (.*)\nKilled by: (.*)$/m.exec(read(path)) ?? [];
      return [basename(path, ".patch"), breaks, killedBy].join(" | ");
    });
    const [, table = ""] = read("docs/guarantees.md").split("\n## Which break is noticed where\n");
    const rows = [...table.matchAll(/^\| `([a-z-]+)` +\| (.*?) +\| `(.*)` +\|$/gm)];
    expect(rows.map(([, ...cells]) => cells.join(" | ")).sort()).toEqual(patches.sort());
  });
});
