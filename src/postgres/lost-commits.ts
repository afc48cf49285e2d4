import { type Kysely, sql } from "kysely";
import type { Call } from "../shop/log-entry.ts";
import type { ShopHead } from "./flush-statement.ts";
import type { Database } from "./schema.ts";

/** Positions that were used by commits which Postgres does not have any more. */
export interface LostCommits {
  readonly from: number;
  readonly to: number;
  /** The epoch of the rebuild that accepts their loss. */
  readonly epoch: number;
}

const call: Call = { rpc: "AcceptLoss", request_id: "", principal: "", request: {} };

/**
 * Writes a commit without events at every lost position, with an id of its own, and moves the head behind them: the log has
 * no gap, no position is ever used for something else, and who knew one of the lost commits learns that history changed.
 * For the transaction that holds the shop's row lock.
 */
export async function acceptLoss(trx: Kysely<Database>, shopId: string, lost: LostCommits): Promise<ShopHead> {
  await sql`
    insert into commits (shop_id, position, commit_id, epoch, commit_time, request_id, call, events)
    select ${shopId}, position, gen_random_uuid(), ${lost.epoch}, greatest(date_trunc('milliseconds', now()), before.commit_time), '',
      ${JSON.stringify(call)}::json, '[]'::json
    from generate_series(${lost.from}::bigint, ${lost.to}::bigint) as position,
      (select commit_time from commits where shop_id = ${shopId} and position = ${lost.from - 1}) as before`.execute(
    trx,
  );
  const { rows } = await sql<ShopHead>`
    update shops s set head_position = c.position, head_commit_id = c.commit_id from commits c
    where s.shop_id = ${shopId} and c.shop_id = s.shop_id and c.position = ${lost.to}
    returning s.epoch, s.head_position as position, s.head_commit_id as "commitId"`.execute(trx);
  if (rows[0] === undefined) {
    throw new Error(`the lost commits of shop ${shopId} could not be written`);
  }
  return rows[0];
}
