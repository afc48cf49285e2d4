import { createHash } from "node:crypto";
import type { AnsweredOutcome } from "../model/caller.ts";
import { bodyOf, mutates } from "../model/decide.ts";
import { differences, type Plain } from "../model/plain.ts";
import type { CallRecord, CommitRecord } from "./history.ts";
import { isAccepted } from "./real-time.ts";

/** Who made a commit. */
export type Maker =
  /** Somebody who was answered with it. */
  | { readonly kind: "answered"; readonly record: CallRecord & { readonly outcome: AnsweredOutcome } }
  /** Calls that were not: any of them may have made it, with an attempt whose outcome they did not learn. */
  | { readonly kind: "unlearnt"; readonly records: readonly CallRecord[] }
  | { readonly kind: "nobody" };

/** Finds who made which commit. */
export class Makers {
  readonly #byPosition = new Map<number, CallRecord[]>();
  readonly #byId = new Map<string, CallRecord[]>();

  constructor(calls: readonly CallRecord[]) {
    for (const record of calls) {
      if (!mutates(record.call.rpc)) continue;
      const { outcome, call } = record;
      if (isAccepted(record)) push(this.#byPosition, (outcome as AnsweredOutcome).commit?.position as number, record);
      if (call.requestId !== "") push(this.#byId, call.requestId, record);
    }
  }

  /** Everybody who was told that they made this commit. */
  answeredAt(position: number): readonly CallRecord[] {
    return this.#byPosition.get(position) ?? [];
  }

  of(commit: CommitRecord): Maker {
    const [answered] = this.answeredAt(commit.position);
    if (answered !== undefined)
      return { kind: "answered", record: answered as CallRecord & { outcome: AnsweredOutcome } };
    const records = (this.#byId.get(commit.requestId) ?? []).filter((record) => mayHaveMade(record, commit));
    return records.length > 0 ? { kind: "unlearnt", records } : { kind: "nobody" };
  }
}

/** Whether an attempt of the call that was not answered may have made the commit. */
function mayHaveMade({ call, outcome, attemptMs, invokedMs }: CallRecord, commit: CommitRecord): boolean {
  if (call.rpc !== commit.rpc) return false;
  if (commit.request !== undefined && !isRequestOf(call.rpc, commit, commit.request, call.request)) return false;
  if (outcome === undefined || isFault(outcome)) return true;
  if (outcome.kind === "answered") return outcome.commit?.position === commit.position;
  // A refusal speaks for its own attempt: an earlier one, which was lost, may take effect later.
  return attemptMs > invokedMs;
}

/** Whether the log keeps this request. Of what identifies a person it keeps a hash, salted with the request id. */
function isRequestOf(rpc: string, { requestId }: CommitRecord, kept: Plain, sent: Plain): boolean {
  const hashOf = (value: unknown): string =>
    `sha256:${createHash("sha256").update(`${requestId}\n${value}`).digest("base64url")}`;
  const asKept = Object.entries(sent).map(([name, value]) => {
    const isHashed = String(kept[name]).startsWith("sha256:");
    return [name, isHashed ? hashOf(value) : value];
  });
  return differences(bodyOf(rpc, kept), Object.fromEntries(asKept)).length === 0;
}

/** Whether the server said that it failed: then nobody knows what it did. */
export function isFault(outcome: CallRecord["outcome"]): boolean {
  return outcome?.kind === "refused" && outcome.reason.startsWith("(");
}

function push(map: Map<number | string, CallRecord[]>, key: number | string, record: CallRecord): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [record]);
  else list.push(record);
}
