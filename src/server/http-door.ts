import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import { constants, type Http2ServerRequest, type Http2ServerResponse, type ServerHttp2Session } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { createConnectRouter } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Logger } from "pino";
import type { DoorLimits, ListenAddress } from "../config.ts";
import { createAges } from "./ages.ts";
import { trackConnections } from "./connections.ts";
import { createCorsPolicy } from "./cors.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Door } from "./door.ts";
import { createServiceImpl } from "./http-call.ts";
import { listenError } from "./listen-error.ts";
import { COMPRESSIONS, type HandleOptions, handle, JSON_OPTIONS } from "./malformed-request.ts";
import type { MetricsPage } from "./metrics-page.ts";
import { createProbes, type Readiness } from "./probes.ts";
import { shortenTimeout } from "./shorten-timeout.ts";
import { peerCertificateOf, type TlsFiles } from "./tls-files.ts";
import { createTlsServer } from "./tls-server.ts";

/** How often Node looks whether a request is late, in milliseconds. Its own 30 s would add to what is allowed. */
const LATENESS_CHECK_MS = 1000;

/** What the HTTP door needs. */
export interface HttpDoorOptions {
  readonly address: ListenAddress;
  readonly dispatcher: Dispatcher;
  /** Undefined: without TLS. */
  readonly tls?: TlsFiles | undefined;
  /** Origins whose scripts may call from a browser; `*`: all. */
  readonly corsOrigins: readonly string[];
  /** What `/readyz` says while the door is not draining. */
  readonly isReady: () => Readiness | Promise<Readiness>;
  readonly limits: DoorLimits;
  /** Undefined: there is no `/metrics` here. */
  readonly answerMetrics?: MetricsPage | undefined;
  readonly logger: Logger;
}

/** The door for HTTP/1.1, and for HTTP/2 under TLS. */
export interface HttpDoor extends Door {
  /**
   * Says that it is not ready, and takes calls as before. Each answer closes its connection: a caller that has a connection
   * left when the door closes may be sending its next call just then, and HTTP/1.1 cannot tell it that it was not taken.
   */
  leave(): void;
}

/** Opens the door for Connect, gRPC-Web and JSON over HTTP/1.1, under TLS over HTTP/2 too, and for probes and metrics. */
export function createHttpDoor(options: HttpDoorOptions): HttpDoor {
  const { address, dispatcher, tls, corsOrigins, isReady, answerMetrics, limits, logger } = options;
  const handlers = createHandlers(dispatcher, limits);
  const ages = createAges<Socket | ServerHttp2Session>({
    ...limits,
    // Those of HTTP/1.1 are closed after the answer they are at, or when they idle.
    close: (connection) => "goaway" in connection && connection.close(),
    destroy: (connection) => connection.destroy(),
  });
  const applyCors = createCorsPolicy(corsOrigins);
  const { draining } = dispatcher;
  let hasLeft = false;
  const answerProbe = createProbes(() => (hasLeft || draining.aborted ? "draining" : isReady()));
  const listener: RequestListener = (req, res) => {
    // connect listens for errors of a request, but stops to when the response has closed: the one that is on its way then would
    // end the process. Seen with requests in a row on a connection that breaks.
    req.on("error", ignore);
    const ending = ages.endingOf(connectionOf(req));
    if (hasLeft || draining.aborted || ending.aborted) res.shouldKeepAlive = false;
    discardRest(req, res);
    // A cache in between may keep what says nothing of it, and a live read has to show what was acknowledged before it.
    if (req.method === "GET") res.setHeader("cache-control", "no-store");
    closeWhenDrained(res);
    cutWhenUnread(res, limits.unreadMs);
    const path = req.url?.split("?", 1)[0] ?? "";
    if (applyCors(req, res) || answerProbe(path, req, res) || answerMetrics?.(path, req, res) === true) {
      return;
    }
    const handler = handlers.get(path);
    if (handler === undefined) {
      answerJson(res, 404, "unimplemented", "there is nothing at this path");
      return;
    }
    serve(handler, req, res, { ending, maxBytes: limits.requestBytes }).catch((error: unknown) => {
      // Else the caller left while it was being answered.
      if (!isGone(res)) {
        logger.error({ err: error, rpc: path }, "a call could not be answered");
        res.destroy();
      }
    });
  };
  const serverOptions = http1Options(limits);
  const overTls = tls === undefined ? undefined : createTlsServer({ ...serverOptions, tls, limits, ages }, listener);
  const server = overTls?.server ?? createServer(serverOptions, listener).on("connection", ages.begin);
  const connections = trackConnections(server, limits);
  const closeWhenDrained = createCloser(server, draining);

  return {
    listen: () => listen(server, address),
    leave: () => {
      hasLeft = true;
    },
    drain: async (graceMs) => {
      dispatcher.beginDrain();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      overTls?.closeHttp2();
      const cut = setTimeout(() => connections.destroy(), graceMs);
      await closed;
      clearTimeout(cut);
    },
  };
}

function http1Options({ headerBytes, handshakeMs, arrivalMs, idleMs, pingMs }: DoorLimits) {
  return {
    maxHeaderSize: headerBytes,
    headersTimeout: Math.min(handshakeMs, arrivalMs),
    requestTimeout: arrivalMs,
    connectionsCheckingInterval: LATENESS_CHECK_MS,
    keepAliveTimeout: idleMs,
    // A peer that is gone is found out even when a stream to it has nothing to say.
    keepAlive: true,
    keepAliveInitialDelay: pingMs,
  };
}

function createHandlers(
  dispatcher: Dispatcher,
  { requestBytes, responseBytes }: DoorLimits,
): Map<string, UniversalHandler> {
  const router = createConnectRouter({
    // gRPC proper has its own door.
    grpc: false,
    jsonOptions: JSON_OPTIONS,
    acceptCompression: COMPRESSIONS,
    readMaxBytes: requestBytes,
    writeMaxBytes: responseBytes,
  });
  for (const service of dispatcher.services) {
    router.service(service, createServiceImpl(service, dispatcher));
  }
  return new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
}

async function serve(
  handler: UniversalHandler,
  req: IncomingMessage,
  res: ServerResponse,
  options: Pick<HandleOptions, "ending" | "maxBytes">,
): Promise<void> {
  shortenTimeout(req.headers);
  const request = toUniversalRequest(req, res);
  if (request === undefined) {
    answerJson(res, 400, "invalid_argument", "the request names no valid host");
    return;
  }
  const response = await handle(handler, request, { ...options, certificate: peerCertificateOf(req.socket) });
  // As it comes nginx holds a stream back until it has some kilobytes, and a watcher takes silence for a lost connection.
  if (handler.method.methodKind !== "unary") res.setHeader("x-accel-buffering", "no");
  if (response.status === 405) res.setHeader("allow", handler.allowedMethods.join(", "));
  await universalResponseToNodeResponse(response, res);
}

function toUniversalRequest(req: IncomingMessage, res: ServerResponse) {
  try {
    return universalRequestFromNodeRequest(req, res, undefined, undefined);
  } catch {
    return undefined;
  }
}

/** What a request came over. */
function connectionOf(req: IncomingMessage): Socket | ServerHttp2Session {
  const { stream } = req as Partial<Pick<Http2ServerRequest, "stream">>;
  return (stream?.session as ServerHttp2Session | undefined) ?? req.socket;
}

/**
 * Cuts a response of which its reader takes nothing. The timer of a response starts anew with every write, and with every
 * part of one that was taken: when it is over, nothing was written because nothing is taken, or because there is nothing.
 */
function cutWhenUnread(res: ServerResponse, unreadMs: number): void {
  res.setTimeout(unreadMs, () => {
    const { stream, socket } = res as unknown as Partial<Http2ServerResponse>;
    if (stream !== undefined) {
      if (stream.writableLength > 0) stream.close(constants.NGHTTP2_CANCEL);
    } else if ((socket?.writableLength ?? 0) > 0) {
      socket?.destroy();
    }
  });
}

/**
 * Once a request is answered that was not read to its end, as one that is too large, lets go of the rest: the next one on its
 * connection comes behind it. Node does so itself only for a request that nobody has begun to read; over HTTP/2 it ends the
 * stream of such a one, and would not if its rest were read.
 */
function discardRest(req: IncomingMessage, res: ServerResponse): void {
  // A response of HTTP/2 has not finished before its stream is closed, at both ends.
  const { stream } = req as Partial<Pick<Http2ServerRequest, "stream">>;
  (stream ?? res).once("finish", () => {
    const isLeftToNode = req.readableEnded || stream?.readableFlowing === null;
    if (!isLeftToNode) req.removeAllListeners("readable").resume();
  });
}

/** Whether nobody can be answered any more. Node's responses of HTTP/2 have no `destroyed`. */
function isGone(res: ServerResponse): boolean {
  return res.destroyed || (res as Partial<Pick<Http2ServerResponse, "stream">>).stream?.closed === true;
}

/** Written like an error of connect, whose clients then show the message. */
function answerJson(res: ServerResponse, status: number, code: string, message: string): void {
  res.statusCode = status;
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify({ code, message }));
}

/**
 * How long a connection stays open in a drain that its caller was told will be kept, in milliseconds: a watcher whose stream
 * has just ended resumes on it at once, gets an answer that closes it, and goes elsewhere.
 */
const LINGER_MS = 1000;

/** Without this a connection that is kept alive would stay open until the end of the drain. */
function createCloser(server: Server, draining: AbortSignal): (res: ServerResponse) => void {
  let timer: NodeJS.Timeout | undefined;
  const closeIdle = (): void => server.closeIdleConnections();
  return (res) => {
    res.once("finish", () => {
      if (draining.aborted && res.shouldKeepAlive) {
        timer = timer?.refresh() ?? setTimeout(closeIdle, LINGER_MS).unref();
      }
    });
  };
}

function listen(server: Server, address: ListenAddress): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(listenError("HTTP", address, "HOLDFAST_HTTP_ADDR", error)));
    server.listen(address, () => resolve((server.address() as AddressInfo).port));
  });
}

function ignore(): void {}
