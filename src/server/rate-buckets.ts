/**
 * Calls per second of many keys, decided in this process: each key has a bucket that leases fill. Invariant: every call that
 * was let through is counted by a lease, before it or by the next one, so that processes that share the counts are over or
 * under a rate by what their buckets hold or owe, a lease or four calls each, and never by more the longer it takes.
 */
export interface RateBuckets {
  /** How long a key has to wait for its next call, in milliseconds; 0: it may call now. */
  waitMs(key: string): number;
  /** Counts a call of a key. */
  take(key: string): void;
}

/** Gets calls of a key out of what all processes may make together. Never rejects. */
export type Lease = (key: string, callCount: number) => Promise<Leased>;

/** What was got. */
export interface Leased {
  /** At most as many as were asked for. */
  readonly callCount: number;
  /** How long until the window ends that these calls are of, in milliseconds. */
  readonly windowEndsInMs: number;
}

/** What buckets need. */
export interface RateBucketsOptions {
  /** Calls of a key in a window, in all processes. */
  readonly callsPerWindow: number;
  readonly windowMs: number;
  readonly lease: Lease;
}

/** Buckets kept, twice: which one goes is decided by when it was used. Whoever names ever new shops takes no more memory. */
const maxBucketCount = 10_000;
/** Of a window's calls; two processes that hold or owe a lease each are 8 % off. */
const leaseShare = 1 / 25;
/** Calls on credit at least, so that a caller with a low rate is not refused for two calls at the same time. */
const minCreditCount = 4;
/** How long to wait for a lease that is under way, in milliseconds; who is refused after others, for their turns as well. */
const leaseWaitMs = 50;
/** After so many milliseconds turns begin anew: not all who were refused come back, and a burst must not keep others away for long. */
const turnsMs = 10_000;

interface Bucket {
  /** Calls in hand; below 0: let through on credit, for the next lease to count. */
  left: number;
  /** Until when there is nothing to be had, on the clock of `performance`. */
  closedUntilMs: number;
  isLeasing: boolean;
  /** Calls refused since the last lease was asked for. */
  refusedCount: number;
}

/** Creates the buckets, all of one size. */
export function createRateBuckets({ callsPerWindow, windowMs, lease }: RateBucketsOptions): RateBuckets {
  const leaseCount = Math.max(1, Math.floor(callsPerWindow * leaseShare));
  const creditCount = Math.max(leaseCount, Math.min(minCreditCount, callsPerWindow));
  let recent = new Map<string, Bucket>();
  let older = new Map<string, Bucket>();

  const bucketOf = (key: string): Bucket => {
    const known = recent.get(key);
    if (known !== undefined) {
      return known;
    }
    if (recent.size >= maxBucketCount) {
      [recent, older] = [new Map(), recent];
    }
    const bucket = older.get(key) ?? { left: 0, closedUntilMs: 0, isLeasing: false, refusedCount: 0 };
    recent.set(key, bucket);
    return bucket;
  };

  const fill = (key: string, bucket: Bucket): void => {
    if (bucket.isLeasing || performance.now() < bucket.closedUntilMs) {
      return;
    }
    bucket.isLeasing = true;
    bucket.refusedCount = 0;
    const askedCount = leaseCount - bucket.left;
    void lease(key, askedCount).then(({ callCount, windowEndsInMs }) => {
      bucket.isLeasing = false;
      bucket.left += callCount;
      if (callCount < askedCount) {
        bucket.closedUntilMs = performance.now() + windowEndsInMs;
      } else {
        // What was let through on credit meanwhile.
        fillWhenLow(key, bucket);
      }
    });
  };

  const fillWhenLow = (key: string, bucket: Bucket): void => {
    if (bucket.left < leaseCount / 2) {
      fill(key, bucket);
    }
  };

  return {
    waitMs: (key) => {
      const bucket = bucketOf(key);
      const closedMs = bucket.closedUntilMs - performance.now();
      // Credit bridges the time until a lease is there, so that a key that is new, or whose window has begun, is not refused.
      if (bucket.left > (closedMs > 0 ? 0 : -creditCount)) {
        return 0;
      }
      fill(key, bucket);
      // Spread: who all came back together would be refused again. Clients of gRPC wait for exactly this, five times at most.
      if (closedMs > 0) {
        return closedMs + Math.random() * windowMs;
      }
      bucket.refusedCount += 1;
      return leaseWaitMs + ((((bucket.refusedCount - 1) * windowMs) / callsPerWindow) % turnsMs);
    },
    take: (key) => {
      const bucket = bucketOf(key);
      bucket.left -= 1;
      fillWhenLow(key, bucket);
    },
  };
}
