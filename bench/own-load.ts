import { summariseLatencies } from "../src/demo/latencies.ts";
import { createRequestTemplate } from "./frames.ts";
import type { Load, LoadResult } from "./load.ts";
import { emptyTally, openLoadConnection } from "./load-connection.ts";
import { workloads } from "./workloads.ts";

/** A number for every purchase, for as long as this process lives. */
let nextPurchase = 0;

/** Makes load with frames that are encoded beforehand: 2 to 3 µs of CPU time a call. */
export async function loadWithOwn(load: Load): Promise<LoadResult> {
  const { port, workload, connectionCount, inFlightCount, perSecond, durationMs } = load;
  const authority = `127.0.0.1:${port}`;
  const steps = workloads[workload].steps().map((requests) => {
    return requests.map((request) => createRequestTemplate({ ...request, authority }));
  });
  const endCount = nextPurchase + (load.purchaseCount ?? Number.POSITIVE_INFINITY);
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
  const { latenciesMs, ...counts } = tally;
  const { p50Ms, p99Ms, p999Ms } = summariseLatencies(latenciesMs);
  return { ...counts, elapsedMs, p50Ms, p99Ms, p999Ms };
}
