import { once } from "node:events";
import { constants, type Http2Server, type Http2Session, type ServerOptions } from "node:http2";
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  ServerInterceptingCall,
  type ServerInterceptor,
  setLogger,
  status,
} from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import type { Logger } from "pino";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import type { DoorLimits, ListenAddress } from "../config.ts";
import { createAges } from "./ages.ts";
import { type Connections, trackConnections } from "./connections.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Door } from "./door.ts";
import { type GrpcCallDeps, GrpcStreamCall, GrpcUnaryCall, streamOf } from "./grpc-call.ts";
import { expectSettings, http2Options } from "./http2-session.ts";
import { letGoOfStreams } from "./let-go-of-streams.ts";
import { formatAddress, listenError } from "./listen-error.ts";
import { createReaders } from "./readers.ts";
import { createReflection, type Reflection } from "./reflection.ts";
import { createRefusalPace } from "./refusal-pace.ts";
import { shortenTimeout } from "./shorten-timeout.ts";
import { clientOptions, type TlsFiles } from "./tls-files.ts";

/** What grpc-js keeps to itself, and has no options for. Without these the tests of abuse fail. */
interface Inside {
  /** Passed on to Node's http2. */
  readonly commonServerOptions: ServerOptions;
  readonly http2Servers: ReadonlyMap<Http2Server, unknown>;
}

/** The door for gRPC, with health and reflection. */
export interface GrpcDoor extends Door {
  /** What the health service answers, overall and for every service. Not serving until told. */
  setServing(serving: boolean): void;
}

/** What the gRPC door needs. */
export interface GrpcDoorOptions {
  readonly address: ListenAddress;
  readonly dispatcher: Dispatcher;
  /** Undefined: without TLS. */
  readonly tls?: TlsFiles | undefined;
  /** True: anybody who can connect can read the descriptors. */
  readonly reflection: boolean;
  readonly limits: DoorLimits;
  readonly logger: Logger;
}

/** Opens the door of gRPC callers: grpc-js serves three to four times the calls of connect's own gRPC. */
export function createGrpcDoor(options: GrpcDoorOptions): GrpcDoor {
  const { address, dispatcher, tls, reflection, limits, logger } = options;
  sendLibraryLogTo(logger);
  const otherCalls = new Set<ServerInterceptingCall>();
  const ages = createAges<Http2Session>({
    ...limits,
    close: (session) => session.close(),
    destroy: (session) => session.destroy(),
  });
  const refusalPace = createRefusalPace();
  const deps = { dispatcher, readers: createReaders(limits.unreadMs), refusalPace, endingOf: ages.endingOf, limits };
  const server = openServer(limits, createEntrance(deps, otherCalls));
  const { http2Servers } = server as unknown as Inside;
  let connections: readonly Connections[] = [];
  registerEndpoints(server, dispatcher);
  const health = new HealthImplementation();
  health.addToServer(server);
  if (reflection) {
    registerReflection(server, createReflection([...dispatcher.services, Health]));
  }
  function setServing(serving: boolean): void {
    for (const name of ["", ...dispatcher.services.map(({ typeName }) => typeName)]) {
      health.setStatus(name, serving ? "SERVING" : "NOT_SERVING");
    }
  }

  setServing(false);
  return {
    listen: async () => {
      const port = await bind(server, address, limits, tls);
      connections = [...http2Servers.keys()].map((each) => trackConnections(each, limits));
      for (const each of http2Servers.keys()) {
        each.prependListener("stream", (_stream, headers) => shortenTimeout(headers));
        each.on("session", (session) => {
          letGoOfStreams(session);
          expectSettings(session, limits.handshakeMs);
          ages.begin(session);
        });
      }
      return port;
    },
    setServing,
    drain: async (graceMs) => {
      setServing(false);
      dispatcher.beginDrain();
      refusalPace.end();
      for (const call of otherCalls) {
        call.sendStatus({ code: status.OK, details: "OK" });
      }
      // Not by grpc-js: its shutdown never ends when a session was being destroyed as it began, and neither its drain nor its
      // forceShutdown cuts one that is closing and waits for its peer.
      const closed = Promise.all([...http2Servers.keys()].map((each) => once(each, "close")));
      server.tryShutdown(() => undefined);
      const cut = setTimeout(() => connections.forEach((each) => void each.destroy()), graceMs);
      await closed;
      clearTimeout(cut);
    },
  };
}

function openServer(limits: DoorLimits, entrance: ServerInterceptor): Server {
  const server = new Server({
    "grpc.max_receive_message_length": limits.requestBytes,
    "grpc.max_send_message_length": limits.responseBytes,
    // A peer that does not answer a ping is gone, and its streams with it.
    "grpc.keepalive_time_ms": limits.pingMs,
    "grpc.keepalive_timeout_ms": limits.pingTimeoutMs,
    "grpc.max_connection_idle_ms": limits.idleMs,
    // Bookkeeping per call that nothing here shows to anybody.
    "grpc.enable_channelz": 0,
    interceptors: [entrance],
  });
  Object.assign((server as unknown as Inside).commonServerOptions, http2Options(limits));
  return server;
}

/**
 * Leads every call to its endpoint before grpc-js makes a Writable for it, which it does even for unary calls. Calls of
 * other services go on to their handlers; they are kept in mind, because health watches never end by themselves.
 */
function createEntrance(deps: GrpcCallDeps, otherCalls: Set<ServerInterceptingCall>): ServerInterceptor {
  return ({ path, requestStream, responseStream }, transport) => {
    const endpoint = deps.dispatcher.endpoints.get(path);
    if (endpoint === undefined) {
      const call: ServerInterceptingCall = new ServerInterceptingCall(transport, {
        start: (next) => {
          otherCalls.add(call);
          let hasArrived = false;
          const giveUp = () => streamOf(transport)?.close(constants.NGHTTP2_CANCEL);
          let arrival = setTimeout(giveUp, deps.limits.arrivalMs).unref();
          next({
            onReceiveMessage: (message, pass) => {
              if (requestStream) {
                clearTimeout(arrival); // who asks reflection may ask more, whenever it likes
              }
              pass(message);
            },
            onReceiveHalfClose: (pass) => {
              hasArrived = true;
              clearTimeout(arrival);
              pass();
            },
            onCancel: () => {
              otherCalls.delete(call);
              clearTimeout(arrival);
              if (!hasArrived && streamOf(transport)?.closed === false) {
                // Answered, as at its deadline: the peer has to end it too. At once, the answer might be lost.
                arrival = setTimeout(giveUp, deps.limits.arrivalMs).unref();
              }
            },
          });
        },
      });
      return call;
    }
    const call = responseStream
      ? new GrpcStreamCall(endpoint, deps, transport)
      : new GrpcUnaryCall(endpoint, deps, transport);
    // Never calling next leaves the registered handler out.
    return new ServerInterceptingCall(transport, { start: () => call.start() });
  };
}

function registerEndpoints(server: Server, { endpoints }: Dispatcher): void {
  for (const { path, method } of endpoints.values()) {
    const type = method.methodKind === "unary" ? "unary" : "serverStream";
    server.register(path, unreachable, keepBytes, keepBytes, type);
  }
}

function registerReflection(server: Server, { paths, answer }: Reflection): void {
  const handle = (call: ServerDuplexStream<Buffer, Buffer>): void => {
    call.on("data", (request) => {
      try {
        call.write(Buffer.from(answer(request)));
      } catch {
        const details = "the request is not a serialised ServerReflectionRequest";
        call.emit("error", { code: status.INVALID_ARGUMENT, details });
      }
    });
    call.on("end", () => call.end());
  };
  for (const path of paths) {
    server.register(path, handle, keepBytes, keepBytes, "bidi");
  }
}

/** grpc-js' own credentials cannot change; those that can be got from its experimental part watch files with a timer of their own. */
class ReloadedCredentials extends ServerCredentials {
  constructor(files: TlsFiles, handshakeMs: number) {
    super({ ...clientOptions(files), handshakeTimeout: handshakeMs }, files.current);
    files.onChange((material) => this.updateSecureContextOptions(material));
  }

  _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function bind(
  server: Server,
  address: ListenAddress,
  { handshakeMs }: DoorLimits,
  tls: TlsFiles | undefined,
): Promise<number> {
  const credentials =
    tls === undefined ? ServerCredentials.createInsecure() : new ReloadedCredentials(tls, handshakeMs);
  return new Promise((resolve, reject) => {
    server.bindAsync(formatAddress(address), credentials, (error, port) => {
      if (error === null) {
        resolve(port);
      } else {
        reject(listenError("gRPC", address, "HOLDFAST_GRPC_ADDR", error));
      }
    });
  });
}

/** grpc-js writes to the console, also what it throws as well. */
function sendLibraryLogTo(logger: Logger): void {
  const debug = (...parts: unknown[]): void => logger.debug(parts.map(String).join(" "));
  setLogger({ error: debug, info: debug, debug });
}

function keepBytes(bytes: Buffer): Buffer {
  return bytes;
}

function unreachable(): never {
  throw new Error("calls of the endpoints never reach their registered handlers");
}
