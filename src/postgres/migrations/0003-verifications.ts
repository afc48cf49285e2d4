import { type Kysely, sql } from "kysely";

/**
 * When each shop was verified. A table of its own: the rows of `shops` are rewritten by every flush, and by nothing else while a
 * shop is open. Older processes serve beside newer ones; what they verify is not noted.
 */
export async function up(db: Kysely<never>): Promise<void> {
  await sql`create table verifications (
    shop_id text collate "C" primary key,
    verify_time timestamptz not null
  )`.execute(db);
}
