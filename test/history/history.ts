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
  /** In the form of `test/model/plain.ts`, without subjects. */
  readonly events: readonly Plain[];
}
