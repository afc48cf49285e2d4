import { summariseLatencies } from "../src/demo/latencies.ts";
import { createRequestTemplate } from "./frames.ts";
import type { Load, LoadResult } from "./load.ts";
import { emptyTally, openLoadConnection, type Tally } from "./load-connection.ts";
import { type Request, workloads } from "./workloads.ts";

/** How much load and for how long, whatever is called. */
export type LoadVolume = Omit<Load, "generator" | "workload" | "folder">;

/** A number for every purchase, for as long as this process lives. */
let nextPurchase = 0;

/** Makes the load of a workload. */
export function loadWithOwn(load: Load): Promise<LoadResult> {
  return loadWithRequests(load, workloads[load.workload].steps());
}

/** Makes load with frames that are encoded beforehand: 2 to 3 µs of CPU time a call. `requests` are the steps of a workload. */
export async function loadWithRequests(
  volume: LoadVolume,
  requests: readonly (readonly Request[])[],
): Promise<LoadResult> {
  const { tally, elapsedMs } = await tallyRequests(volume, requests);
  const { doneCount, refusedCount, busyCount, failedCount } = tally;
  const { p50Ms, p99Ms, p999Ms } = summariseLatencies(tally.latenciesMs);
  return { doneCount, refusedCount, busyCount, failedCount, elapsedMs, p50Ms, p99Ms, p999Ms };
}

/** The same, with what became of every purchase. */
export async function tallyRequests(
  { port, connectionCount, inFlightCount, perSecond, durationMs, purchaseCount, authorization }: LoadVolume,
  requests: readonly (readonly Request[])[],
): Promise<{ readonly tally: Tally; readonly elapsedMs: number }> {
  const shared = { authority: `127.0.0.1:${port}`, authorization };
  const steps = requests.map((each) => each.map((request) => createRequestTemplate({ ...request, ...shared })));
  const endCount = nextPurchase + (purchaseCount ?? Number.POSITIVE_INFINITY);
  const open = () => openLoadConnection(port, steps, () => (nextPurchase < endCount ? nextPurchase++ : undefined));
  const connections = await Promise.all(Array.from({ length: connectionCount }, open));
  const tally = emptyTally();
  const startedMs = performance.now();
  const untilMs = startedMs + durationMs;
  await Promise.all(
    connections.map((connection) =>
      perSecond === undefined
        ? connection.run(inFlightCount, untilMs, tally)
        : connection.pace(perSecond / connectionCount, inFlightCount, untilMs, tally),
    ),
  );
  const elapsedMs = performance.now() - startedMs;
  for (const connection of connections) {
    connection.close();
  }
  return { tally, elapsedMs };
}
