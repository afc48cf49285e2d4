import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import type { Http2ServerResponse } from "node:http2";
import type { AddressInfo } from "node:net";
import { createConnectRouter } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Logger } from "pino";
import type { ListenAddress } from "../config.ts";
import { createCorsPolicy } from "./cors.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Door } from "./door.ts";
import { createServiceImpl } from "./http-call.ts";
import { MAX_ARRIVAL_MS, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES } from "./limits.ts";
import { listenError } from "./listen-error.ts";
import { COMPRESSIONS, handle, JSON_OPTIONS } from "./malformed-request.ts";
import { createProbes, type Readiness } from "./probes.ts";
import { peerCertificateOf, type TlsFiles } from "./tls-files.ts";
import { createTlsServer } from "./tls-server.ts";

/** How long the headers of a request may take to arrive, in milliseconds. */
const MAX_HEADERS_ARRIVAL_MS = 10_000;

const SERVER_OPTIONS = {
  maxHeaderSize: 16 * 1024,
  keepAliveTimeout: 65_000,
  // A peer that is gone is found out even when a stream to it has nothing to say.
  keepAlive: true,
  keepAliveInitialDelay: 30_000,
};

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
  /** Default MAX_ARRIVAL_MS. */
  readonly maxArrivalMs?: number | undefined;
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

/** Opens the door for Connect, gRPC-Web and JSON over HTTP/1.1, under TLS over HTTP/2 too, and for probes. */
export function createHttpDoor(options: HttpDoorOptions): HttpDoor {
  const { address, dispatcher, tls, corsOrigins, isReady, maxArrivalMs = MAX_ARRIVAL_MS, logger } = options;
  const serverOptions = {
    ...SERVER_OPTIONS,
    headersTimeout: Math.min(MAX_HEADERS_ARRIVAL_MS, maxArrivalMs),
    requestTimeout: maxArrivalMs,
  };
  const handlers = createHandlers(dispatcher);
  const applyCors = createCorsPolicy(corsOrigins);
  const { draining } = dispatcher;
  let hasLeft = false;
  const answerProbe = createProbes(() => (hasLeft || draining.aborted ? "draining" : isReady()));
  const listener: RequestListener = (req, res) => {
    if (hasLeft || draining.aborted) res.shouldKeepAlive = false;
    closeWhenDrained(res);
    const path = req.url?.split("?", 1)[0] ?? "";
    if (applyCors(req, res) || answerProbe(path, req, res)) {
      return;
    }
    const handler = handlers.get(path);
    if (handler === undefined) {
      answerJson(res, 404, "unimplemented", "there is nothing at this path");
      return;
    }
    serve(handler, req, res).catch((error: unknown) => {
      // Else the caller left while it was being answered.
      if (!isGone(res)) {
        logger.error({ err: error, rpc: path }, "a call could not be answered");
        res.destroy();
      }
    });
  };
  const overTls = tls === undefined ? undefined : createTlsServer(serverOptions, tls, listener);
  const server = overTls?.server ?? createServer(serverOptions, listener);
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
      const cut = setTimeout(() => {
        server.closeAllConnections();
        overTls?.destroyHttp2();
      }, graceMs);
      await closed;
      clearTimeout(cut);
    },
  };
}

function createHandlers(dispatcher: Dispatcher): Map<string, UniversalHandler> {
  const router = createConnectRouter({
    // gRPC proper has its own door.
    grpc: false,
    jsonOptions: JSON_OPTIONS,
    acceptCompression: COMPRESSIONS,
    readMaxBytes: MAX_REQUEST_BYTES,
    writeMaxBytes: MAX_RESPONSE_BYTES,
  });
  for (const service of dispatcher.services) {
    router.service(service, createServiceImpl(service, dispatcher));
  }
  return new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
}

async function serve(handler: UniversalHandler, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const request = toUniversalRequest(req, res);
  if (request === undefined) {
    answerJson(res, 400, "invalid_argument", "the request names no valid host");
    return;
  }
  await universalResponseToNodeResponse(await handle(handler, request, peerCertificateOf(req.socket)), res);
}

function toUniversalRequest(req: IncomingMessage, res: ServerResponse) {
  try {
    return universalRequestFromNodeRequest(req, res, undefined, undefined);
  } catch {
    return undefined;
  }
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
        timer = timer?.refresh() ?? setTimeout(closeIdle, LINGER_MS);
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
