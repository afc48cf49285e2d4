import type { WorkloadName } from "./workloads.ts";

/** What makes the load. */
export type Generator = "h2load" | "own";

/** Load for one server. */
export interface Load {
  readonly generator: Generator;
  readonly port: number;
  readonly workload: WorkloadName;
  readonly connectionCount: number;
  /** Purchases in flight on each connection; with `perSecond` the most that may be. */
  readonly inFlightCount: number;
  /** Purchases begun per second on all connections together; undefined: as soon as an earlier one has ended. */
  readonly perSecond?: number | undefined;
  readonly durationMs: number;
  /** Most purchases to be made; undefined: as many as the time allows. Our own generator only. */
  readonly purchaseCount?: number | undefined;
  /** The header `authorization` of every call; undefined: none. Our own generator only. */
  readonly authorization?: string | undefined;
  /** For files that the load needs while it runs. */
  readonly folder: string;
}

/** What came of it. h2load does not look at gRPC's status: whatever is answered is done. */
export interface LoadResult {
  readonly doneCount: number;
  readonly refusedCount: number;
  readonly busyCount: number;
  readonly failedCount: number;
  /** From the first call until the last answer. */
  readonly elapsedMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
}
