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
import type { ListenAddress } from "../config.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Door } from "./door.ts";
import { GrpcStreamCall, GrpcUnaryCall } from "./grpc-call.ts";
import { MAX_ARRIVAL_MS, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES } from "./limits.ts";
import { formatAddress, listenError } from "./listen-error.ts";
import { createReflection, type Reflection } from "./reflection.ts";
import { clientOptions, type TlsFiles } from "./tls-files.ts";

const SERVER_OPTIONS = {
  "grpc.max_receive_message_length": MAX_REQUEST_BYTES,
  "grpc.max_send_message_length": MAX_RESPONSE_BYTES,
  "grpc.max_concurrent_streams": 250,
  // A peer that does not answer a ping within 10 s is gone, and its streams with it.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.max_connection_idle_ms": 60_000,
  // Bookkeeping per call that nothing here shows to anybody.
  "grpc.enable_channelz": 0,
};

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
  /** Default MAX_ARRIVAL_MS. */
  readonly maxArrivalMs?: number | undefined;
  readonly logger: Logger;
}

/** Opens the door of gRPC callers: grpc-js serves three to four times the calls of connect's own gRPC. */
export function createGrpcDoor(options: GrpcDoorOptions): GrpcDoor {
  const { address, dispatcher, tls, reflection, maxArrivalMs = MAX_ARRIVAL_MS, logger } = options;
  sendLibraryLogTo(logger);
  const otherCalls = new Set<ServerInterceptingCall>();
  const server = new Server({
    ...SERVER_OPTIONS,
    interceptors: [createEntrance(dispatcher, otherCalls, maxArrivalMs)],
  });
  registerEndpoints(server, dispatcher);
  const health = new HealthImplementation();
  health.addToServer(server);
  if (reflection) {
    registerReflection(server, createReflection([...dispatcher.services, Health]));
  }
  let boundAddress: string | undefined;

  function setServing(serving: boolean): void {
    for (const name of ["", ...dispatcher.services.map(({ typeName }) => typeName)]) {
      health.setStatus(name, serving ? "SERVING" : "NOT_SERVING");
    }
  }

  setServing(false);
  return {
    listen: async () => {
      const port = await bind(server, address, tls);
      boundAddress = formatAddress({ ...address, port });
      return port;
    },
    setServing,
    drain: async (graceMs) => {
      setServing(false);
      dispatcher.beginDrain();
      for (const call of otherCalls) {
        call.sendStatus({ code: status.OK, details: "OK" });
      }
      if (boundAddress !== undefined) {
        // First: it cuts only sessions that were open when it was called. forceShutdown cuts none without channelz.
        server.drain(boundAddress, graceMs);
      }
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
    },
  };
}

/**
 * Leads every call to its endpoint before grpc-js makes a Writable for it, which it does even for unary calls. Calls of
 * other services go on to their handlers; they are kept in mind, because health watches never end by themselves.
 */
function createEntrance(
  dispatcher: Dispatcher,
  otherCalls: Set<ServerInterceptingCall>,
  maxArrivalMs: number,
): ServerInterceptor {
  return ({ path, responseStream }, transport) => {
    const endpoint = dispatcher.endpoints.get(path);
    if (endpoint === undefined) {
      const call: ServerInterceptingCall = new ServerInterceptingCall(transport, {
        start: (next) => {
          otherCalls.add(call);
          next({ onCancel: () => otherCalls.delete(call) });
        },
      });
      return call;
    }
    const call = responseStream
      ? new GrpcStreamCall(endpoint, dispatcher, transport, maxArrivalMs)
      : new GrpcUnaryCall(endpoint, dispatcher, transport);
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
  constructor(files: TlsFiles) {
    super(clientOptions(files), files.current);
    files.onChange((material) => this.updateSecureContextOptions(material));
  }

  _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function bind(server: Server, address: ListenAddress, tls: TlsFiles | undefined): Promise<number> {
  const credentials = tls === undefined ? ServerCredentials.createInsecure() : new ReloadedCredentials(tls);
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
