import { execFile } from "node:child_process";
import { copyFile, mkdir, rm, symlink } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { baseEnvironment } from "./helpers/base-environment.ts";
import { createTemporaryFolder } from "./helpers/servers.ts";

const project = fileURLToPath(new URL("..", import.meta.url));
const launcher = join(project, "scripts", "holdfast");
let folder: string;

/** What npx asks the registry for; it is this test's, and has nothing. */
const asked: string[] = [];
const registry = createServer((req, res) => {
  asked.push(req.url ?? "");
  res.writeHead(404).end("{}");
});

beforeAll(async () => {
  folder = await createTemporaryFolder();
  registry.listen(0, "127.0.0.1");
  await new Promise((resolve) => registry.once("listening", resolve));
});

afterAll(async () => {
  registry.close();
  await rm(folder, { recursive: true, force: true });
});

/** How a program ended, and what it printed. */
function run(program: string, args: readonly string[], cwd = project) {
  const env = {
    ...baseEnvironment,
    HOME: folder,
    NPM_CONFIG_CACHE: join(folder, "cache"),
    NPM_CONFIG_REGISTRY: `http://127.0.0.1:${(registry.address() as AddressInfo).port}`,
    NPM_CONFIG_UPDATE_NOTIFIER: "false",
  };
  return new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
    execFile(program, args, { cwd, env }, (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, stdout, stderr }),
    );
  });
}

describe("npx holdfast", () => {
  test.each([["."], ["docs"]])(
    "runs the program of this project in %s, without the registry",
    async (where) => {
      const { code, stderr } = await run("npx", ["holdfast", "--help"], join(project, where));

      expect(stderr).toMatch(/^usage: holdfast <command>\n/);
      expect(code).toBe(0);
      expect(asked).toEqual([]);
    },
    60_000,
  );

  test("hands on arguments and exit code", async () => {
    const { code, stdout, stderr } = await run("npx", ["holdfast", "verify", "--target", "127.0.0.1:1"]);

    expect(stderr).toMatch(/^holdfast: no Holdfast answers gRPC on 127\.0\.0\.1:1 /);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  }, 60_000);
});

describe("the command holdfast says what is missing", () => {
  async function copyLauncher(name: string): Promise<string> {
    await mkdir(join(folder, name, "scripts"), { recursive: true });
    await copyFile(launcher, join(folder, name, "scripts", "holdfast"));
    return join(folder, name, "scripts", "holdfast");
  }

  test("in a package that is the client only", async () => {
    const { code, stderr } = await run(await copyLauncher("client"), ["watch"]);

    expect(stderr).toBe("holdfast: this package is the client only: run the commands in a clone of Holdfast\n");
    expect(code).toBe(1);
  });

  test("in a clone without packages; 1 of verify would say that a shop is wrong", async () => {
    const copied = await copyLauncher("clone");
    await mkdir(join(folder, "clone", "src"));
    await symlink(join(project, "src", "main.ts"), join(folder, "clone", "src", "main.ts"));
    const { code, stderr } = await run(copied, ["verify"]);

    expect(stderr).toMatch(/^holdfast: the packages are not installed: run npm start, or npm ci, in \/.+\/clone\n$/);
    expect(code).toBe(2);
  });
});
