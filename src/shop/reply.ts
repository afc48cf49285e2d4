/** What a script of the commit path answers, with names instead of places. `position`, `commitId` = the log's last entry. */
export type Reply =
  | { readonly kind: "MISMATCH" }
  | { readonly kind: "DUE" }
  | { readonly kind: "AGAIN"; readonly position: number; readonly commitId: string }
  | Answer;

/** A reply that is not just "run me again". */
export type Answer =
  | { readonly kind: "LOOK_UP"; readonly position: number; readonly commitId: string }
  | { readonly kind: "LOAD_LIMITS"; readonly position: number; readonly commitId: string }
  | { readonly kind: "LOAD_FIRST"; readonly position: number; readonly commitId: string }
  | {
      readonly kind: "OK";
      readonly position: number;
      readonly commitId: string;
      readonly timeMs: number;
      /** The events of a commit as JSON, or what a read asked for. */
      readonly payload: unknown;
      /** The log's entry before the commit; undefined for a read, and for a commit of which the reply does not tell everything. */
      readonly previousCommitId: string | undefined;
    }
  | {
      /** The request id, or the resource's id, was used at the position `at`. */
      readonly kind: "REPLAYED" | "EXISTS";
      readonly position: number;
      readonly commitId: string;
      readonly at: number;
      /** The flat fields of the log entry; undefined when the log let it go. */
      readonly fields: readonly string[] | undefined;
    }
  | {
      readonly kind: "REFUSED";
      readonly position: number;
      readonly commitId: string;
      readonly reason: string;
      readonly metadata: Record<string, string>;
      readonly retryMs: number | undefined;
      readonly violations: readonly { readonly reason: string; readonly metadata: Record<string, string> }[];
    };

/** Reads what a script returned: the text of a commit that was just made, else an array. */
export function parseReply(raw: unknown): Reply {
  if (typeof raw === "string") {
    return parseAccepted(raw);
  }
  const [kind, position, commitId, ...rest] = raw as [string, number, string, ...unknown[]];
  switch (kind) {
    case "OK":
      return { kind, position, commitId, timeMs: rest[0] as number, payload: rest[1], previousCommitId: undefined };
    case "REPLAYED":
    case "EXISTS":
      return { kind, position, commitId, at: rest[0] as number, fields: (rest[1] as string[] | null) ?? undefined };
    case "REFUSED": {
      const [reason, details, retryMs, violations] = rest as [string, string[], number, string[][]];
      return {
        kind,
        position,
        commitId,
        reason,
        metadata: pairs(details),
        retryMs: retryMs < 0 ? undefined : retryMs,
        violations: violations.map(([first, ...more]) => ({ reason: first as string, metadata: pairs(more) })),
      };
    }
    case "MISMATCH":
    case "DUE":
      return { kind };
    case "AGAIN":
    case "LOOK_UP":
    case "LOAD_LIMITS":
    case "LOAD_FIRST":
      return { kind, position, commitId };
    default:
      throw new Error(`a script answered "${kind}"`);
  }
}

/** Reads what `lua/include/accepted.lua` writes. */
function parseAccepted(text: string): Reply {
  const [position, id, timeMs, previous] = text.split(" ", 4) as [string, string, string, string];
  // A copy: V8 keeps the whole text for a part of it, and the head of a shop stays.
  const commitId = Buffer.from(id, "latin1").toString("latin1");
  return {
    kind: "OK",
    position: Number(position),
    commitId,
    timeMs: Number(timeMs),
    payload: text.slice(position.length + commitId.length + timeMs.length + previous.length + 4),
    previousCommitId: previous === "-" ? undefined : previous,
  };
}

function pairs(flat: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (let index = 0; index + 1 < flat.length; index += 2) {
    found[flat[index] as string] = flat[index + 1] as string;
  }
  return found;
}
