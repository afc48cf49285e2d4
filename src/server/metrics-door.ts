import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { ListenAddress } from "../config.ts";
import type { Door } from "./door.ts";
import { listenError } from "./listen-error.ts";
import type { MetricsPage } from "./metrics-page.ts";
import { createProbes, type Readiness } from "./probes.ts";

/** What the door for metrics needs. */
export interface MetricsDoorOptions {
  readonly address: ListenAddress;
  readonly answerMetrics: MetricsPage;
  /** What `/readyz` says. */
  readonly isReady: () => Readiness | Promise<Readiness>;
}

/** Opens a door that has nothing but `/metrics` and the probes, without TLS: for a network of its own. */
export function createMetricsDoor({ address, answerMetrics, isReady }: MetricsDoorOptions): Door {
  const answerProbe = createProbes(isReady);
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, (req, res) => {
    const path = req.url?.split("?", 1)[0] ?? "";
    if (!answerMetrics(path, req, res) && !answerProbe(path, req, res)) {
      res.statusCode = 404;
      res.end("there are only /metrics, /livez and /readyz here\n");
    }
  });
  return {
    listen: () =>
      new Promise((resolve, reject) => {
        server.once("error", (error) => reject(listenError("metrics", address, "HOLDFAST_METRICS_ADDR", error)));
        server.listen(address, () => resolve((server.address() as AddressInfo).port));
      }),
    drain: (graceMs) =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
        setTimeout(() => server.closeAllConnections(), graceMs).unref();
      }),
  };
}
