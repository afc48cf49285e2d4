import { once } from "node:events";
import { readFile, rm, truncate } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isAlive } from "../../src/dev/process-identity.ts";
import { startOnFreePort } from "../../src/dev/start-on-free-port.ts";
import { supervise } from "../../src/dev/supervise.ts";
import { createTemporaryFolder } from "../helpers/servers.ts";
import { expectEnd, killHard, readLine, run } from "./processes.ts";

let folder: string;
let logFile: string;

beforeEach(async () => {
  folder = await createTemporaryFolder();
  logFile = join(folder, "server.log");
});

afterEach(() => rm(folder, { recursive: true, force: true }));

function start(shellCommand: string) {
  const command = ["/bin/sh", "-c", shellCommand];
  return supervise({ command, cwd: folder, logFile, gentleSignal: "TERM", firmSignal: "QUIT" });
}

describe("supervise", () => {
  test("tells how the server ended and what it said", async () => {
    const server = await start("echo out; echo err >&2; exit 3");
    expect(await server.ended).toBe("exit code 3");
    expect(await server.readLogTail()).toBe("out\nerr\n");
    await server.stop();
  });

  test("gives the lines of this start only", async () => {
    await (await start("echo first")).ended;
    const server = await start("echo second");
    await server.ended;
    expect(await server.readLogTail()).toBe("second\n");
    expect(await readFile(logFile, "utf8")).toBe("first\nsecond\n");
  });

  test("moves a log aside that has grown above 10 MiB", async () => {
    await (await start("echo first")).ended;
    await truncate(logFile, 11 * 1024 * 1024);
    const server = await start("echo second");
    await server.ended;
    expect(await readFile(logFile, "utf8")).toBe("second\n");
  });

  test("gives the server nothing of the environment but PATH", async () => {
    const server = await start("env");
    await server.ended;
    const names = (await server.readLogTail()).trim().split("\n");
    expect(
      names
        .map((line) => line.split("=")[0])
        .filter((name) => name !== "PWD" && name !== "_")
        .sort(),
    ).toEqual(["LC_ALL", "PATH", "TZ"]);
  });

  test("ends a deaf server within 5 s of its starter's death", async () => {
    const starter = run("./run-deaf-server.ts", folder);
    const pid = Number(await readLine(starter));
    await killHard(starter);
    expect(isAlive(pid)).toBe(true);
    await expectEnd(pid, 5000);
  });
});

describe("startOnFreePort", () => {
  test("takes another port when somebody was faster", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const takenPort = (taken.address() as AddressInfo).port;
    const asked: number[] = [];
    const { server, port } = await startOnFreePort({
      title: "a server",
      logFile,
      launch: (candidate) => {
        asked.push(candidate);
        return start(candidate === takenPort ? "echo 'bind: Address already in use'; exit 1" : "exec sleep 60");
      },
      isReady: async (_, candidate) => candidate !== takenPort,
      onProgress: () => {},
      choosePort: async () => (asked.length === 0 ? takenPort : 1),
    });
    expect([asked, port, isAlive(server.pid)]).toEqual([[takenPort, 1], 1, true]);
    await server.stop();
    expect(isAlive(server.pid)).toBe(false);
    taken.close();
  });
});
