import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** What the operator sees of what only PostgreSQL knows. */
export interface PostgresLook {
  /** Consumers that were taken or moved on within the last day. */
  readonly consumerCount: number;
  /** Durable commits that the one of them that is furthest behind has not acknowledged. */
  readonly consumerLagCount: number;
  /** Age of the oldest transaction of a client on this database that this role can see, in seconds. */
  readonly oldestTransactionSeconds: number;
}

/**
 * Looks at the consumers and the transactions of the whole database, with one query. PostgreSQL's own transactions, as of an
 * autovacuum that takes hours, are none that somebody has forgotten.
 */
export async function lookAtPostgres(db: Kysely<Database>): Promise<PostgresLook> {
  const { rows } = await sql<PostgresLook>`
    select count(*)::int as "consumerCount",
      coalesce(max(greatest(0, shops.head_position - consumers.position)), 0) as "consumerLagCount",
      (select coalesce(extract(epoch from max(clock_timestamp() - xact_start)), 0)::float8 from pg_stat_activity
        where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
      ) as "oldestTransactionSeconds"
    from consumers join shops using (shop_id)
    where consumers.update_time > now() - interval '1 day'`.execute(db);
  return rows[0] as PostgresLook;
}

/** The next shop to verify on the side, and what is known of those that are too large for that. */
export interface VerifiableShop {
  readonly shopId: string | null;
  readonly skippedCount: number;
  /**
   * Since when the one of them that has waited longest was not verified in any way, in seconds: since its last verification, or
   * since it was made. 0 = there is none.
   */
  readonly skippedSeconds: number;
}

/** The next shop by id after one, of those with at most `maxCommits` and those in `anyway`, however large; null after the last. */
export async function findVerifiableShop(
  db: Kysely<Database>,
  afterShopId: string,
  maxCommits: number,
  anyway: readonly string[],
): Promise<VerifiableShop> {
  const { rows } = await sql<VerifiableShop>`
    select min(shop_id) filter (where shop_id > ${afterShopId} and is_taken) as "shopId",
      (count(*) filter (where not is_taken))::int as "skippedCount",
      coalesce(max(extract(epoch from now() - coalesce(verify_time, create_time))) filter (where not is_taken), 0)::float8 as "skippedSeconds"
    from (select *, head_position <= ${maxCommits} or shop_id = any(${anyway}::text[]) as is_taken from shops) as each
      left join verifications using (shop_id)`.execute(db);
  return rows[0] as VerifiableShop;
}

/** Notes that a shop was verified to the end just now. */
export async function noteVerification(db: Kysely<Database>, shopId: string): Promise<void> {
  await sql`insert into verifications values (${shopId}, now())
    on conflict (shop_id) do update set verify_time = excluded.verify_time`.execute(db);
}
