import type { Logger } from "pino";
import type { Extent } from "./rebuild.ts";

/** How far a rebuild is. */
export interface RebuildProgress {
  /** The epoch it will end in. */
  readonly epoch: number;
  /** Products, holds, orders, users and commits that Redis has again. */
  readonly loadedCount: number;
  /** How many there were when it began; not more than an estimate, because ended holds and commits without a request id count too. */
  readonly totalCount: number;
}

/** Follows one rebuild: tells how far it is and how long it will take, to those who wait and, now and then, to the log. */
export interface Progress {
  /** A step was sent, with so many things. */
  loaded(step: string, count: number): void;
  /** How long it will take from now on, in milliseconds: an estimate, rather too long than too short. */
  restMs(): number;
  elapsedMs(): number;
}

/** Who is told. */
export interface ProgressListeners {
  readonly shopId: string;
  readonly onProgress?: (progress: RebuildProgress) => void;
  readonly onEstimate?: (restMs: number) => void;
  readonly logger: Logger;
}

/** How often the log tells how far it is, in milliseconds. */
const logMs = 2000;
/**
 * What things of each step take, in microseconds, with all that comes with them (1,000,000 users, 100,000 products and holds, 2 cores with
 * nothing else running, 2026-11). Steps that are not here are small, or come with these.
 */
const costUs: Extent = { stock: 15, holds: 24, orders: 24, users: 11, recent: 1.5, log: 22 };
/** How much that counts against what this rebuild shows: as if this part of it had gone by as fast as it says. */
const trustedPart = 1 / 8;

function costMs(step: string, count: number): number {
  return ((costUs[step] ?? 0) * count) / 1000;
}

/** Begins to follow a rebuild. */
export function createProgress(
  { shopId, onProgress, onEstimate, logger }: ProgressListeners,
  epoch: number,
  extent: Extent,
): Progress {
  const startedAt = performance.now();
  const wanted = Object.entries(extent);
  const totalCount = wanted.reduce((sum, [, count]) => sum + count, 0);
  const totalMs = wanted.reduce((sum, [step, count]) => sum + costMs(step, count), 0);
  const trustedMs = 1 + trustedPart * totalMs;
  let [loadedCount, loadedMs, loggedAt] = [0, 0, startedAt];
  const elapsedMs = (): number => Math.round(performance.now() - startedAt);
  const restMs = (): number => {
    const slowness = (elapsedMs() + trustedMs) / (loadedMs + trustedMs);
    return Math.ceil(1.1 * slowness * Math.max(0, totalMs - loadedMs));
  };
  onEstimate?.(restMs());
  return {
    restMs,
    elapsedMs,
    loaded: (step, count) => {
      loadedCount = Math.min(totalCount, loadedCount + count);
      loadedMs += costMs(step, count);
      onProgress?.({ epoch, loadedCount, totalCount });
      onEstimate?.(restMs());
      if (performance.now() - loggedAt >= logMs) {
        loggedAt = performance.now();
        logger.info(
          { shop: shopId, epoch, loadedCount, totalCount, restMs: restMs() },
          "shop is being rebuilt from Postgres",
        );
      }
    },
  };
}
