import { type Kysely, sql } from "kysely";
import { StartError } from "../start-error.ts";
import { tellCertificate } from "../untrusted-certificate.ts";
import type { Database } from "./schema.ts";

/** The oldest server that is supported: the one the traps of this project were measured on. */
const oldestVersion = 14;

/** Checks that Postgres is reached, new enough, writable, and does not acknowledge what it could lose. */
export async function checkPostgres(db: Kysely<Database>, durability: "postgres" | "redis"): Promise<void> {
  const settings = await readSettings(db);
  if (settings.version < oldestVersion * 10_000) {
    throw new StartError(
      `PostgreSQL is version ${Math.floor(settings.version / 10_000)}: use ${oldestVersion} or newer`,
    );
  }
  if (settings.inRecovery) {
    throw new StartError("PostgreSQL is a standby and takes no writes: point DATABASE_URL at the primary");
  }
  if (durability === "postgres" && (settings.synchronousCommit === "off" || settings.fsync === "off")) {
    const name = settings.fsync === "off" ? "fsync" : "synchronous_commit";
    throw new StartError(
      `PostgreSQL has ${name} = off and would lose acknowledged orders: switch it on, or set HOLDFAST_DURABILITY=redis`,
    );
  }
}

/** Checks that Postgres takes as many connections as several processes may open; others that use it are not counted. */
export async function checkConnectionCount(db: Kysely<Database>, connectionCount: number): Promise<void> {
  const { rows } = await sql<{ most: number }>`
    select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      - coalesce(current_setting('reserved_connections', true)::int, 0) as most`.execute(db);
  const most = rows[0]?.most ?? 0;
  if (connectionCount > most) {
    throw new StartError(
      `the processes may open ${connectionCount} connections, and PostgreSQL takes ${most}: ` +
        "raise its max_connections, or lower HOLDFAST_PROCESSES or HOLDFAST_PG_POOL_SIZE",
    );
  }
}

async function readSettings(db: Kysely<Database>) {
  const query = sql<{ version: number; synchronousCommit: string; fsync: string; inRecovery: boolean }>`
    select current_setting('server_version_num')::int as version, current_setting('synchronous_commit') as "synchronousCommit",
      current_setting('fsync') as fsync, pg_is_in_recovery() as "inRecovery"`;
  try {
    const { rows } = await query.execute(db);
    return rows[0] as (typeof rows)[0];
  } catch (error) {
    throw new StartError(
      `PostgreSQL cannot be used: ${reasonOf(error)}. Check DATABASE_URL, or leave it unset for an embedded one`,
      {
        cause: error,
      },
    );
  }
}

/** A connection attempt to several addresses fails with several errors and an empty message of its own. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) {
    return error.errors.map((each) => reasonOf(each)).join(", ");
  }
  return error instanceof Error ? tellCertificate(error) : String(error);
}
