import { Refusal } from "../refusal.ts";
import type { Call, LogEntry } from "./log-entry.ts";

/** What stops a shop until somebody looks; the field `alarm` of the log line that says so. docs/fences.md has the ways out. */
export type Alarm = "commits_missing" | "poison_commit" | "redis_refuses";

/**
 * The shop cannot go on: what waits for Postgres cannot be recorded, or Postgres does not have what it had. Nothing is skipped
 * and no position is used again; every call that would commit or decide is refused until the cause is gone.
 */
export class Fenced extends Refusal {
  readonly alarm: Alarm;
  /** The first position that stands still; 0 where Redis cannot be read. */
  readonly from: number;
  /** What the log line says besides. */
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(
    alarm: Alarm,
    from: number,
    message: string,
    facts: Readonly<Record<string, string | number>>,
    cause?: unknown,
  ) {
    const metadata = Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, String(value)]));
    super("SHOP_FENCED", message, { metadata: { alarm, ...metadata } });
    this.alarm = alarm;
    this.from = from;
    this.facts = cause === undefined ? facts : { ...facts, err: cause };
  }
}

/** Postgres is behind what it had, and the log does not reach back to where it is. */
export function commitsMissing(durable: number, flushed: number, epoch: number): Fenced {
  const message = `Postgres had the commits ${durable + 1} to ${flushed} and does not have them any more; the operator has to decide`;
  const facts = { position: durable, epoch, from: durable + 1, to: flushed, flushed };
  return new Fenced("commits_missing", durable + 1, message, facts);
}

/** A commit that Postgres refuses whatever is tried, because of what it holds. */
export function poisonCommit(entry: Pick<LogEntry, "position" | "commitId" | "call">, cause: unknown): Fenced {
  const { position, commitId } = entry;
  const { rpc, request_id } = callOf(entry.call);
  const message = `commit ${position} (${rpc}) cannot be recorded; the operator has to look. Repeat a mutation with its request id afterwards`;
  return new Fenced("poison_commit", position, message, { position, commit_id: commitId, rpc, request_id }, cause);
}

/** Redis answers with an error when the shop's keys are read: one of them is not what it has to be. */
export function redisRefuses(cause: Error): Fenced {
  return new Fenced(
    "redis_refuses",
    0,
    `Redis cannot read this shop: ${cause.message}; the operator has to look`,
    {},
    cause,
  );
}

/** Whether Redis answered, but with an error that no repeat mends. */
export function isReplyError(error: unknown): error is Error {
  return error instanceof Error && error.name === "ReplyError";
}

/** Whether a script ended in its middle: Redis keeps what it had written before. */
export function isHalfDone(error: unknown): boolean {
  return isReplyError(error) && / script: .+, on @user_/.test(error.message);
}

function callOf(text: string): Pick<Call, "rpc" | "request_id"> {
  try {
    return JSON.parse(text) as Call;
  } catch {
    return { rpc: "unknown", request_id: "" };
  }
}
