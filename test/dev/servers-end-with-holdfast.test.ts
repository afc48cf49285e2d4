import { describe, expect, test } from "vitest";
import { startEmbeddedPostgres } from "../../src/dev/embedded-postgres.ts";
import { startPrivateRedis } from "../../src/dev/private-redis.ts";
import { isAlive } from "../../src/dev/process-identity.ts";
import { useDataFolder } from "./data-folder.ts";
import { expectEnd, findSupervisors, killHard, readLine, readSession, run } from "./processes.ts";

const folder = useDataFolder();

async function runServers() {
  const parent = run("./run-servers.ts", folder.dataDir);
  const pids: { postgresPid: number; redisPid: number } = JSON.parse(await readLine(parent));
  return { parent, ...pids };
}

describe("the servers of a killed Holdfast", () => {
  test("end within 5 s, and the next start works", async () => {
    const { parent, postgresPid, redisPid } = await runServers();
    const killedAt = Date.now();
    await killHard(parent);
    await expectEnd(postgresPid, 5000);
    await expectEnd(redisPid, 5000 - (Date.now() - killedAt));
    const next = await runServers();
    await killHard(next.parent);
    await expectEnd(next.postgresPid, 5000);
    await expectEnd(next.redisPid, 5000);
  });

  test("do not delay a start in the same folder that follows at once", async () => {
    const { dataDir } = folder;
    const { parent } = await runServers();
    await killHard(parent);
    const startedAt = Date.now();
    const [postgres, redis] = await Promise.all([startEmbeddedPostgres({ dataDir }), startPrivateRedis({ dataDir })]);
    expect(Date.now() - startedAt).toBeLessThan(5000);
    await Promise.all([postgres.stop(), redis.stop()]);
  });

  test.skipIf(process.platform !== "linux")("are ended by the next start when nobody watches over them", async () => {
    const { parent, postgresPid, redisPid } = await runServers();
    const supervisors = [postgresPid, redisPid].flatMap((pid) => findSupervisors(readSession(pid)));
    expect(supervisors).toHaveLength(4);
    // Stopped first: one that saw another end would still end its server.
    for (const signal of ["SIGSTOP", "SIGKILL"] as const) {
      for (const pid of supervisors) process.kill(pid, signal);
    }
    await killHard(parent);
    expect([isAlive(postgresPid), isAlive(redisPid)]).toEqual([true, true]);

    const messages: string[] = [];
    const options = { dataDir: folder.dataDir, onProgress: (message: string) => messages.push(message) };
    const [postgres, redis] = await Promise.all([startEmbeddedPostgres(options), startPrivateRedis(options)]);
    expect([isAlive(postgresPid), isAlive(redisPid)]).toEqual([false, false]);
    expect(messages).toContain(`ending the PostgreSQL that an earlier start left here (process ${postgresPid})`);
    expect(messages).toContain(`ending the Redis that an earlier start left here (process ${redisPid})`);
    await Promise.all([postgres.stop(), redis.stop()]);
  });
});

describe("the servers of a running Holdfast", () => {
  test.skipIf(process.platform !== "linux")("have sessions of their own, which a Ctrl-C does not reach", async () => {
    const { parent, postgresPid, redisPid } = await runServers();
    const sessions = [process.pid, postgresPid, redisPid].map(readSession);
    expect(new Set(sessions).size).toBe(3);
    await killHard(parent);
    await expectEnd(postgresPid, 5000);
    await expectEnd(redisPid, 5000);
  });

  test("keep a second Holdfast out of their folder, with one line", async () => {
    const { parent, postgresPid, redisPid } = await runServers();
    for (const start of [startEmbeddedPostgres, startPrivateRedis]) {
      await expect(start({ dataDir: folder.dataDir })).rejects.toThrow(
        `the data folder ${folder.dataDir} is in use by another Holdfast (process ${parent.pid}): ` +
          "stop it, or give this one its own folder with HOLDFAST_DATA_DIR",
      );
    }
    await killHard(parent);
    await expectEnd(postgresPid, 5000);
    await expectEnd(redisPid, 5000);
  });
});
