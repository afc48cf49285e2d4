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
  /** A step was sent: so many things, so many values. */
  loaded(count: number, valueCount: number): void;
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
/** Values loaded in a millisecond, as long as this rebuild has not shown its own speed: about half of what was measured (2026-11). */
const firstSpeed = 400;
/** How much that counts: as if so many milliseconds had gone by at it. The first steps are small, and tell little of the others. */
const firstMs = 1000;

/** Begins to follow a rebuild. */
export function createProgress(
  { shopId, onProgress, onEstimate, logger }: ProgressListeners,
  epoch: number,
  extent: Extent,
): Progress {
  const startedAt = performance.now();
  const totalCount = extent.count;
  let [loadedCount, valueCount, loggedAt] = [0, 0, startedAt];
  const elapsedMs = (): number => Math.round(performance.now() - startedAt);
  const restMs = (): number => {
    const speed = (valueCount + firstSpeed * firstMs) / (elapsedMs() + firstMs);
    return Math.ceil((1.1 * Math.max(0, extent.valueCount - valueCount)) / speed);
  };
  onEstimate?.(restMs());
  return {
    restMs,
    elapsedMs,
    loaded: (count, values) => {
      loadedCount = Math.min(totalCount, loadedCount + count);
      valueCount += values;
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
