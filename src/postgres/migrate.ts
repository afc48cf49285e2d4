import { type Kysely, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import { refusedByPostgres } from "../missing-right.ts";
import { StartError } from "../start-error.ts";
import * as first from "./migrations/0001-first.ts";
import * as wholeContract from "./migrations/0002-whole-contract.ts";
import * as verifications from "./migrations/0003-verifications.ts";
import type { Database } from "./schema.ts";

const migrations: Record<string, Migration> = {
  "0001-first": first,
  "0002-whole-contract": wholeContract,
  "0003-verifications": verifications,
};

/** Brings the schema up to date, under an advisory lock, so that processes may start together. */
export async function migrate(db: Kysely<Database>): Promise<void> {
  await refuseNewerSchema(db);
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) {
    throw error;
  }
}

/** Checks that the schema is the one this version works with, for starts with HOLDFAST_MIGRATE_ON_START=0. */
export async function requireCurrentSchema(db: Kysely<Database>): Promise<void> {
  const applied = await refuseNewerSchema(db);
  const missing = Object.keys(migrations).filter((name) => !applied.has(name));
  if (missing.length > 0) {
    throw new StartError(`the database lacks the migration ${missing[0]}: run "holdfast migrate" first`);
  }
}

/** The names of the migrations that were applied; throws when one of them is from a newer version. */
async function refuseNewerSchema(db: Kysely<Database>): Promise<ReadonlySet<string>> {
  const { rows: tables } = await sql<{ schema: string | null; found: string | null }>`
    select current_schema() as schema, to_regclass('kysely_migration')::text as found`.execute(db);
  if (tables[0]?.schema == null) {
    // Without the right nothing in it is found: the migrations would seem to be missing.
    throw refusedByPostgres("it may use no schema of its search_path, such as public");
  }
  if (tables[0].found == null) {
    return new Set();
  }
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  const applied = new Set(rows.map((row) => row.name));
  const unknown = [...applied].filter((name) => !(name in migrations)).sort();
  if (unknown.length > 0) {
    throw new StartError(
      `the database has the migration ${unknown.at(-1)}, which this version of Holdfast does not know: run a newer version`,
    );
  }
  return applied;
}
