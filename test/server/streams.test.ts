import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import type { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { describe, expect, onTestFinished, test } from "vitest";
import { WatchEventsResponseSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { createClients, errorOf, PROTOCOLS, readAll, summaryOf } from "./clients.ts";
import { aborted, bookmark, openDoors, openGrpcClient } from "./open-doors.ts";

const WATCH_EVENTS = "/holdfast.v1.EventService/WatchEvents";

/** A stream that sends one message, then waits for the end of its call; tells how it ended. */
function createWaitingStream() {
  const { promise: returned, resolve: finish } = Promise.withResolvers<string>();
  async function* watchEvents(_req: unknown, ctx: { readonly signal: AbortSignal; readonly draining: AbortSignal }) {
    try {
      yield bookmark(1);
      await Promise.race([aborted(ctx.signal), aborted(ctx.draining)]);
      if (ctx.draining.aborted) {
        yield bookmark(2);
      }
    } finally {
      finish(ctx.draining.aborted ? "draining" : "cancelled");
    }
  }
  return { watchEvents, returned };
}

describe.each(PROTOCOLS)("by %s", (protocol) => {
  test("messages come in order, and the end is OK", async () => {
    const { events } = createClients(protocol, await openDoors({}));
    const messages = await readAll(events.watchEvents({}));

    expect(messages.map(({ message }) => message.value)).toMatchObject([
      { position: 1n },
      { position: 2n },
      { position: 3n },
    ]);
  });

  test("a caller that goes away ends the handler, also while it waits", async () => {
    const { watchEvents, returned } = createWaitingStream();
    const doors = await openDoors({ watchEvents });
    const abort = new AbortController();
    const reading = (async () => {
      for await (const _message of createClients(protocol, doors).events.watchEvents({}, { signal: abort.signal })) {
        abort.abort();
      }
    })();

    expect(summaryOf(await errorOf(reading))).toBe("Canceled");
    expect(await returned).toBe("cancelled");
    expect(doors.logged).toEqual([]);
  });

  test("a drain ends a stream with OK after its last message", async () => {
    const { watchEvents, returned } = createWaitingStream();
    const doors = await openDoors({ watchEvents });
    const door = protocol === "gRPC" ? doors.grpcDoor : doors.httpDoor;
    let drained: Promise<void> | undefined;
    const positions: (bigint | undefined)[] = [];
    for await (const { message } of createClients(protocol, doors).events.watchEvents({})) {
      positions.push(message.case === "bookmark" ? message.value.position : undefined);
      drained ??= door.drain(10_000);
    }
    const beganMs = Date.now();
    await drained;

    expect([positions, await returned]).toEqual([[1n, 2n], "draining"]);
    expect(Date.now() - beganMs).toBeLessThan(5000);
  });
});

/** 20 MB in messages of 10 kB; counts how many the handler was asked for. */
function createLargeStream() {
  const counts = { asked: 0 };
  const message = create(WatchEventsResponseSchema, {
    message: { case: "bookmark", value: { commitId: "x".repeat(10_000) } },
  });
  async function* watchEvents() {
    for (; counts.asked < 2000; counts.asked += 1) {
      yield message;
    }
  }
  return { watchEvents, counts };
}

/** Resolves when a count has stopped to grow. */
async function untilStill(count: () => number): Promise<void> {
  for (let before = -1; before !== count(); ) {
    before = count();
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Reads to the end; gives the number of bytes. */
async function countBytes(reader: Readable): Promise<number> {
  let byteCount = 0;
  for await (const chunk of reader) {
    byteCount += (chunk as Buffer).byteLength;
  }
  return byteCount;
}

test("over gRPC a slow reader stops the handler at 64 KiB, and loses nothing", async () => {
  const { watchEvents, counts } = createLargeStream();
  const doors = await openDoors({ watchEvents });
  const session = connectHttp2(doors.grpcUrl);
  onTestFinished(() => session.destroy());
  const request = session.request({
    ":method": "POST",
    ":path": WATCH_EVENTS,
    "content-type": "application/grpc",
    te: "trailers",
  });
  request.end(Buffer.alloc(5));
  await once(request, "response");
  await untilStill(() => counts.asked);

  // 64 KiB and what is on its way: windows of 64 KiB and a message.
  expect(counts.asked).toBeGreaterThan(6);
  expect(counts.asked).toBeLessThan(30);
  expect(await countBytes(request)).toBeGreaterThan(2000 * 10_000);
});

test("over HTTP a slow reader stops the handler when the socket is full, and loses nothing", async () => {
  const { watchEvents, counts } = createLargeStream();
  const doors = await openDoors({ watchEvents });
  const socket = connectTcp(doors.httpPort, "127.0.0.1");
  const head = `POST ${WATCH_EVENTS} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n`;
  socket.write(`${head}content-type: application/connect+proto\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0`);
  await untilStill(() => counts.asked);

  expect(counts.asked).toBeGreaterThan(0);
  expect(counts.asked).toBeLessThan(1500);
  expect(await countBytes(socket)).toBeGreaterThan(2000 * 10_000);
});

test("a caller that leaves in the middle of a write is no fault", async () => {
  const { watchEvents, counts } = createLargeStream();
  const doors = await openDoors({ watchEvents });
  const socket = connectTcp(doors.httpPort, "127.0.0.1");
  const head = `POST ${WATCH_EVENTS} HTTP/1.1\r\nhost: localhost\r\n`;
  socket.write(`${head}content-type: application/connect+proto\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0`);
  await untilStill(() => counts.asked);
  socket.resetAndDestroy();
  await doors.httpDoor.drain(5000);

  expect(doors.logged).toEqual([]);
});

test("a gRPC stream is established before its first message", async () => {
  const doors = await openDoors({
    async *watchEvents(_req, ctx) {
      await aborted(ctx.signal);
      yield bookmark(1);
    },
  });
  const keep = (value: Buffer): Buffer => value;
  const call = openGrpcClient(doors.grpcAddress).makeServerStreamRequest(WATCH_EVENTS, keep, keep, Buffer.alloc(0));
  call.on("error", () => undefined);
  await new Promise((resolve) => call.once("metadata", resolve));
  call.cancel();
});

test("over gRPC a request of a stream that does not arrive in time ends the call, and one that has arrived does not", async () => {
  const { promise: stalledEnd, resolve: end } = Promise.withResolvers<void>();
  const doors = await openDoors(
    {
      async *watchEvents() {
        await stalledEnd;
        yield bookmark(1);
      },
    },
    { limits: { arrivalMs: 200 } },
  );
  const client = openGrpcClient(doors.grpcAddress);
  const keep = (value: Buffer): Buffer => value;
  const arrived = client.makeServerStreamRequest(WATCH_EVENTS, keep, keep, Buffer.alloc(0));
  const stalled = client.makeBidiStreamRequest(WATCH_EVENTS, keep, keep);
  stalled.on("error", () => undefined).resume();
  stalled.write(Buffer.alloc(0));
  const code = await new Promise((resolve) => stalled.on("status", (status) => resolve(status.code)));
  end();

  expect(code).toBe(4);
  expect(await readAll(arrived)).toHaveLength(1);
});

const [unary, health, reflection] = [
  "/holdfast.v1.InventoryService/GetStock",
  "/grpc.health.v1.Health/Check",
  "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];
const deadline = { "grpc-timeout": "100m" };
const halfMessage = [0, 0, 0, 0, 50, 1];
const wholeMessage = [0, 0, 0, 0, 0];

test.each([
  ["half a request of a unary call", unary, deadline, halfMessage, 0],
  ["half a request of health", health, {}, halfMessage, 8],
  ["half a request of health with a deadline", health, deadline, halfMessage, 8],
  ["a request of health whose end never comes", health, {}, wholeMessage, 8],
  ["a request of health whose end never comes, with a deadline,", health, deadline, wholeMessage, 8],
  ["half a request of reflection", reflection, {}, halfMessage, 8],
  ["a malformed request of reflection whose end never comes", reflection, {}, [0, 0, 0, 0, 1, 255], 8],
])("over gRPC %s holds no stream", async (_, path, headers, bytes, rstCode) => {
  const doors = await openDoors({}, { limits: { arrivalMs: 200 } });
  const session = connectHttp2(`http://${doors.grpcAddress}`);
  onTestFinished(() => session.close());
  const stream = session.request(
    { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers", ...headers },
    { endStream: false },
  );
  stream.on("error", () => undefined).resume();
  stream.write(Buffer.from(bytes));
  await once(stream, "close");
  expect(stream.rstCode).toBe(rstCode);
});

test("over gRPC reflection is asked again also when its last answer was a while ago", async () => {
  const doors = await openDoors({}, { limits: { arrivalMs: 200 } });
  const keep = (value: Buffer): Buffer => value;
  const call = openGrpcClient(doors.grpcAddress).makeBidiStreamRequest(reflection, keep, keep);
  const listServices = Buffer.from([0x3a, 0]);
  call.write(listServices);
  const first = await once(call, "data");
  await new Promise((resolve) => setTimeout(resolve, 500));
  call.write(listServices);
  expect(await once(call, "data")).toEqual(first);
  const ended = once(call, "status");
  call.end();
  expect(await ended).toMatchObject([{ code: 0 }]);
});

test("over HTTP a stream that has much to say lets others in between, however fast it is read", async () => {
  const { promise: isElsewhere, resolve: lookElsewhere } = Promise.withResolvers<number>();
  let askedCount = 0;
  async function* watchEvents() {
    setImmediate(() => lookElsewhere(askedCount));
    for (; askedCount < 50_000; askedCount += 1) {
      yield bookmark(1);
    }
  }
  const doors = await openDoors({ watchEvents });
  const socket = connectTcp(doors.httpPort, "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  const head = `POST ${WATCH_EVENTS} HTTP/1.1\r\nhost: localhost\r\n`;
  socket.resume().write(`${head}content-type: application/connect+proto\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0`);

  expect(await isElsewhere).toBeLessThan(100);
});
