import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** Where an entry stands in the ledger; a commit makes several. */
export interface LedgerKey {
  readonly position: number;
  readonly index: number;
}

/**
 * Lists what moved a user's wallet newest first, from before an entry (undefined = the newest). The ledger's index holds the
 * accounts of users only: `like 'user:%'` has to be said, and as a literal, for Postgres to use it.
 */
export function listWalletEntries(
  db: Kysely<Database>,
  shopId: string,
  userId: string,
  before: LedgerKey | undefined,
  count: number,
) {
  let query = db
    .selectFrom("ledger_entries as entry")
    .innerJoin("commits", (join) =>
      join.onRef("commits.shop_id", "=", "entry.shop_id").onRef("commits.position", "=", "entry.position"),
    )
    .select(["entry.position", "entry.index", "kind", "delta", "balance_after", "cause", "order_id", "reference"])
    .select(["reason", "commit_time"])
    .where("entry.shop_id", "=", shopId)
    .where("account", "=", `user:${userId}`)
    .where(sql<boolean>`account like 'user:%'`);
  if (before !== undefined) {
    query = query.where(sql<boolean>`(entry.position, entry.index) < (${before.position}, ${before.index})`);
  }
  return query.orderBy("entry.position", "desc").orderBy("entry.index", "desc").limit(count).execute();
}
