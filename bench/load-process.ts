import { summariseLatencies } from "../src/demo/latencies.ts";
import { answerParent } from "./child.ts";
import { createRequestTemplate } from "./frames.ts";
import { openLoadConnection, type Tally } from "./load-connection.ts";

/** Load for one server. */
export interface LoadRequest {
  readonly port: number;
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly message: Uint8Array;
  /** The id in the message that differs from call to call. */
  readonly id: string;
  readonly connectionCount: number;
  /** Calls in flight on each connection. */
  readonly inFlightCount: number;
  readonly durationMs: number;
}

/** What came of it. */
export interface LoadResult {
  readonly successCount: number;
  readonly failureCount: number;
  /** From the first call until the last answer. */
  readonly elapsedMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

let callCount = 0;

answerParent<LoadRequest>(async (request) => {
  const { port, connectionCount, inFlightCount, durationMs } = request;
  const template = createRequestTemplate({ ...request, authority: `127.0.0.1:${port}` });
  const open = () => openLoadConnection(port, template, () => callCount++);
  const connections = await Promise.all(Array.from({ length: connectionCount }, open));
  const tally: Tally = { successCount: 0, failureCount: 0, latenciesMs: [] };
  const startedMs = performance.now();
  await Promise.all(connections.map((each) => each.run(inFlightCount, startedMs + durationMs, tally)));
  const elapsedMs = performance.now() - startedMs;
  for (const connection of connections) {
    connection.close();
  }
  const { p50Ms, p99Ms } = summariseLatencies(tally.latenciesMs);
  const { successCount, failureCount } = tally;
  return { successCount, failureCount, elapsedMs, p50Ms, p99Ms } satisfies LoadResult;
});
