import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

/** The tracked kinds of source below some folders, by path from the root. */
function sources(...folders: string[]): { path: string; text: string }[] {
  return folders
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && /\.(ts|js|lua|proto)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ path: relative(root, path), text: readFileSync(path, "utf8") }));
}

/** The files that match, but for those that may. */
function offenders(
  files: { path: string; text: string }[],
  pattern: RegExp,
  allowed: readonly string[] = [],
): string[] {
  return files.filter(({ path, text }) => pattern.test(text) && !allowed.includes(path)).map(({ path }) => path);
}

describe("the tree", () => {
  const all = sources("src", "lua", "test", "scripts", "proto");
  const product = sources("src");
  const here = ["test/tidy.test.ts"];

  it("has no left-overs", () => {
    expect(offenders(all, /\b(TODO|FIXME|XXX|HACK)\b/, here)).toEqual([]);
  });

  it("runs every test", () => {
    expect(offenders(sources("test"), /\b(it|test|describe)\.(only|skip|todo)\(/, here)).toEqual([]);
  });

  it("mocks neither store", () => {
    expect(offenders(sources("test"), /ioredis-mock|pg-mem|vi\.mock\(/, here)).toEqual([]);
  });

  it("logs through the logger, never the console", () => {
    expect(offenders(product, /\bconsole\./)).toEqual([]);
  });

  it("reads the environment in config.ts only", () => {
    expect(offenders(product, /process\.env/, ["src/config.ts"])).toEqual([]);
  });

  it("ends the process in main.ts only", () => {
    expect(offenders(product, /process\.exit\(/, ["src/main.ts"])).toEqual([]);
  });

  it("keeps gRPC and HTTP out of the commit path", () => {
    const heart = sources("src/shop", "src/postgres");
    expect(offenders(heart, /from "(@grpc|@connectrpc|node:http)|server\//)).toEqual([]);
  });
});
