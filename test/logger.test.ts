import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test } from "vitest";
import { baseEnvironment, projectFolder } from "./helpers/base-environment.ts";
import { chooseLastingPort } from "./helpers/free-port.ts";
import { until } from "./helpers/until.ts";
import { useStores } from "./helpers/use-holdfast.ts";

const stores = useStores();

/** How a program ends right after its last lines: as a start that fails, or as a server that was stopped. */
const endings = { "by process.exit": "process.exit(1)", "by itself": "process.exitCode = 1" } as const;
type Ending = keyof typeof endings;

const programOf = (ending: Ending) => `
  import { createLogger } from "./src/logger.ts";
  const logger = createLogger();
  for (let line = 1; line <= 2000; line += 1) logger.info({ line }, "x".repeat(200));
  process.stderr.write("this is why\\n");
  ${endings[ending]};`;

/** Starts it; what it logs goes there. */
function startProgram(ending: Ending, stdout: "pipe" | number) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", programOf(ending)], {
    stdio: ["ignore", stdout, "pipe"],
    env: baseEnvironment,
    cwd: projectFolder,
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const ended = Promise.all([text(child.stderr as Readable), once(child, "exit")]);
  return { stdout: child.stdout, ended };
}

describe.each(Object.keys(endings) as Ending[])("a process that ends %s", (ending) => {
  test("loses no line, also when they are more than a pipe takes at once", async () => {
    const { stdout, ended } = startProgram(ending, "pipe");
    const lines: number[] = [];
    for await (const line of createInterface({ input: stdout as Readable })) {
      lines.push((JSON.parse(line) as { line: number }).line);
    }

    expect(lines).toEqual(Array.from({ length: 2000 }, (_, index) => index + 1));
    expect(await ended).toEqual(["this is why\n", [1, null]]);
  });

  test("ends when nobody reads its log", async () => {
    expect(await startProgram(ending, "pipe").ended).toEqual(["this is why\n", [1, null]]);
  });

  test.runIf(existsSync("/dev/full"))("ends when its log cannot be written", async () => {
    const full = openSync("/dev/full", "w");
    const { ended } = startProgram(ending, full);
    closeSync(full);
    expect(await ended).toEqual(["this is why\n", [1, null]]);
  });
});

test.runIf(existsSync("/dev/full"))(
  "a server whose log cannot be written, as on a full disk, serves and stops as ever",
  async () => {
    const full = openSync("/dev/full", "w");
    const httpAddress = `127.0.0.1:${await chooseLastingPort()}`;
    const child = spawn(process.execPath, ["src/main.ts", "serve"], {
      stdio: ["ignore", full, "inherit"],
      env: {
        ...baseEnvironment,
        REDIS_URL: stores.urls.redisUrl,
        DATABASE_URL: stores.urls.databaseUrl,
        HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
        HOLDFAST_HTTP_ADDR: httpAddress,
      },
    });
    closeSync(full);
    const ended = once(child, "exit");
    try {
      const createUser = async (userId: string): Promise<number> => {
        const { status } = await fetch(`http://${httpAddress}/holdfast.v1.UserService/CreateUser`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ user_id: userId }),
          signal: AbortSignal.timeout(5000),
        });
        return status;
      };
      await until("it serves", async () => (await createUser("").catch(() => 0)) === 200, 20_000);
      // A refusal is logged; by then the line that says where the doors are could not be written.
      expect([await createUser("no id"), await createUser("")]).toEqual([400, 200]);
      child.kill("SIGTERM");
      expect(await ended).toEqual([0, null]);
    } finally {
      child.kill("SIGKILL");
    }
  },
  60_000,
);
