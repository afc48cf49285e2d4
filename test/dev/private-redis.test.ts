import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startPrivateRedis } from "../../src/dev/private-redis.ts";
import { createTemporaryFolder } from "../helpers/servers.ts";

let dataDir: string;

beforeEach(async () => {
  dataDir = await createTemporaryFolder();
});

afterEach(() => rm(dataDir, { recursive: true, force: true }));

async function ask<T>(url: string, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url);
  // What goes wrong is told by the promise of the command.
  redis.on("error", () => {});
  return use(redis).finally(() => redis.disconnect());
}

describe("startPrivateRedis", () => {
  test("keeps its data over a clean restart", async () => {
    const first = await startPrivateRedis({ dataDir });
    await ask(first.url, (redis) => redis.set("kept", "42"));
    await first.stop();
    const second = await startPrivateRedis({ dataDir });
    expect(await ask(second.url, (redis) => redis.get("kept"))).toBe("42");
    await second.stop();
  });

  test("keeps nothing when told so", async () => {
    const redis = await startPrivateRedis({ dataDir, persist: false });
    await ask(redis.url, (client) => client.set("lost", "42"));
    await redis.stop();
    expect(await readdir(join(dataDir, "redis"))).toEqual(["redis.conf"]);
  });

  test("never evicts, never writes snapshots while it runs, and listens on loopback only", async () => {
    const server = await startPrivateRedis({ dataDir });
    const names = ["maxmemory-policy", "save", "appendonly", "bind"];
    const flat = await ask(server.url, (redis) => redis.config("GET", ...(names as [string])));
    expect(flat).toEqual(
      expect.arrayContaining(["maxmemory-policy", "noeviction", "appendonly", "no", "bind", "127.0.0.1"]),
    );
    expect((flat as string[])[(flat as string[]).indexOf("save") + 1]).toBe("");
    await server.stop();
  });

  test("lets nobody in without the password", async () => {
    const server = await startPrivateRedis({ dataDir });
    const asked = ask(`redis://127.0.0.1:${server.port}`, (redis) => redis.get("x"));
    await expect(asked).rejects.toThrow("NOAUTH");
    await server.stop();
  });

  test("tells when the server ends by itself", async () => {
    const { promise: exited, resolve: onExit } = Promise.withResolvers<string>();
    const server = await startPrivateRedis({ dataDir, onExit });
    process.kill(server.pid, "SIGKILL");
    expect(await exited).toBe(`Redis ended by itself (exit code 137), see ${join(dataDir, "redis.log")}`);
    await server.stop();
  });

  test("shows the last lines of the log when the server does not start", async () => {
    await (await startPrivateRedis({ dataDir })).stop();
    await writeFile(join(dataDir, "redis", "dump.rdb"), "no snapshot");
    await expect(startPrivateRedis({ dataDir })).rejects.toThrow(
      /^Redis did not start \(exit code 1\)(?:.|\n)*Wrong signature trying to load DB/,
    );
  });

  test("takes its folder again right after a stop", async () => {
    for (let round = 0; round < 5; round++) await (await startPrivateRedis({ dataDir })).stop();
  });
});
