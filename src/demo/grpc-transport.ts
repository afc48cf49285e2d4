import type { DescMethodStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type Code, ConnectError, type StreamResponse, type Transport, type UnaryResponse } from "@connectrpc/connect";
import { Client, type ClientReadableStream, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";

/** What a transport needs. */
export interface GrpcTransportOptions {
  /** `host:port` of a gRPC door without TLS. */
  readonly target: string;
  /** HTTP/2 connections; calls take turns on them. */
  readonly connectionCount: number;
  /** Cancels all calls; one for the whole transport, because a listener per call costs as much as parsing its answer. */
  readonly signal?: AbortSignal;
}

/** A transport for `createClient` that can be closed. */
export interface GrpcTransport extends Transport {
  /** Resolves when the server answers on the first connection; rejects after `timeoutMs`. */
  waitForReady(timeoutMs: number): Promise<void>;
  close(): void;
}

const clientOptions = {
  // Without it all clients of one address share one connection.
  "grpc.use_local_subchannel_pool": 1,
  // Unknown outcomes are for the caller to repeat, with its request id.
  "grpc.enable_retries": 0,
  "grpc.enable_channelz": 0,
};

const noHeaders = new Headers();

/**
 * Carries generated clients over grpc-js. With 256 calls in flight on 8 connections an order costs its caller half the CPU
 * time of connect's own gRPC transport (measured 2026-11: 117 against 256 us on a busy machine).
 */
export function createGrpcTransport({ target, connectionCount, signal }: GrpcTransportOptions): GrpcTransport {
  const clients = Array.from(
    { length: connectionCount },
    () => new Client(target, credentials.createInsecure(), clientOptions),
  );
  const calls = new Set<Cancellable>();
  let turn = 0;
  const next = (): Client => {
    turn = (turn + 1) % clients.length;
    return clients[turn] as Client;
  };
  signal?.addEventListener("abort", () => {
    for (const call of calls) {
      call.cancel();
    }
  });
  return {
    unary: (method, _signal, timeoutMs, _header, input) => callUnary(next(), calls, method, timeoutMs, input),
    stream: (method, ownSignal, timeoutMs, _header, input) =>
      callStream(next(), calls, method, ownSignal, timeoutMs, input),
    waitForReady: (timeoutMs) =>
      new Promise((resolve, reject) => {
        next().waitForReady(Date.now() + timeoutMs, (error) => (error === undefined ? resolve() : reject(error)));
      }),
    close: () => {
      for (const client of clients) {
        client.close();
      }
    },
  };
}

interface Cancellable {
  cancel(): void;
}

function callUnary<I extends DescMessage, O extends DescMessage>(
  client: Client,
  calls: Set<Cancellable>,
  method: DescMethodUnary<I, O>,
  timeoutMs: number | undefined,
  input: MessageInitShape<I>,
): Promise<UnaryResponse<I, O>> {
  const shared = { stream: false, service: method.parent, method, header: noHeaders, trailer: noHeaders } as const;
  return new Promise((resolve, reject) => {
    const call = client.makeUnaryRequest(
      pathOf(method),
      serialiserOf(method.input),
      parserOf(method.output),
      create(method.input, input),
      new Metadata(),
      callOptions(timeoutMs),
      (error, message) => {
        calls.delete(call);
        if (error === null) {
          resolve({ ...shared, message: message as MessageShape<O> });
        } else {
          reject(toConnectError(error));
        }
      },
    );
    calls.add(call);
  });
}

async function callStream<I extends DescMessage, O extends DescMessage>(
  client: Client,
  calls: Set<Cancellable>,
  method: DescMethodStreaming<I, O>,
  signal: AbortSignal | undefined,
  timeoutMs: number | undefined,
  input: AsyncIterable<MessageInitShape<I>>,
): Promise<StreamResponse<I, O>> {
  const request = await firstOf(input);
  const call = client.makeServerStreamRequest(
    pathOf(method),
    serialiserOf(method.input),
    parserOf(method.output),
    create(method.input, request),
    new Metadata(),
    callOptions(timeoutMs),
  );
  calls.add(call);
  signal?.addEventListener("abort", () => call.cancel(), { once: true });
  const shared = { stream: true, service: method.parent, method, header: noHeaders, trailer: noHeaders } as const;
  return { ...shared, message: responsesOf<O>(call, calls) };
}

async function* responsesOf<O extends DescMessage>(
  call: ClientReadableStream<MessageShape<O>>,
  calls: Set<Cancellable>,
): AsyncGenerator<MessageShape<O>> {
  try {
    yield* call as AsyncIterable<MessageShape<O>>;
  } catch (error) {
    throw toConnectError(error as ServiceError);
  } finally {
    calls.delete(call);
    call.cancel();
  }
}

async function firstOf<T>(messages: AsyncIterable<T>): Promise<T> {
  for await (const message of messages) {
    return message;
  }
  throw new Error("a server stream needs a request");
}

function pathOf({ parent, name }: DescMethodUnary | DescMethodStreaming): string {
  return `/${parent.typeName}/${name}`;
}

function serialiserOf<D extends DescMessage>(desc: D): (message: MessageShape<D>) => Buffer {
  return (message) => {
    const { buffer, byteOffset, byteLength } = toBinary(desc, message);
    return Buffer.from(buffer, byteOffset, byteLength);
  };
}

function parserOf<D extends DescMessage>(desc: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(desc, bytes);
}

function callOptions(timeoutMs: number | undefined): { deadline?: number } {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

/** With the details, so that `findDetails` works as with connect's own transports. */
function toConnectError(error: ServiceError): ConnectError {
  const failure = new ConnectError(error.details, error.code as number as Code, undefined, undefined, error);
  const [status] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (status instanceof Buffer) {
    failure.details = fromBinary(StatusSchema, status).details.map(({ typeUrl, value }) => ({
      type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
      value,
    }));
  }
  return failure;
}
