import type { Outcome } from "../model/caller.ts";
import type { Call } from "../model/decide.ts";
import type { Plain } from "../model/plain.ts";

/** One call as a caller lived it: repeats with the same request id are one call. Times: ms of the harness' `performance.now()`. */
export interface CallRecord {
  readonly call: Call;
  /** When the first attempt was sent. */
  readonly invokedMs: number;
  /** When the attempt was sent that was answered: a refusal or a read speaks for that one only. */
  readonly attemptMs: number;
  /** When it was answered; Infinity = never. */
  readonly returnedMs: number;
  /** undefined = never learnt. */
  readonly outcome: Outcome | undefined;
}

/** One commit as Postgres has it. */
export interface CommitRecord {
  readonly position: number;
  readonly commitId: string;
  readonly epoch: number;
  /** In ms since the epoch of clocks, by the shop's clock. */
  readonly timeMs: number;
  /** Empty = nobody asked for it. */
  readonly requestId: string;
  readonly rpc: string;
  readonly principal: string;
  /** The request as the log keeps it, without shop and request id; left out = not read. */
  readonly request?: Plain;
  /** As the log keeps them: `{ order_placed: ... }`, with proto field names, times in ms, enums as numbers. */
  readonly events: readonly Plain[];
}

/** What a history has that no right execution has. */
export type ViolationKind =
  /** Positions, times, epochs or ids of the log itself. */
  | "broken log"
  /** An acknowledged commit is not there. */
  | "lost commit"
  /** A commit that the shop as it was then does not allow: two callers saw the same stock. */
  | "lost update"
  /** Something took effect twice. */
  | "doubled"
  /** A refusal or a read that does not know what had been acknowledged before it was sent. */
  | "stale read"
  /** A commit that is before one whose call had returned when its own began, or its time is not that of the call. */
  | "reordered"
  /** An answer, a refusal or a read that is not true where it says. */
  | "wrong answer"
  | "wrong event"
  /** A commit that nobody asked for, or that was not due. */
  | "unknown commit";

/** A contradiction between calls and commits. */
export interface Violation {
  readonly kind: ViolationKind;
  /** Of the commit, or the position that was observed. */
  readonly position: number;
  readonly calls: readonly CallRecord[];
  readonly text: string;
}

/** A history to be checked. */
export interface History {
  readonly shopId: string;
  readonly currencyCode: string;
  readonly calls: readonly CallRecord[];
  /** All of the shop, in order. */
  readonly commits: readonly CommitRecord[];
  /** HOLDFAST_HOLD_SECONDS of the servers, in ms. Default 600,000. */
  readonly holdMs?: number;
  /**
   * Redis may have been away at times. Live reads are then answered from PostgreSQL as of its newest commit, and may show
   * what is due as not ended yet, because only Redis can end it. Default false.
   */
  readonly mayLackRedis?: boolean;
  /**
   * Two Redis masters may have taken the shop at once: what one of them answered may then be later, by its clock, than the
   * next commit, which the other made meanwhile. Default false.
   */
  readonly mayFork?: boolean;
  /** What to add to times of calls for the time of clocks, in ms. Default: by this process' clock, now. */
  readonly originMs?: number;
}
