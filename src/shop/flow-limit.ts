/**
 * How many calls may be between Redis and PostgreSQL at a time: as many as keep the others' waits short. Learned from how long
 * calls take there, script and flush, which grows with how many there are; what they cost by themselves is learned while few are.
 */
export interface FlowLimit {
  /** Calls at a time. */
  readonly current: number;
  /** Told of every call that ended: how long it took, in milliseconds, how many there were, and whether its shop had few. */
  ended(tookMs: number, inFlightCount: number, isCalm: boolean): void;
}

/** What a limit needs. */
export interface FlowLimitOptions {
  /** Never more. */
  readonly maxCount: number;
}

/** Never fewer: one group commit has to be worth its while. */
const minCount = 64;
/** So few calls at a time do not wait for each other: what they take is what a call costs. */
const quietCount = 8;
/** How long the calls of a calm shop may take, in milliseconds or times of what a call costs. */
const calmMs = { least: 10, ofCost: 3 };
/** The same of a busy shop, which waits for itself: far from any deadline, and longer than a full flush takes. */
const busyMs = { least: 250, ofCost: 4 };
/** After so long, and so many calls, the limit is looked at again. */
const look = { ms: 100, count: 10 };
/** What one look changes at most. */
const step = { down: 0.5, up: 1.1, upCount: 4 };

/** Creates a limit, at its most until it has learned. */
export function createFlowLimit({ maxCount }: FlowLimitOptions): FlowLimit {
  let current = maxCount;
  let costMs = 0;
  let sinceMs = performance.now();
  let peakCount = 0;
  let [calmCalls, busyCalls] = [nothing(), nothing()];

  const adjust = (): void => {
    if (peakCount <= quietCount) {
      const meanMs = (calmCalls.sumMs + busyCalls.sumMs) / (calmCalls.count + busyCalls.count);
      costMs = costMs === 0 ? meanMs : 0.8 * costMs + 0.2 * meanMs;
    }
    const allowedMs = ({ least, ofCost }: typeof calmMs): number => Math.max(least, ofCost * costMs);
    const tooLong = Math.max(mean(calmCalls) / allowedMs(calmMs), mean(busyCalls) / allowedMs(busyMs));
    if (tooLong > 1) {
      // From where it was used: a limit that nobody comes near to is not what lets calls wait.
      const lower = Math.min(current, peakCount) * Math.max(step.down, 1 / tooLong);
      current = Math.min(current, Math.max(minCount, lower));
    } else if (peakCount >= current * step.down) {
      current = Math.min(maxCount, Math.max(current * step.up, current + step.upCount));
    }
  };

  return {
    get current() {
      return current;
    },
    ended: (tookMs, inFlightCount, isCalm) => {
      const calls = isCalm ? calmCalls : busyCalls;
      calls.count += 1;
      calls.sumMs += tookMs;
      peakCount = Math.max(peakCount, inFlightCount);
      const nowMs = performance.now();
      if (nowMs - sinceMs >= look.ms && calmCalls.count + busyCalls.count >= look.count) {
        adjust();
        [calmCalls, busyCalls, peakCount, sinceMs] = [nothing(), nothing(), 0, nowMs];
      }
    },
  };
}

interface Calls {
  count: number;
  sumMs: number;
}

function nothing(): Calls {
  return { count: 0, sumMs: 0 };
}

function mean({ count, sumMs }: Calls): number {
  return count === 0 ? 0 : sumMs / count;
}
