import type { Registry } from "prom-client";
import { createGauge } from "./gauge.ts";
import { createCounter, createHistogram } from "./series.ts";

/** Is told what the verifier finds. */
export interface VerifyObserver {
  /** A shop was verified, which took so many milliseconds: so much is not as its log says. */
  readonly verified: (shopId: string, discrepancyCount: number, ms: number) => void;
  /** A verification did not come to its end; the shop has its turn again. */
  readonly failed: () => void;
  /** So many shops are too large to be verified on the side, and one of them was not verified in any way for so many seconds. */
  readonly skipped: (shopCount: number, longestSeconds: number) => void;
}

const verifyBuckets = [0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Shows what verifications found: the last one of each shop counts. */
export function createVerifyMetrics(registry: Registry): VerifyObserver {
  const drifting = new Map<string, number>();
  let skippedCount = 0;
  let skippedSeconds = 0;
  const seconds = createHistogram({
    registry,
    name: "holdfast_verify_seconds",
    help: "How long the verification of one shop took.",
    buckets: verifyBuckets,
  })();
  const failures = createCounter({
    registry,
    name: "holdfast_verify_failures_total",
    help: "Verifications that did not come to their end, as when a store is away.",
  })();
  createGauge({
    registry,
    name: "holdfast_drift",
    help: "Things in the stores that are not as the event log says, by the last verification of each shop. Must be 0.",
    read: () => [...drifting.values()].reduce((sum, count) => sum + count, 0),
  });
  createGauge({
    registry,
    name: "holdfast_verify_skipped_shops",
    help: "Shops with more commits than HOLDFAST_VERIFY_MAX_COMMITS, which nobody verifies unless asked to.",
    read: () => skippedCount,
  });
  createGauge({
    registry,
    name: "holdfast_verify_skipped_seconds",
    help: "How long the one of them that has waited longest was not verified, nor by VerifyShop; 0 where there is none.",
    read: () => skippedSeconds,
  });
  return {
    verified: (shopId, count, ms) => {
      seconds.observe(ms / 1000);
      drifting.delete(shopId);
      if (count > 0) {
        drifting.set(shopId, count);
      }
    },
    failed: () => {
      failures.count += 1;
    },
    skipped: (count, longestSeconds) => {
      skippedCount = count;
      skippedSeconds = longestSeconds;
    },
  };
}
