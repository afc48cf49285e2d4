import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { ExponentialBackoff, type IBackoff } from "cockatiel";
import { isUndecided, refusalOf } from "./refusals.ts";

/** The longest that a timer of Node can wait, in milliseconds: one that is set for longer fires at once. */
export const longestTimerMs = 2 ** 31 - 1;

/** The longest timeout that the header `grpc-timeout` has room for, which has eight digits, in milliseconds. */
const longestAttemptMs = 99_999_999;

/** How patient a client is; all times in milliseconds. */
export interface RepeatOptions {
  /** How often a call is sent at most. Default 10. A watch has no such limit. */
  readonly maxAttempts?: number;
  /** How long a call may take, with all attempts and pauses, when its own `timeoutMs` is not given. Default 30,000. */
  readonly timeoutMs?: number;
  /** How long one attempt may take. Default 5,000. */
  readonly attemptTimeoutMs?: number;
  /** About how long the pause after the first attempt is; it doubles with each, with jitter. Default 50. */
  readonly firstPauseMs?: number;
  /** The longest such pause. A longer wait that the server asks for (RetryInfo) is added to it. Default 1,000. */
  readonly longestPauseMs?: number;
  /**
   * Hears of every attempt that is to be repeated, and of every watch that is to be resumed, before the pause; undefined
   * when the server ended a watch because it or the connection closes.
   */
  readonly onRepeat?: (error: unknown) => void;
  /**
   * Ends the whole client: nothing is repeated any more, pauses and watches end. What is under way ends by a signal of its
   * own or of its transport.
   */
  readonly signal?: AbortSignal;
}

/** RepeatOptions with their defaults. */
export type Patience = ReturnType<typeof createPatience>;

/** Fills in the defaults. */
export function createPatience(options: RepeatOptions = {}) {
  const { maxAttempts = 10, timeoutMs = 30_000, attemptTimeoutMs = 5000, onRepeat = () => {}, signal } = options;
  const { firstPauseMs: initialDelay = 50, longestPauseMs: maxDelay = 1000 } = options;
  return {
    maxAttempts,
    timeoutMs,
    attemptTimeoutMs,
    onRepeat,
    signal,
    backoff: new ExponentialBackoff({ initialDelay, maxDelay }),
  };
}

/** The bounds of one call. */
export interface CallBounds {
  /** The caller's; undefined: the client's default; 0 and below: none. */
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** False: sent once, because a second one might take effect again. */
  readonly isRepeatable: boolean;
}

/**
 * Sends a call until it is decided, within its deadline, its signal and `maxAttempts`; throws what the last attempt threw.
 * `send` must send the same request id every time; it gets the time it may take, in whole milliseconds.
 */
export async function repeatUntilDecided<T>(
  send: (timeoutMs: number) => Promise<T>,
  { timeoutMs, signal: ownSignal, isRepeatable }: CallBounds,
  { maxAttempts, attemptTimeoutMs, onRepeat, ...patience }: Patience,
): Promise<T> {
  const patienceMs = timeoutMs ?? patience.timeoutMs;
  const endsAtMs = patienceMs > 0 ? performance.now() + patienceMs : Number.POSITIVE_INFINITY;
  let pause: IBackoff<unknown> | undefined;
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await send(
        Math.max(1, Math.ceil(Math.min(attemptTimeoutMs, longestAttemptMs, endsAtMs - performance.now()))),
      );
    } catch (error) {
      const signal = eitherOf(ownSignal, patience.signal);
      if (!isRepeatable || attempts >= maxAttempts || signal?.aborted === true || !isUndecided(error)) {
        throw error;
      }
      pause = pause?.next(undefined) ?? patience.backoff.next();
      const pauseMs = pauseAfter(error, pause);
      if (performance.now() + pauseMs >= endsAtMs) {
        throw error;
      }
      onRepeat(error);
      await wait(pauseMs, signal);
    }
  }
}

/** What the server asks for and the backoff on top, so that callers who were told the same do not come back at once. */
export function pauseAfter(error: unknown, { duration }: IBackoff<unknown>): number {
  return Math.min((refusalOf(error)?.retryMs ?? 0) + duration, longestTimerMs);
}

/** Aborted when one of two signals is that may not be there. */
export function eitherOf(left: AbortSignal | undefined, right: AbortSignal | undefined): AbortSignal | undefined {
  return left === undefined || right === undefined ? (left ?? right) : AbortSignal.any([left, right]);
}

/** Waits; fails with CANCELED when the signal is aborted meanwhile. */
async function wait(pauseMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(pauseMs, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw new ConnectError("the call was cancelled between two attempts", Code.Canceled, undefined, undefined, error);
  }
}
