import { execFile } from "node:child_process";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/dev/embedded-postgres.ts";

/** The PostgreSQL of the run, with the product's own settings. Its port changes with every start. */
export interface PostgresNode {
  /** Where it is now, as a superuser. */
  readonly url: string;
  /** Ends it with SIGKILL, as a crash of the machine would: nothing is written any more. */
  kill(): Promise<void>;
  /** Starts it again; it recovers from its write-ahead log. */
  start(): Promise<void>;
  /** Copies the data folder; the server is down meanwhile. */
  keepCopy(): Promise<void>;
  /** Puts the copied data folder in place of the present one, once. The server must be down. */
  putBack(): Promise<void>;
  /** Runs statements of the harness. */
  use<Value>(work: (client: Client) => Promise<Value>): Promise<Value>;
  stop(): Promise<void>;
}

/** Starts it in `dataDir`. */
export async function startPostgresNode(dataDir: string): Promise<PostgresNode> {
  const folder = join(dataDir, "postgres");
  const copy = join(dataDir, "postgres-copy");
  let server: EmbeddedPostgres = await startEmbeddedPostgres({ dataDir });
  const start = async (): Promise<void> => {
    server = await startEmbeddedPostgres({ dataDir });
  };
  return {
    get url() {
      return server.url;
    },
    start,
    kill: async () => {
      process.kill(server.pid, "SIGKILL");
      await server.stop();
    },
    keepCopy: async () => {
      await server.stop();
      await rm(copy, { recursive: true, force: true });
      await promisify(execFile)("cp", ["-a", folder, copy]); // with its owners: PostgreSQL takes none but its own files
      await start();
    },
    putBack: async () => {
      await rm(folder, { recursive: true, force: true });
      await rename(copy, folder);
    },
    use: async (work) => {
      const client = new Client({ connectionString: server.url });
      client.on("error", () => {}); // the query that it hits reports it
      await client.connect();
      return work(client).finally(() => client.end());
    },
    stop: () => server.stop(),
  };
}
