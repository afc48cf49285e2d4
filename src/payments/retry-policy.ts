import {
  CircuitState,
  CountBreaker,
  circuitBreaker,
  DelegateBackoff,
  handleWhen,
  type IPolicy,
  isBrokenCircuitError,
  isTaskCancelledError,
  retry,
  TimeoutStrategy,
  timeout,
  wrap,
} from "cockatiel";
import type { BreakerState } from "../metrics/payment-metrics.ts";
import { OutcomeUnknown, type PaymentGateway } from "./gateway.ts";

/** How patient a caller of a gateway is; all in milliseconds. */
export interface GatewayTimes {
  /** How long one attempt may take. Default 3,000. */
  readonly attemptTimeoutMs: number;
  /** The wait after the first attempt; it doubles with each one, and is taken with up to a quarter more or less. Default 1,000. */
  readonly retryMs: number;
  /** How long nothing is asked after too many failures. Default 60,000. */
  readonly breakMs: number;
  /** How long all attempts of one request and the waits between them may take. Default 30,000. */
  readonly totalMs: number;
}

/** The times Holdfast uses unless its settings say otherwise. */
export const defaultGatewayTimes: GatewayTimes = {
  attemptTimeoutMs: 3000,
  retryMs: 1000,
  breakMs: 60_000,
  totalMs: 30_000,
};

/** Attempts of one request; whoever asks again after the last one waits as if there were more, `retryWaitMs(times, 3)`. */
export const attemptCount = 3;

/** The breaker opens when half of the last ten attempts failed. */
const watchedAttemptCount = 10;
/** Cockatiel asks for a share that is exceeded: 5 of 10 are more than 49 %. */
const tolerableShare = 0.49;

/** The wait after the nth attempt, counted from 1, in milliseconds: 1, 2, 4 ... times `retryMs`, with jitter. */
export function retryWaitMs({ retryMs }: Pick<GatewayTimes, "retryMs">, attempt: number): number {
  return retryMs * 2 ** (attempt - 1) * (0.75 + Math.random() / 2);
}

/**
 * A gateway that is asked up to three times when the outcome is unknown for a reason that may pass, and not at all for a
 * while when it keeps failing. Each attempt counts for the breaker: `unavailable` as a failure; answers, declines and
 * refusals among them, as none. Whatever ends without an outcome is an OutcomeUnknown.
 *
 * `onBreaker` is told when it stops asking, tries and asks again. Aborting `signal` ends the waits between attempts; an attempt that is under way goes on to its answer or time-out.
 */
export function withRetries(
  gateway: PaymentGateway,
  times: GatewayTimes = defaultGatewayTimes,
  onBreaker: (state: BreakerState) => void = () => {},
): PaymentGateway {
  const policy = createPolicy(times, onBreaker);
  const ask = async <Answer>(attempt: Attempt<Answer>, ending: AbortSignal): Promise<Answer> => {
    let wasAsked = false;
    const noted: Attempt<Answer> = (signal) => {
      wasAsked = true;
      return attempt(signal);
    };
    try {
      return await untilEnding<Answer>(ending, (begin) => policy.execute(({ signal }) => begin(noted, signal)));
    } catch (error) {
      throw asUnknown(error, wasAsked);
    }
  };
  return {
    charge: (charge, signal) => ask((attemptSignal) => gateway.charge(charge, attemptSignal), signal),
    refund: (refund, signal) => ask((attemptSignal) => gateway.refund(refund, attemptSignal), signal),
  };
}

type Attempt<Answer> = (signal: AbortSignal) => Promise<Answer>;

/** Cockatiel's states of a breaker; nobody isolates ours by hand. */
const breakerStates: Readonly<Record<CircuitState, BreakerState>> = {
  [CircuitState.Closed]: "closed",
  [CircuitState.HalfOpen]: "half_open",
  [CircuitState.Open]: "open",
  [CircuitState.Isolated]: "open",
};

function createPolicy(times: GatewayTimes, onBreaker: (state: BreakerState) => void): IPolicy {
  const retries = retry(handleWhen(isPassing), {
    maxAttempts: attemptCount - 1,
    backoff: new DelegateBackoff(({ attempt }) => retryWaitMs(times, attempt)),
  }).dangerouslyUnref();
  const breaker = circuitBreaker(handleWhen(isFailure), {
    halfOpenAfter: times.breakMs,
    halfOpenSampling: { calls: 1, threshold: 0 },
    breaker: new CountBreaker({ threshold: tolerableShare, size: watchedAttemptCount }),
  });
  breaker.onStateChange((state) => onBreaker(breakerStates[state]));
  const aggressive = TimeoutStrategy.Aggressive;
  return wrap(timeout(times.totalMs, aggressive), retries, breaker, timeout(times.attemptTimeoutMs, aggressive));
}

/** Whether a further attempt may tell more. */
function isPassing(error: unknown): boolean {
  return isFailure(error) || (error instanceof OutcomeUnknown && error.kind === "conflict");
}

/** Whether an attempt says that the gateway is not well. */
function isFailure(error: unknown): boolean {
  return isTaskCancelledError(error) || (error instanceof OutcomeUnknown && error.kind === "unavailable");
}

function asUnknown(error: unknown, wasAsked: boolean): unknown {
  if (isBrokenCircuitError(error)) {
    return new OutcomeUnknown("unavailable", "the gateway failed too often and is left alone for a while", {
      wasAsked,
    });
  }
  return isTaskCancelledError(error)
    ? new OutcomeUnknown("unavailable", "the gateway did not answer in time", { cause: error })
    : error;
}

/**
 * Runs attempts that begin through `begin`. When `ending` is aborted, no further one begins, and the whole ends: at once
 * between attempts, else with the answer of the one under way. Cockatiel itself does not end a wait.
 */
async function untilEnding<Answer>(
  ending: AbortSignal,
  run: (begin: (attempt: Attempt<Answer>, signal: AbortSignal) => Promise<Answer>) => Promise<Answer>,
): Promise<Answer> {
  let isUnderWay = false;
  const { promise: stopped, reject: stop } = Promise.withResolvers<never>();
  const stopWhenIdle = (): void => {
    if (ending.aborted && !isUnderWay) {
      stop(new OutcomeUnknown("stopped", "stopped before the outcome was known"));
    }
  };
  const begin = async (attempt: Attempt<Answer>, signal: AbortSignal): Promise<Answer> => {
    if (ending.aborted) {
      return stopped;
    }
    let isAnswered = false;
    isUnderWay = true;
    // Cockatiel aborts the signal of every attempt that is over: answered, failed or too late.
    const end = (): void => {
      isUnderWay = isAnswered;
      stopWhenIdle();
    };
    signal.addEventListener("abort", end, { once: true });
    const answer = await attempt(signal);
    isAnswered = true;
    return answer;
  };
  ending.addEventListener("abort", stopWhenIdle);
  try {
    stopWhenIdle();
    return await Promise.race([run(begin), stopped]);
  } finally {
    ending.removeEventListener("abort", stopWhenIdle);
  }
}
