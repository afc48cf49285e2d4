import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { baseEnvironment } from "./helpers/base-environment.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const { scripts } = JSON.parse(readFileSync(`${root}/package.json`, "utf8")) as { scripts: Record<string, string> };

/** What `npm run` has for those who work on Holdfast, with the file behind it. */
const commands = Object.entries(scripts).flatMap(([name, line]) => {
  const [, file] = /^node ((?:bench|test)\/\S+\.ts)$/.exec(line) ?? [];
  return file === undefined ? [] : [[name, file] as const];
});

test("there are commands", () => {
  expect(commands.map(([name]) => name)).toEqual(
    expect.arrayContaining(["abuse", "bench", "chaos", "crash", "model", "mutants", "overload"]),
  );
});

test.each(commands)(
  "npm run %s -- --help tells its usage, and ends well; an option that it lacks does not",
  async (name, file) => {
    const run = (option: string) =>
      promisify(execFile)(process.execPath, [file, option], { cwd: root, env: baseEnvironment });
    const { stdout, stderr } = await run("--help");
    expect(stdout).toMatch(new RegExp(`^usage: npm run ${name} `));
    expect(stderr).toBe("");

    await expect(run("--hlep")).rejects.toMatchObject({ code: 1 });
  },
);
