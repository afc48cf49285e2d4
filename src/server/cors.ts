import type { IncomingMessage, ServerResponse } from "node:http";
import { cors } from "@connectrpc/connect";
import { PUSHBACK } from "./errors.ts";
import { REQUEST_ID_HEADER } from "./request-id-interceptor.ts";

const ALLOWED_METHODS = cors.allowedMethods.join(", ");
/** By which a trace that begins in the browser goes on here. */
const TRACE_HEADERS = ["traceparent", "tracestate"];
/** What gRPC-Web of .NET sends besides: of compression with every call, of attempts with its own retries. */
const GRPC_HEADERS = ["Grpc-Encoding", "Grpc-Accept-Encoding", "Grpc-Previous-Rpc-Attempts"];
const ALLOWED_HEADERS = [
  ...[...cors.allowedHeaders, ...GRPC_HEADERS],
  ...[REQUEST_ID_HEADER, "Authorization", ...TRACE_HEADERS],
].join(", ");
const EXPOSED_HEADERS = [...cors.exposedHeaders, "Grpc-Encoding", PUSHBACK].join(", ");
const MAX_AGE_SECONDS = 7200;

/**
 * Lets scripts of the given origins (`*`: all) call from a browser. Answers preflight requests itself; returns true when it
 * has.
 */
export type CorsPolicy = (req: IncomingMessage, res: ServerResponse) => boolean;

/** Makes the policy. Without origins browsers refuse every script of another origin. */
export function createCorsPolicy(origins: readonly string[]): CorsPolicy {
  const allowed = new Set(origins);
  return (req, res) => {
    const { origin } = req.headers;
    const isPreflight = req.method === "OPTIONS" && req.headers["access-control-request-method"] !== undefined;
    if (allowed.size > 0) {
      res.setHeader("Vary", "Origin");
    }
    if (origin !== undefined && (allowed.has(origin) || allowed.has("*"))) {
      res.setHeader("Access-Control-Allow-Origin", origin);
      res.setHeader("Access-Control-Expose-Headers", EXPOSED_HEADERS);
      if (isPreflight) {
        res.setHeader("Access-Control-Allow-Methods", ALLOWED_METHODS);
        res.setHeader("Access-Control-Allow-Headers", ALLOWED_HEADERS);
        res.setHeader("Access-Control-Max-Age", MAX_AGE_SECONDS);
      }
    }
    if (isPreflight) {
      res.writeHead(204).end();
    }
    return isPreflight;
  };
}
