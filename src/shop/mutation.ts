import type { DescMessage } from "@bufbuild/protobuf";
import type { Kysely } from "kysely";
import type { Database } from "../postgres/schema.ts";
import { type Reason, Refusal } from "../refusal.ts";
import type { Call } from "./log-entry.ts";
import { requestJson } from "./messages.ts";
import type { Script } from "./scripts.ts";
import type { Caller } from "./waiters.ts";

/** One mutating RPC on its way to a commit. */
export interface Mutation {
  /** The RPC's name, `PlaceOrder`. */
  readonly rpc: string;
  readonly script: Script;
  readonly request: { readonly desc: DescMessage; readonly message: object };
  /** The caller's request id; empty = one is made for this call. */
  readonly requestId: string;
  readonly principal: string;
  /** The `traceparent` that the commit keeps; default none. */
  readonly traceParent?: string;
  /** What the script wants after the arguments every call has. */
  readonly args: readonly (string | number)[];
  /** Ids of the request that a thing which ended long ago may have used; they decide whether Postgres is asked. */
  readonly ids?: readonly string[];
  /** Finds in Postgres what those ids were used for: the position of the commit to answer with, or throws a Refusal. */
  readonly lookUp?: (db: Kysely<Database>) => Promise<number | undefined>;
  /** The refusal when the resource's id was used by another body, or its state was reached by another one. */
  readonly existsReason?: Reason;
  /** What that refusal says besides the field that differs: the resource's id, an order's state and as of when. */
  readonly existsMetadata?: Readonly<Record<string, string>>;
  /**
   * Reads from Postgres what the script needs of a thing that Redis let go; the script asks for it with LOAD_FIRST, and gets
   * `as_of_position` and `record` in front of `args`.
   */
  readonly record?: (db: Kysely<Database>) => Promise<StoredRecord>;
  /** Reads the record before the first run: Redis hardly ever has it. */
  readonly preloads?: boolean;
  /** A later step of a purchase that has begun, which goes before those that have not. */
  readonly isLaterStep?: boolean;
  /** Who waits for the answer. */
  readonly caller: Caller;
}

/** A row of Postgres, and the commit it is as of. */
export interface StoredRecord {
  /** The shop's durable head when the row was read. */
  readonly asOf: number;
  /** With the names of the events' JSON; null = there is none. */
  readonly row: object | null;
}

/** What a mutation did, or once did. */
export interface Committed {
  readonly position: number;
  readonly epoch: number;
  readonly commitId: string;
  readonly timeMs: number;
  readonly requestId: string;
  readonly replayed: boolean;
  readonly durable: boolean;
  /** The commit's events as in the log: `[{order_placed: {...}}]`. */
  readonly events: readonly Record<string, object>[];
}

/** A product gets its first limit after it was sold: what users had of it has to be loaded first. */
export class LimitsMissing extends Error {}

/** How far a caller's clock may be ahead, in milliseconds: one of the five minutes that `lua/include/begin.lua` allows. */
const clockSkewMs = 60_000;

/** A mutation as its commit keeps it. */
export function callOf({ rpc, principal, request, traceParent }: Mutation, requestId: string): Call {
  return {
    rpc,
    request_id: requestId,
    principal,
    request: requestJson(request.desc, request.message, requestId),
    ...traceOf(traceParent),
  };
}

/** What a commit keeps of the trace it is part of: nothing where there is none, as before there were traces. */
export function traceOf(traceParent: string | undefined): Pick<Call, "trace_parent"> {
  return traceParent ? { trace_parent: traceParent } : {};
}

/**
 * Whether Postgres is asked for an id is decided by the time it carries. One from the future would one day be younger than
 * what was let go although it was used before that: it would take effect a second time. `times` are those of the ids.
 */
export function refuseFutureIds(
  { request }: Mutation,
  ids: readonly string[],
  times: readonly number[],
  nowMs: number,
): void {
  const latestMs = nowMs + clockSkewMs;
  const id = ids[times.findIndex((timeMs) => timeMs > latestMs)];
  if (id !== undefined) {
    const values = request.message as Readonly<Record<string, unknown>>;
    const field = request.desc.fields.find(({ localName }) => values[localName] === id)?.name ?? "request_id";
    const description = "carries a time of more than a minute from now";
    throw new Refusal("VALIDATION_FAILED", `${field} ${description}`, { fieldViolations: [{ field, description }] });
  }
}
