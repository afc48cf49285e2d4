import { getEventListeners, once } from "node:events";
import { constants, createServer as createHttp2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { setImmediate } from "node:timers/promises";
import { runInNewContext } from "node:vm";
import { toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Metadata, Server, ServerCredentials, type ServerUnaryCall, type ServerWritableStream } from "@grpc/grpc-js";
import { expect, it, onTestFinished } from "vitest";
import { EventService, WatchEventsResponseSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { createGrpcTransport, createHoldfastClient, type GrpcTransportOptions } from "../../src/client/index.ts";
import { isUndecided } from "../../src/client/refusals.ts";
import { bookmark } from "../server/open-doors.ts";

const keep = (bytes: Buffer): Buffer => bytes;
const entry = (path: string, responseStream: boolean) => ({
  path,
  requestStream: false,
  responseStream,
  requestSerialize: keep,
  requestDeserialize: keep,
  responseSerialize: keep,
  responseDeserialize: keep,
});

/**
 * A bare gRPC server: GetStock fails with the given bytes where details belong, WatchEvents sends a bookmark and ends. It
 * notes who asked.
 */
async function openServer(details = Buffer.alloc(0)) {
  const asked: string[] = [];
  const note = ({ metadata }: { readonly metadata: Metadata }): void =>
    void asked.push(metadata.get("authorization").join());
  const server = new Server();
  server.addService(
    {
      get: entry("/holdfast.v1.InventoryService/GetStock", false),
      watch: entry("/holdfast.v1.EventService/WatchEvents", true),
    },
    {
      get: (call: ServerUnaryCall<Buffer, Buffer>, answer: (error: object) => void) => {
        note(call);
        const metadata = new Metadata();
        metadata.set("grpc-status-details-bin", details);
        answer({ code: Code.NotFound, details: "there is no such product", metadata });
      },
      watch: (call: ServerWritableStream<Buffer, Buffer>) => {
        note(call);
        call.write(Buffer.from(toBinary(WatchEventsResponseSchema, bookmark(1))));
        call.end();
      },
    },
  );
  onTestFinished(() => server.forceShutdown());
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, free) =>
      error ? reject(error) : resolve(free),
    );
  });
  return { asked, target: `127.0.0.1:${port}` };
}

function openTransport(options: GrpcTransportOptions) {
  const transport = createGrpcTransport(options);
  onTestFinished(() => transport.close());
  return transport;
}

async function allOf<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of messages) all.push(message);
  return all;
}

it("details that are no google.rpc.Status are left out; code and message stay", async () => {
  const { target } = await openServer(Buffer.from([0x0a, 0x7f, 0x01]));
  const { getStock } = createClient(InventoryService, openTransport({ target }));
  const error = await getStock({ sku: "ps5" }).catch((reason: unknown) => reason);

  expect(error).toBeInstanceOf(ConnectError);
  expect(error).toMatchObject({ code: Code.NotFound, rawMessage: "there is no such product", details: [] });
});

it("headers of the transport go with every call and every watch, asked for each time", async () => {
  const { asked, target } = await openServer();
  let count = 0;
  const headers = async () => {
    count += 1;
    return { authorization: `Bearer ${count}` };
  };
  const transport = openTransport({ target, headers });
  const { getStock } = createClient(InventoryService, transport);
  await getStock({}).catch(() => undefined);
  await getStock({}, { headers: { authorization: "Bearer own" } }).catch(() => undefined);
  for await (const _ of createClient(EventService, transport).watchEvents({})) void _;
  // The server ends this one after each message: the second is of a watch that was resumed.
  let messageCount = 0;
  for await (const _ of createHoldfastClient({ transport, firstPauseMs: 1 }).watch({})) {
    messageCount += 1;
    if (messageCount === 2) break;
  }

  expect(asked).toEqual(["Bearer 1", "Bearer own", "Bearer 3", "Bearer 4", "Bearer 5"]);
});

it("a call whose headers cannot be had fails, unsent", async () => {
  const { asked, target } = await openServer();
  const headers = () => Promise.reject(new Error("no token"));
  const { getStock } = createClient(InventoryService, openTransport({ target, headers }));

  await expect(getStock({})).rejects.toThrow("no token");
  expect(asked).toEqual([]);
});

it("a call waits for its headers no longer than it may take, and a watch no longer than it is wanted", async () => {
  const { asked, target } = await openServer();
  const transport = openTransport({ target, headers: () => new Promise<never>(() => {}) });
  const { inventory, watch } = createHoldfastClient({ transport, maxAttempts: 2, firstPauseMs: 1 });
  const stop = new AbortController();
  const watching = watch({}, { signal: stop.signal }).next();
  const deadline = inventory.getStock({}, { timeoutMs: 50 });
  await expect(deadline).rejects.toMatchObject({ code: Code.DeadlineExceeded });
  const aborted = inventory.getStock({}, { signal: AbortSignal.timeout(50) });
  await expect(aborted).rejects.toMatchObject({ code: Code.Canceled });
  stop.abort(new Error("enough"));
  await expect(watching).rejects.toThrow("enough");
  expect(asked).toEqual([]);
});

it.each([
  ["of another realm", () => runInNewContext('Promise.resolve({ authorization: "Bearer 1" })')],
  // biome-ignore lint/suspicious/noThenProperty: this is what such a library makes
  ["of a library", () => ({ then: (resolve: (headers: object) => void) => resolve({ authorization: "Bearer 1" }) })],
])("waits for headers whose promise is %s", async (_name, headers) => {
  const { asked, target } = await openServer();
  const call = createClient(InventoryService, openTransport({ target, headers: headers as never })).getStock({});
  await expect(call).rejects.toMatchObject({ code: Code.NotFound });
  expect(asked).toEqual(["Bearer 1"]);
});

it("headers that cannot be had for a call that is aborted already do not end the process", async () => {
  const unhandled: unknown[] = [];
  const listener = (error: unknown) => unhandled.push(error);
  process.on("unhandledRejection", listener);
  onTestFinished(() => void process.off("unhandledRejection", listener));
  const headers = () => Promise.reject(new Error("no token"));
  const { getStock } = createClient(InventoryService, openTransport({ target: "127.0.0.1:1", headers }));
  await expect(getStock({}, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: Code.Canceled });
  await setImmediate();
  expect(unhandled).toEqual([]);
});

it("a timeout of 0 is none, as with connect's own transports", async () => {
  const { target } = await openServer();
  const transport = openTransport({ target });
  const call = createClient(InventoryService, transport).getStock({}, { timeoutMs: 0 });
  await expect(call).rejects.toMatchObject({ code: Code.NotFound });
  const watch = createClient(EventService, transport).watchEvents({}, { timeoutMs: 0 });
  expect(await allOf(watch)).toHaveLength(1);
});

it("a transport whose signal is aborted makes no more calls", async () => {
  const { asked, target } = await openServer();
  const stop = new AbortController();
  const transport = openTransport({ target, signal: stop.signal });
  stop.abort();
  await expect(createClient(InventoryService, transport).getStock({})).rejects.toMatchObject({ code: Code.Canceled });
  const watch = createClient(EventService, openTransport({ target, signal: stop.signal })).watchEvents({});
  await expect(allOf(watch)).rejects.toMatchObject({ code: Code.Canceled });
  expect(asked).toEqual([]);
});

it("a transport that is closed leaves its signal alone", () => {
  const { signal } = new AbortController();
  createGrpcTransport({ target: "127.0.0.1:1", signal }).close();
  expect(getEventListeners(signal, "abort")).toEqual([]);
});

it("a watch that is left is not kept", async () => {
  const { target } = await openServer();
  const { signal } = new AbortController();
  const transport = openTransport({ target, signal });
  for await (const _ of createHoldfastClient({ transport }).watch({})) break;
  const listeners = () => {
    transport.close();
    return getEventListeners(signal, "abort");
  };
  // The signal is left alone when the transport is closed and has no calls any more.
  await expect.poll(listeners).toEqual([]);
});

it("calls a stream that the server has not looked at unavailable, which may be repeated", async () => {
  const server = createHttp2Server();
  server.on("stream", (stream) => {
    stream.on("error", () => undefined);
    stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  onTestFinished(() => void server.close());
  const transport = openTransport({ target: `127.0.0.1:${(server.address() as AddressInfo).port}` });
  const { inventory } = createHoldfastClient({ transport, maxAttempts: 1 });
  const error = await inventory.getStock({ sku: "a" }).catch(ConnectError.from);
  expect(error).toMatchObject({ code: Code.Unavailable });
  expect(isUndecided(error)).toBe(true);
});
