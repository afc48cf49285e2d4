import type { RequestListener } from "node:http";
import {
  constants,
  createServer as createHttp2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer as createHttpsServer, type Server, type ServerOptions } from "node:https";
import { clientOptions, type TlsFiles } from "./tls-files.ts";

/** How long an HTTP/2 connection without calls is kept open, in milliseconds. */
const HTTP2_IDLE_MS = 65_000;
/** Calls at a time on one HTTP/2 connection. */
const MAX_CONCURRENT_STREAMS = 250;

/** A server for HTTP/1.1 and HTTP/2 over TLS, as the client chooses. */
export interface TlsServer {
  readonly server: Server;
  /** Lets the calls on HTTP/2 connections finish, and then closes them; `server.close()` does that for the others. */
  closeHttp2(): void;
  /** Closes HTTP/2 connections with all that is on them. */
  destroyHttp2(): void;
}

/**
 * Makes the server. Not by http2.createSecureServer with `allowHTTP1`: it cannot be told to close HTTP/1.1 connections that
 * idle, nor the limits of HTTP/1.1. `requestTimeout`, which Node's HTTP/2 does not know, holds for both. Here HTTP/1.1 is as without TLS, and connections that chose h2 are handed over.
 */
export function createTlsServer(
  options: ServerOptions & { readonly requestTimeout: number },
  tls: TlsFiles,
  listener: RequestListener,
): TlsServer {
  const ALPNProtocols = ["h2", "http/1.1"];
  const server = createHttpsServer({ ...options, ...clientOptions(tls), ...tls.current, ALPNProtocols }, listener);
  tls.onChange((material) => server.setSecureContext(material));

  const sessions = new Set<ServerHttp2Session>();
  // Node's requests and responses of HTTP/2 do what those of HTTP/1.1 do, as far as the listener goes.
  const http2 = createHttp2Server(
    { settings: { maxConcurrentStreams: MAX_CONCURRENT_STREAMS } },
    listener as unknown as Parameters<typeof createHttp2Server>[1],
  );
  http2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.setTimeout(HTTP2_IDLE_MS, () => session.close());
  });
  http2.on("stream", (stream) => endUnlessArrived(stream, options.requestTimeout));
  const http1Listeners = server.listeners("secureConnection");
  server.removeAllListeners("secureConnection");
  server.on("secureConnection", (socket) => {
    if (socket.alpnProtocol === "h2") {
      http2.emit("connection", socket);
      return;
    }
    for (const take of http1Listeners) take.call(server, socket);
  });
  return {
    server,
    closeHttp2: () => sessions.forEach((session) => void session.close()),
    destroyHttp2: () => sessions.forEach((session) => void session.destroy()),
  };
}

/** Ends a call whose request has not arrived in time. */
function endUnlessArrived(stream: ServerHttp2Stream, arrivalMs: number): void {
  if (stream.endAfterHeaders) return;
  const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), arrivalMs);
  const stop = (): void => clearTimeout(timer);
  stream.once("end", stop).once("close", stop);
}
