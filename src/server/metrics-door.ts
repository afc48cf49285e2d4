import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { ListenAddress } from "../config.ts";
import type { Door } from "./door.ts";
import { listenError } from "./listen-error.ts";
import type { MetricsPage } from "./metrics-page.ts";

/** What the door for metrics needs. */
export interface MetricsDoorOptions {
  readonly address: ListenAddress;
  readonly answer: MetricsPage;
}

/** Opens a door that has nothing but `/metrics`, without TLS: for a network of its own. */
export function createMetricsDoor({ address, answer }: MetricsDoorOptions): Door {
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, (req, res) => {
    if (!answer(req.url?.split("?", 1)[0] ?? "", req, res)) {
      res.statusCode = 404;
      res.end("there is only /metrics here\n");
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
