import { type Kysely, type RawBuilder, sql } from "kysely";
import type { Database } from "../postgres/schema.ts";

/** What a user has had of a SKU over the whole history: held, pending and sold units, less what was cancelled or given back. */
export interface UserUnits {
  readonly userId: string;
  readonly sku: string;
  readonly unitCount: number;
}

/** Rows of counts that are read at a time. */
const fetchedRows = 3000;

/**
 * Counts the units of one SKU per user from holds and orders; a user whose holds and orders all ended without a sale has 0.
 * This reads the shop's whole history, which only happens when a limit is first set.
 */
export async function countUnits(db: Kysely<Database>, shopId: string, sku: string): Promise<UserUnits[]> {
  const { rows } = await unitsQuery(shopId, sql`line->>'sku' = ${sku}`, sql``).execute(db);
  return rows;
}

/**
 * The same for every SKU that has or had a limit, a page at a time and without the zeros: of some users, or of all in one pass
 * over the history, which Postgres groups on its disk where its memory does not do.
 */
export async function* trackedUnits(
  trx: Kysely<Database>,
  shopId: string,
  userIds: readonly string[] | undefined,
): AsyncGenerator<UserUnits[]> {
  const tracked = sql`select sku from products where shop_id = ${shopId} and limit_tracked`;
  const { rows: some } = await sql`${tracked} limit 1`.execute(trx);
  if (some.length === 0) {
    return;
  }
  const ofUsers = userIds === undefined ? sql`` : sql`and user_id = any(${userIds})`;
  const query = unitsQuery(shopId, sql`line->>'sku' in (${tracked})`, ofUsers);
  await sql`declare units no scroll cursor for select * from (${query}) as counts where "unitCount" <> 0`.execute(trx);
  for (;;) {
    const { rows } = await sql<UserUnits>`fetch ${sql.lit(fetchedRows)} from units`.execute(trx);
    if (rows.length > 0) {
      yield rows;
    }
    if (rows.length < fetchedRows) {
      break;
    }
  }
  await sql`close units`.execute(trx);
}

/** An order from a user's hold counts once: the hold is committed by then. */
function unitsQuery(shopId: string, ofSkus: RawBuilder<unknown>, ofUsers: RawBuilder<unknown>): RawBuilder<UserUnits> {
  return sql<UserUnits>`
    select user_id as "userId", line->>'sku' as sku, sum((line->>'quantity')::bigint * counted)::bigint as "unitCount"
    from (
      select user_id, lines, (state <> 4)::int as counted from orders where shop_id = ${shopId} and user_id <> '' ${ofUsers}
      union all
      select user_id, restocked, -1 from orders where shop_id = ${shopId} and user_id <> '' and restocked is not null ${ofUsers}
      union all
      select user_id, lines, (state = 1)::int as counted from holds where shop_id = ${shopId} and user_id <> '' ${ofUsers}
    ) as carts, json_array_elements(lines) as line
    where ${ofSkus}
    group by 1, 2`;
}
