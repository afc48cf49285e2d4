import type { RequestListener } from "node:http";
import {
  constants,
  createServer as createHttp2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer as createHttpsServer, type Server, type ServerOptions } from "node:https";
import type { Socket } from "node:net";
import type { DoorLimits } from "../config.ts";
import type { Ages } from "./ages.ts";
import { expectSettings, http2Options, pingPeer } from "./http2-session.ts";
import { letGoOfStreams } from "./let-go-of-streams.ts";
import { clientOptions, type TlsFiles } from "./tls-files.ts";

/** A server for HTTP/1.1 and HTTP/2 over TLS, as the client chooses. */
export interface TlsServer {
  readonly server: Server;
  /** Lets the calls on HTTP/2 connections finish, and then closes them; `server.close()` does that for the others. */
  closeHttp2(): void;
}

/** What a server over TLS needs, besides what all servers of HTTP/1.1 do. */
export interface TlsServerOptions extends ServerOptions {
  readonly tls: TlsFiles;
  readonly limits: DoorLimits;
  readonly ages: Ages<Socket | ServerHttp2Session>;
}

/**
 * Makes the server. Not by http2.createSecureServer with `allowHTTP1`: it cannot be told to close HTTP/1.1 connections that
 * idle, nor the limits of HTTP/1.1. Here HTTP/1.1 is as without TLS, and connections that chose h2 are handed over.
 */
export function createTlsServer(
  { tls, limits, ages, ...options }: TlsServerOptions,
  listener: RequestListener,
): TlsServer {
  const ALPNProtocols = ["h2", "http/1.1"];
  const tlsOptions = { ...clientOptions(tls), ...tls.current, ALPNProtocols, handshakeTimeout: limits.handshakeMs };
  const server = createHttpsServer({ ...options, ...tlsOptions }, listener);
  tls.onChange((material) => server.setSecureContext(material));

  const sessions = new Set<ServerHttp2Session>();
  // Node's requests and responses of HTTP/2 do what those of HTTP/1.1 do, as far as the listener goes.
  const http2 = createHttp2Server(http2Options(limits), listener as unknown as Parameters<typeof createHttp2Server>[1]);
  http2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    letGoOfStreams(session);
    expectSettings(session, limits.handshakeMs);
    closeWhenIdle(session, limits.idleMs);
    pingPeer(session, limits);
    ages.begin(session);
  });
  http2.on("stream", (stream) => endUnlessArrived(stream, limits.arrivalMs));
  const http1Listeners = server.listeners("secureConnection");
  server.removeAllListeners("secureConnection");
  server.on("secureConnection", (socket) => {
    if (socket.alpnProtocol === "h2") {
      http2.emit("connection", socket);
      return;
    }
    ages.begin(socket);
    for (const take of http1Listeners) take.call(server, socket);
  });
  return {
    server,
    closeHttp2: () => sessions.forEach((session) => void session.close()),
  };
}

/** Not by the session's own time-out: pings count as life for it. */
function closeWhenIdle(session: ServerHttp2Session, idleMs: number): void {
  let callCount = 0;
  const timer = setTimeout(() => callCount === 0 && session.close(), idleMs).unref();
  session.on("stream", (stream) => {
    callCount += 1;
    stream.once("close", () => {
      callCount -= 1;
      if (callCount === 0) timer.refresh();
    });
  });
  session.once("close", () => clearTimeout(timer));
}

/** Ends a call whose request has not arrived in time. */
function endUnlessArrived(stream: ServerHttp2Stream, arrivalMs: number): void {
  if (stream.endAfterHeaders) return;
  const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), arrivalMs);
  const stop = (): void => clearTimeout(timer);
  stream.once("end", stop).once("close", stop);
}
