import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "pino";

/** Answers a look at the metrics; returns false when the path is another. */
export type MetricsPage = (path: string, req: IncomingMessage, res: ServerResponse) => boolean;

/** What a page needs. */
export interface MetricsPageOptions {
  /** The metrics in Prometheus' text format 0.0.4. */
  readonly render: () => Promise<string>;
  /** How old a page may be, in milliseconds: anybody may ask, and each new one costs some. Default 1,000. */
  readonly maxAgeMs?: number | undefined;
  readonly logger: Logger;
}

/**
 * `/metrics`, for Prometheus. Looks that come together, or one right after the other, get the same page, or hear the same
 * failure, which is logged once.
 */
export function createMetricsPage({ render, maxAgeMs = 1000, logger }: MetricsPageOptions): MetricsPage {
  let page: Promise<string | undefined> | undefined;
  let renderedAtMs = Number.NEGATIVE_INFINITY;
  const current = (): Promise<string | undefined> => {
    if (page === undefined || performance.now() - renderedAtMs > maxAgeMs) {
      renderedAtMs = performance.now();
      page = render().catch((error: unknown) => {
        logger.error({ err: error }, "the metrics could not be shown");
        return undefined;
      });
    }
    return page;
  };
  return (path, req, res) => {
    if (path !== "/metrics" || (req.method !== "GET" && req.method !== "HEAD")) {
      return false;
    }
    void current().then((text) => {
      if (text === undefined) {
        answer(res, 500, "text/plain", "the metrics could not be shown\n");
      } else {
        answer(res, 200, "text/plain; version=0.0.4; charset=utf-8", text);
      }
    });
    return true;
  };
}

function answer(res: ServerResponse, status: number, type: string, text: string): void {
  res.statusCode = status;
  res.setHeader("content-type", type);
  res.setHeader("cache-control", "no-store");
  res.end(text);
}
