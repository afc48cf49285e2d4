import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";

/** How long a call is repeated before its outcome stays unknown, in milliseconds. */
const patienceMs = 30_000;
const shortestPauseMs = 20;
const longestPauseMs = 1000;

/** The call may have taken effect, or was not taken: either way the same request id may be sent again. */
const undecided: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.DeadlineExceeded,
  Code.ResourceExhausted,
  Code.Canceled,
  Code.Unknown,
  Code.Internal,
]);

/**
 * Repeats a call until it is decided: `call` must send the same request id every time. Throws what the call threw when
 * that is a decision, when 30 s are over, or when the signal is aborted. `onRepeat` hears of every repetition.
 */
export async function untilAnswered<T>(
  call: () => Promise<T>,
  signal: AbortSignal,
  onRepeat = (): void => {},
): Promise<T> {
  const giveUpAt = performance.now() + patienceMs;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      if (signal.aborted || !(error instanceof ConnectError) || !isUndecided(error) || performance.now() > giveUpAt) {
        throw error;
      }
      onRepeat();
      await sleep(pauseMs(error, attempt), undefined, { signal });
    }
  }
}

/** Whether an error leaves open what became of the call. */
export function isUndecided(error: unknown): boolean {
  return error instanceof ConnectError && undecided.has(error.code);
}

/** The reason of a refusal; undefined for any other error. */
export function reasonOf(error: unknown): string | undefined {
  if (!(error instanceof ConnectError) || isUndecided(error)) {
    return undefined;
  }
  return error.findDetails(ErrorInfoSchema)[0]?.reason;
}

/** As long as the server says, else longer from attempt to attempt; spread out, so that callers do not come back at once. */
function pauseMs(error: ConnectError, attempt: number): number {
  const [retry] = error.findDetails(RetryInfoSchema);
  const said = retry?.retryDelay;
  const floorMs = said === undefined ? 0 : Number(said.seconds) * 1000 + said.nanos / 1_000_000;
  return Math.max(floorMs, Math.min(shortestPauseMs * 2 ** attempt, longestPauseMs)) * (1 + Math.random() / 2);
}
