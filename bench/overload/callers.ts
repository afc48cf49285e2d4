import { type LatencySummary, summariseLatencies } from "../../src/demo/latencies.ts";
import { orderRequests } from "../growth/order-load.ts";
import { type LoadVolume, tallyRequests } from "../own-load.ts";
import { hotSku } from "../sale.ts";

/** Orders of each shop's one product, from one shop after the other. */
export interface CallersTask extends LoadVolume {
  readonly shopIds: readonly string[];
  /** Also when each answer came and how long it took: for a load of few calls. */
  readonly lists?: boolean;
}

/** What came of it. */
export interface CallersResult {
  readonly elapsedMs: number;
  readonly doneCount: number;
  /** Of these, those that were answered before the load ended: what waits then is answered when there is no load any more. */
  readonly doneInTimeCount: number;
  /** Told to come back. */
  readonly shedCount: number;
  /** Ended in any other way, the time-out of a call among them. */
  readonly failedCount: number;
  readonly done: LatencySummary;
  readonly shed: LatencySummary;
  /** When an answer came, in ms since the epoch, and how long it took. */
  readonly answers: readonly (readonly [atMs: number, latencyMs: number])[];
}

/** Makes the load. */
export async function callShops({ shopIds, lists = false, ...volume }: CallersTask): Promise<CallersResult> {
  const requests = orderRequests({ shopIds, skus: [hotSku], userIds: [] });
  const { tally, elapsedMs } = await tallyRequests(volume, [requests]);
  const { doneCount, refusedCount, busyCount, failedCount, latenciesMs, endedAtMs, busyLatenciesMs } = tally;
  const startedAtMs = performance.now() - elapsedMs;
  const doneInTimeCount = endedAtMs.filter((atMs) => atMs <= startedAtMs + volume.durationMs).length;
  const answers = latenciesMs.map((ms, index) => [performance.timeOrigin + (endedAtMs[index] as number), ms] as const);
  return {
    elapsedMs,
    doneCount,
    doneInTimeCount,
    shedCount: busyCount,
    failedCount: refusedCount + failedCount,
    done: summariseLatencies(latenciesMs),
    shed: summariseLatencies(busyLatenciesMs),
    answers: lists ? answers : [],
  };
}
