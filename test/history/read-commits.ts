import type { Client } from "pg";
import type { Plain } from "../model/plain.ts";
import type { CommitRecord } from "./history.ts";

interface Row {
  readonly position: string;
  readonly commit_id: string;
  readonly epoch: string;
  readonly time_ms: string;
  readonly request_id: string;
  readonly call: { readonly rpc: string; readonly principal: string; readonly request: Plain };
  readonly events: readonly Plain[];
}

/** Reads every commit of a shop, in order, by a query that the product does not have. */
export async function readCommits(postgres: Client, shopId: string): Promise<CommitRecord[]> {
  const { rows } = await postgres.query<Row>(
    `select position, commit_id, epoch, round(extract(epoch from commit_time) * 1000) as time_ms, request_id, call, events
     from commits where shop_id = $1 order by position`,
    [shopId],
  );
  return rows.map(({ position, commit_id, epoch, time_ms, request_id, call, events }) => ({
    position: Number(position),
    commitId: commit_id,
    epoch: Number(epoch),
    timeMs: Number(time_ms),
    requestId: request_id,
    rpc: call.rpc,
    principal: call.principal,
    request: call.request,
    events,
  }));
}
