import { once } from "node:events";
import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { lockDataFolder } from "../../src/dev/lock-data-folder.ts";
import { createTemporaryFolder } from "../helpers/servers.ts";
import { killHard, readLine, run } from "./processes.ts";

let dataDir: string;

beforeEach(async () => {
  dataDir = await createTemporaryFolder();
});

afterEach(() => rm(dataDir, { recursive: true, force: true }));

describe("lockDataFolder", () => {
  test("is held once in this process, and again after a release", async () => {
    const first = await lockDataFolder(dataDir, "redis");
    await expect(lockDataFolder(dataDir, "redis")).rejects.toThrow(`process ${process.pid}`);
    await first.release();
    await (await lockDataFolder(dataDir, "redis")).release();
    expect(await readdir(dataDir)).toEqual([]);
  });

  test("has one holder at most when several start at once over the mark of a killed one", async () => {
    const killed = run("./take-lock.ts", dataDir);
    expect(await readLine(killed)).toBe("held");
    await killHard(killed);

    const contenders = Array.from({ length: 5 }, () => run("./take-lock.ts", dataDir));
    const words = await Promise.all(contenders.map(readLine));
    expect(words.filter((word) => word === "held").length).toBeLessThanOrEqual(1);
    for (const contender of contenders) contender.stdin?.end();
    await Promise.all(contenders.map((contender) => once(contender, "exit")));
    await (await lockDataFolder(dataDir, "postgres")).release();
  });

  test.skipIf(process.platform !== "linux")(
    "does not mistake another process with the same id for the holder",
    async () => {
      await writeFile(join(dataDir, `redis.lock.${process.ppid}.1`), "");
      await (await lockDataFolder(dataDir, "redis")).release();
      expect(await readdir(dataDir)).toEqual([]);
    },
  );

  test("says in one line that a folder cannot be written", async () => {
    const file = join(dataDir, "file");
    await writeFile(file, "");
    await expect(lockDataFolder(file, "redis")).rejects.toThrow(
      `the data folder ${file} cannot be written (EEXIST): choose another one with HOLDFAST_DATA_DIR`,
    );
  });
});
