import type { Logger } from "pino";
import { Refusal } from "../refusal.ts";
import { createRateBuckets, type RateBuckets } from "./rate-buckets.ts";
import { connectRateLeases } from "./rate-leases.ts";

/** What a limit is of: one who calls, in all shops, or one shop, whoever calls. */
const kinds = ["principal", "shop"] as const;
type Kind = (typeof kinds)[number];

/** Calls per second, in all processes together. Undefined: as many as come. */
export type CallRates = { readonly [K in Kind]?: number | undefined };

/** How often callers may call. */
export interface RateLimits {
  /** Counts a call, or refuses it with RATE_LIMITED: it then counts for nobody. */
  take(principal: string, shopId: string): void;
  close(): void;
}

/** What limits need. */
export interface RateLimitsOptions {
  readonly rates: CallRates;
  readonly redisUrl: string;
  /** In seconds, default 1; tests count in longer ones. */
  readonly windowSeconds?: number;
  readonly logger: Logger;
}

/** Opens the limits; undefined: there are none. */
export async function openRateLimits(options: RateLimitsOptions): Promise<RateLimits | undefined> {
  const { rates, windowSeconds = 1 } = options;
  const limited = kinds.filter((kind) => rates[kind] !== undefined);
  if (limited.length === 0) {
    return undefined;
  }
  const leases = await connectRateLeases({ ...options, windowSeconds });
  const limits = limited.map((kind) => {
    const callsPerSecond = rates[kind] as number;
    const callsPerWindow = callsPerSecond * windowSeconds;
    const lease = leases.leasesOf(kind, callsPerWindow);
    return {
      kind,
      callsPerSecond,
      buckets: createRateBuckets({ callsPerWindow, windowMs: windowSeconds * 1000, lease }),
    };
  });
  return {
    take: (principal, shopId) => {
      const keys = { principal, shop: shopId };
      // All are asked before one counts: who is refused for its shop has not called.
      for (const limit of limits) {
        refuseAbove(limit, keys[limit.kind]);
      }
      for (const { kind, buckets } of limits) {
        buckets.take(keys[kind]);
      }
    },
    close: () => leases.close(),
  };
}

interface Limit {
  readonly kind: Kind;
  readonly callsPerSecond: number;
  readonly buckets: RateBuckets;
}

function refuseAbove({ kind, callsPerSecond, buckets }: Limit, key: string): void {
  const retryMs = buckets.waitMs(key);
  if (retryMs > 0) {
    const where = kind === "principal" ? "by this caller" : "of this shop";
    throw new Refusal("RATE_LIMITED", `no more than ${callsPerSecond} calls a second ${where} are taken`, {
      retryMs,
      metadata: { limit: kind, calls_per_second: String(callsPerSecond) },
    });
  }
}
