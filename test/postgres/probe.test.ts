import { Client } from "pg";
import { expect, test } from "vitest";
import { createPostgresProbe } from "../../src/postgres/probe.ts";
import { createSockets } from "../../src/postgres/sockets.ts";
import { startProxy } from "../helpers/proxy.ts";
import { createDatabase } from "../helpers/servers.ts";
import { until } from "../helpers/until.ts";

/** The connections that probes have to a database, as PostgreSQL sees them. */
async function countProbes(databaseUrl: string): Promise<number> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  const { rows } = await client.query(
    "select from pg_stat_activity where application_name = 'holdfast-probe' and datname = current_database()",
  );
  await client.end();
  return rows.length;
}

test("a probe that gave up on silent connections leaves none behind when they are made after all", async () => {
  const database = await createDatabase();
  const proxy = await startProxy(database.url);
  const probe = createPostgresProbe({ url: proxy.url, sockets: createSockets() });
  try {
    await probe.ask();
    proxy.freeze();
    for (let count = 0; count < 3; count += 1) await expect(probe.ask()).rejects.toThrow();
    proxy.thaw();
    await until("Postgres answers again", async () => {
      await probe.ask();
      return true;
    });
    await until("one connection is left", async () => (await countProbes(database.url)) === 1);
    await probe.close();
    await until("none is left", async () => (await countProbes(database.url)) === 0);
  } finally {
    await proxy.stop();
    await database.drop();
  }
});
