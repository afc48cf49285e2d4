import type { IncomingHttpHeaders } from "node:http2";

/** The longest that a timer of Node can be set for, a little less than 25 days. One that is set for longer ends at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** The units of gRPC with which eight digits can be more than that, in milliseconds. */
const UNIT_MS = new Map([
  ["H", 3_600_000],
  ["M", 60_000],
  ["S", 1_000],
]);

/**
 * Shortens a caller's timeout to one that grpc-js and connect can set a timer for. They do not look, and would end the call as it
 * begins. What is not a timeout stays as it is.
 */
export function shortenTimeout(headers: IncomingHttpHeaders): void {
  const { "grpc-timeout": grpc, "connect-timeout-ms": connect } = headers;
  const [, count, unit = ""] = (typeof grpc === "string" && /^(\d{1,8})([HMS])$/.exec(grpc)) || [];
  if (Number(count) * (UNIT_MS.get(unit) ?? 0) > MAX_TIMER_MS) {
    headers["grpc-timeout"] = `${Math.floor(MAX_TIMER_MS / 1000)}S`;
  }
  if (typeof connect === "string" && /^\d{10}$/.test(connect) && Number(connect) > MAX_TIMER_MS) {
    headers["connect-timeout-ms"] = String(MAX_TIMER_MS);
  }
}
