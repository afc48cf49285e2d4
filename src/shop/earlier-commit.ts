import type { Kysely } from "kysely";
import { around } from "../crash-point.ts";
import { findByRequestId, readCommit } from "../postgres/commits.ts";
import type { Database } from "../postgres/schema.ts";
import { Refusal } from "../refusal.ts";
import { type Call, type LogEntry, parseEntry } from "./log-entry.ts";
import { firstDifference, requestJson } from "./messages.ts";
import type { Committed, Mutation } from "./mutation.ts";
import { existsRefusal } from "./refusals.ts";
import type { Reply } from "./reply.ts";

/** An earlier commit that answers a call: that of its request id, or that of the resource it names. */
export interface EarlierCommit {
  readonly entry: LogEntry;
  readonly kind: "REPLAYED" | "EXISTS";
}

/** What is needed to find one. */
export interface EarlierCommitsOptions {
  readonly db: Kysely<Database>;
  readonly shopId: string;
  /** How long a request id is kept in Postgres, in milliseconds. */
  readonly requestRetentionMs: number;
}

/** What Postgres knows of a call's ids, which Redis let go. */
export async function lookUp(
  options: EarlierCommitsOptions,
  mutation: Mutation,
  requestId: string,
): Promise<EarlierCommit | undefined> {
  const { db, shopId, requestRetentionMs } = options;
  const replayed = await findByRequestId(db, shopId, requestId, requestRetentionMs);
  if (replayed !== undefined) {
    return { entry: replayed, kind: "REPLAYED" };
  }
  const at = await mutation.lookUp?.(db);
  return at === undefined ? undefined : { entry: await readEntry(options, at), kind: "EXISTS" };
}

/** The commit that a script's reply names: it comes with it, or is in Postgres when the log let it go. */
export async function earlierOf(
  options: EarlierCommitsOptions,
  { kind, at, fields }: Extract<Reply, { kind: EarlierCommit["kind"] }>,
): Promise<EarlierCommit> {
  return { kind, entry: fields === undefined ? await readEntry(options, at) : parseEntry(String(at), fields) };
}

async function readEntry({ db, shopId }: EarlierCommitsOptions, position: number): Promise<LogEntry> {
  const entry = await around("mutation: read commit", () => readCommit(db, shopId, position));
  if (entry === undefined) {
    throw new Error(`commit ${position} of shop ${shopId} is neither in the log nor in Postgres`);
  }
  return entry;
}

/** Answers with an earlier commit when it was made by the same request; throws what the contract says when it was not. */
export function answerWith(
  { entry, kind }: EarlierCommit,
  mutation: Mutation,
  call: Call,
  durable: boolean,
): Committed {
  const stored = JSON.parse(entry.call) as Call;
  const field = differenceOf(stored, mutation, call);
  if (field !== undefined) {
    const where = { position: String(entry.position), epoch: String(entry.epoch) };
    if (kind === "REPLAYED") {
      const message = `request id "${call.request_id}" was used by another call: "${field}" differs`;
      throw new Refusal("REQUEST_ID_REUSED", message, { metadata: { field, ...where } });
    }
    const { existsReason = "REQUEST_ID_REUSED", existsMetadata } = mutation;
    throw existsRefusal(existsReason, { field, ...where, ...existsMetadata });
  }
  return {
    position: entry.position,
    epoch: entry.epoch,
    commitId: entry.commitId,
    timeMs: entry.timeMs,
    requestId: stored.request_id,
    replayed: true,
    durable,
    events: JSON.parse(entry.events) as Record<string, object>[],
  };
}

/** The first field in which a call differs from an earlier one; undefined: in none. */
function differenceOf(stored: Call, { request: { desc, message } }: Mutation, call: Call): string | undefined {
  if (stored.rpc !== call.rpc) {
    return "rpc";
  }
  // Personal data is hashed with the first call's request id; the same salt makes the two comparable.
  const repeated = stored.request_id === call.request_id ? call.request : requestJson(desc, message, stored.request_id);
  return firstDifference(stored.request, repeated);
}
