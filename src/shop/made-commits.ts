import type { ShopHead } from "../postgres/flush-statement.ts";
import type { LogEntry } from "./log-entry.ts";
import type { Reply } from "./reply.ts";
import type { Waiter } from "./waiters.ts";

/**
 * Commits that this process made and knows as well as the log does: the reply of the script that made one names the entry
 * before it. A chain of them that begins at the head is what a look at the log would have shown when the last of them was
 * made (FLUSH of docs/architecture.md), so the look is left out.
 *
 * Invariant: a look comes after the head was read from Postgres. A reply from before that may be of a history that Redis has
 * lost since, and a Postgres that is being healed passes the very position at which it went on differently.
 */
export interface MadeCommit {
  readonly entry: LogEntry;
  readonly previousCommitId: string;
  /** How often the flusher had read the head from Postgres before the script was sent. */
  readonly headReadCount: number;
  /** The connections to Redis, before the script was sent. */
  readonly redisGeneration: number;
}

/** Largest part of a chain that goes into one statement, in characters: as much as `lua/read_log.lua` shows at once. */
const maxCharacters = 4_000_000;

/**
 * The commits behind a head, when those who wait made all of them since it was read and wait for nothing else; else undefined:
 * other processes committed in between, an expiry did, somebody observes, or there is too much for a statement.
 */
export function chainFrom(
  head: ShopHead,
  headReadCount: number,
  waiting: readonly Waiter[],
  maxCount: number,
): readonly MadeCommit[] | undefined {
  const made = new Map<number, MadeCommit>();
  let characters = 0;
  for (const waiter of waiting) {
    if (waiter.made?.headReadCount !== headReadCount || made.has(waiter.position)) {
      return undefined;
    }
    made.set(waiter.position, waiter.made);
    characters += waiter.made.entry.call.length + waiter.made.entry.events.length;
  }
  if (made.size === 0 || made.size > maxCount || characters > maxCharacters) {
    return undefined;
  }
  const chain: MadeCommit[] = [];
  let last: { readonly position: number; readonly commitId: string } = head;
  for (let next = made.get(last.position + 1); next !== undefined; next = made.get(last.position + 1)) {
    if (next.previousCommitId !== last.commitId || next.entry.epoch !== head.epoch) {
      return undefined;
    }
    chain.push(next);
    last = next.entry;
  }
  return chain.length === made.size ? chain : undefined;
}

/** The log's entry of a commit, from the reply of the script that made it. */
export function madeCommit(
  { position, commitId, timeMs, payload, previousCommitId }: Extract<Reply, { kind: "OK" }>,
  epoch: number,
  call: string,
  before: Pick<MadeCommit, "redisGeneration" | "headReadCount">,
): MadeCommit | undefined {
  const entry = { position, commitId, epoch, timeMs, call, events: payload as string, private: "" };
  return previousCommitId === undefined ? undefined : { entry, previousCommitId, ...before };
}
