import { once } from "node:events";
import { create } from "@bufbuild/protobuf";
import { pino } from "pino";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { flag, frame, frameType, lengthPrefixed } from "../../bench/frames.ts";
import { WatchEventsResponseSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { openTlsFiles } from "../../src/server/tls-files.ts";
import {
  callHeaders,
  grpcFields,
  openPeer,
  openSocket,
  type Peer,
  type PeerOptions,
  resetFrame,
} from "../abuse/peer.ts";
import { createAuthority } from "../helpers/authority.ts";
import { createClients, errorOf, summaryOf } from "./clients.ts";
import { aborted, bookmark, openDoors, stockOf, type TestHandlers, type TestOptions } from "./open-doors.ts";

const authority = createAuthority();
afterAll(() => authority.remove());
const server = authority.issue("server", "DNS:localhost,IP:127.0.0.1");

const watchPath = "/holdfast.v1.EventService/WatchEvents";
const stockPath = "/holdfast.v1.InventoryService/GetStock";
const goneReset = 8; // CANCEL

/** The doors for HTTP/2: gRPC, without TLS and with it, and the other one over TLS. */
const http2Doors = ["gRPC", "gRPC over TLS", "HTTP/2"] as const;

async function openHttp2(door: (typeof http2Doors)[number], handlers: TestHandlers, limits: TestOptions["limits"]) {
  const files = { ...server, clientCaFile: undefined, clientsFile: undefined };
  const tls = door === "gRPC" ? undefined : await openTlsFiles(files, pino({ level: "silent" }));
  const doors = await openDoors(handlers, { limits: limits ?? {}, ...(tls === undefined ? {} : { tls }) });
  const port = door === "HTTP/2" ? doors.httpPort : doors.grpcPort;
  const ca = tls === undefined ? undefined : authority.ca;
  const fields = (path: string) =>
    door === "HTTP/2"
      ? grpcFields(path).map(([name, value]) => [name, name === "content-type" ? contentTypeOf(path) : value] as const)
      : grpcFields(path);
  const open = async (options: Partial<PeerOptions> = {}): Promise<Peer> => {
    const peer = await openPeer({ port, ca, ...options });
    onTestFinished(() => void peer.socket.destroy());
    return peer;
  };
  const call = (stream: number, path: string): Buffer[] => [
    callHeaders(stream, fields(path)),
    frame(
      frameType.data,
      flag.endStream,
      stream,
      path === stockPath && door === "HTTP/2" ? sku : lengthPrefixed(path === stockPath ? sku : Buffer.alloc(0)),
    ),
  ];
  return { ...doors, door: door === "HTTP/2" ? doors.httpDoor : doors.grpcDoor, port, ca, open, call, fields };
}

/** GetStockRequest { sku: "a" } */
const sku = Buffer.from([0x12, 0x01, 0x61]);

function contentTypeOf(path: string): string {
  return path === watchPath ? "application/connect+proto" : "application/proto";
}

/** Messages of 10 kB without end; tells when the handler was ended. */
function createEndlessStream() {
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const message = create(WatchEventsResponseSchema, {
    message: { case: "bookmark", value: { commitId: "x".repeat(10_000) } },
  });
  async function* watchEvents() {
    try {
      for (;;) yield message;
    } finally {
      end();
    }
  }
  return { watchEvents, ended };
}

describe.each(http2Doors)("%s", (kind) => {
  test("a drain cuts a peer that broke its call off and does not close, when its time is over", async () => {
    const { door, open, call } = await openHttp2(kind, { watchEvents: createEndlessStream().watchEvents }, {});
    const peer = await open();
    peer.send(...call(1, watchPath));
    await peer.next(frameType.data);
    peer.send(resetFrame(1));
    await door.drain(200);

    await peer.gone;
  });

  test("a connection that does not begin to speak is cut, and one that takes no limits on, but none that does", async () => {
    const { port, open } = await openHttp2(kind, {}, { handshakeMs: 1000 });
    const [peer, lawless] = [await open(), await open({ answersSettings: false })];
    const silent = await openSocket({ port });
    silent.resume();
    await Promise.all([once(silent, "end"), lawless.ended]);

    expect(peer.socket.readableEnded).toBe(false);
  });

  test("a call whose reader takes nothing is ended, and its handler", async () => {
    const { watchEvents, ended } = createEndlessStream();
    const { open, call, logged } = await openHttp2(kind, { watchEvents }, { unreadMs: 100 });
    const peer = await open({ windowBytes: 0 });
    peer.send(...call(1, watchPath));
    const reset = await peer.next(frameType.reset);
    await ended;

    expect([reset.stream, reset.payload.readUInt32BE()]).toEqual([1, goneReset]);
    expect(logged).toEqual([]);
  });

  test("a unary answer that is not read is taken back", async () => {
    const { open, call, logged } = await openHttp2(kind, {}, { unreadMs: 100 });
    const peer = await open({ windowBytes: 0 });
    peer.send(...call(1, stockPath));
    const reset = await peer.next(frameType.reset);

    expect([reset.stream, reset.payload.readUInt32BE()]).toEqual([1, goneReset]);
    expect(logged).toEqual([]);
  });

  test("a connection that breaks off too many calls is closed, and others are served", async () => {
    const { open, call, fields } = await openHttp2(kind, {}, { resetsPerSecond: 10 });
    const [peer, good] = [await open(), await open()];
    for (let stream = 1; stream < 1000; stream += 2) {
      peer.send(callHeaders(stream, fields(watchPath)), resetFrame(stream));
    }
    await peer.next(frameType.goAway);
    await peer.ended;
    good.send(...call(1, stockPath));

    expect((await good.next(frameType.data)).stream).toBe(1);
  });

  test("no more calls at a time than the limit are taken", async () => {
    const { open } = await openHttp2(kind, {}, { callsPerConnection: 3 });
    const { payload } = await (await open()).next(frameType.settings);

    const settings = Array.from({ length: payload.length / 6 }, (_, index) => [
      payload.readUInt16BE(index * 6),
      payload.readUInt32BE(index * 6 + 2),
    ]);
    expect(settings).toContainEqual([3, 3]);
  });

  test("headers that are too large end their call", async () => {
    const { open, call, fields } = await openHttp2(kind, {}, { headerBytes: 4096 });
    const peer = await open();
    // The peer has said then that it knows the limit.
    await peer.next(frameType.settings);
    peer.send(callHeaders(1, [...fields(stockPath), ["x-large", "x".repeat(4096)]]), ...call(3, stockPath));

    expect((await peer.next(frameType.reset)).stream).toBe(1);
    expect((await peer.next(frameType.data)).stream).toBe(3);
  });

  test("a peer that answers no ping is cut", async () => {
    const limits = { pingMs: 50, pingTimeoutMs: 1000, unreadMs: 100 };
    const { open, call } = await openHttp2(kind, { watchEvents: waitForEnd }, limits);
    const [deaf, living] = [await open({ answersPings: false }), await open()];
    deaf.send(...call(1, watchPath));
    living.send(...call(1, watchPath));
    await deaf.gone;

    expect(living.socket.readableEnded).toBe(false);
  });

  test("a connection without calls is closed, also when its peer does not close it", async () => {
    const { open, call } = await openHttp2(kind, { watchEvents: waitForEnd }, { idleMs: 1000, unreadMs: 100 });
    const busy = await open();
    busy.send(...call(1, watchPath));
    await busy.next(frameType.data);
    const idle = await open();
    await idle.next(frameType.goAway);
    await idle.gone;

    expect(busy.frames.map(({ type }) => type)).not.toContain(frameType.goAway);
  });

  test("an old connection ends its streams with OK, lets calls finish and takes no others", async () => {
    const { promise: isAsked, resolve: ask } = Promise.withResolvers<void>();
    const { promise: isOld, resolve: grow } = Promise.withResolvers<void>();
    const getStock = async () => {
      ask();
      await isOld;
      return stockOf("a");
    };
    async function* watchEvents(req: unknown, ctx: Parameters<typeof waitForEnd>[1]) {
      yield* waitForEnd(req, ctx);
      grow();
    }
    const { open, call } = await openHttp2(
      kind,
      { getStock, watchEvents },
      { ageMs: 1000, ageGraceMs: 60_000, unreadMs: 100 },
    );
    const peer = await open();
    peer.send(...call(1, watchPath), ...call(3, stockPath));
    await isAsked;
    await peer.next(frameType.goAway);
    await peer.gone;

    const ends = peer.frames.filter(({ flags, type }) => type !== frameType.settings && (flags & flag.endStream) !== 0);
    expect(ends.map(({ stream }) => stream).sort()).toEqual([1, 3]);
    expect(peer.frames.map(({ type }) => type)).not.toContain(frameType.reset);
  });

  test("calls that outlive their old connection by more than the grace are cut", async () => {
    const hang = async (_req: unknown, ctx: { readonly signal: AbortSignal }) => {
      await aborted(ctx.signal);
      return stockOf("late");
    };
    const { open, call } = await openHttp2(kind, { getStock: hang }, { ageMs: 50, ageGraceMs: 50, unreadMs: 100 });
    const peer = await open();
    peer.send(...call(1, stockPath));
    await peer.gone;

    // The deadline of the call is five seconds.
    expect(peer.frames.filter(({ stream, type }) => stream === 1 && type === frameType.headers)).toEqual([]);
  });

  test("connections above the limit are not taken", async () => {
    const { port, open, call } = await openHttp2(kind, {}, { connectionCount: 1 });
    const peer = await open();
    await peer.next(frameType.settings);
    const refused = await openSocket({ port });
    refused.resume();
    await once(refused, "end");
    refused.destroy();
    peer.send(...call(1, stockPath));

    expect((await peer.next(frameType.data)).stream).toBe(1);
  });
});

async function* waitForEnd(_req: unknown, ctx: { readonly signal: AbortSignal; readonly draining: AbortSignal }) {
  yield bookmark(1);
  await Promise.race([aborted(ctx.signal), aborted(ctx.draining)]);
}

describe("HTTP/1.1", () => {
  async function openHttp1(handlers: TestHandlers, limits: NonNullable<TestOptions["limits"]>) {
    const doors = await openDoors(handlers, { limits });
    const open = async (...text: string[]) => {
      const socket = await openSocket({ port: doors.httpPort });
      onTestFinished(() => void socket.destroy());
      socket.write(text.join(""));
      return socket;
    };
    return { ...doors, open };
  }

  const post = (path: string, type: string, length: number) =>
    `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: ${type}\r\ncontent-length: ${length}\r\n\r\n`;
  const watch = [post(watchPath, "application/connect+proto", 5), "\0\0\0\0\0"];
  const ask = [post(stockPath, "application/json", 11), '{"sku":"a"}'];

  /** What comes until the connection is ended by the server. */
  async function readToEnd(socket: Awaited<ReturnType<typeof openSocket>>): Promise<string> {
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
    });
    await once(socket, "end");
    return text;
  }

  test.each([
    ["says nothing", ""],
    ["does not end its headers", "GET /livez HTTP/1.1\r\nhost: localhost\r\n"],
    ["does not end its request", post(stockPath, "application/json", 10)],
  ])("a connection that %s is cut", async (_, text) => {
    const { open } = await openHttp1({}, { handshakeMs: 100, arrivalMs: 100 });

    expect(await readToEnd(await open(text))).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("a watch whose reader takes nothing is cut, and its handler ended", async () => {
    const { watchEvents, ended } = createEndlessStream();
    const { open, logged } = await openHttp1({ watchEvents }, { unreadMs: 200 });
    const socket = await open(...watch);
    socket.pause();
    await ended;

    expect(logged).toEqual([]);
  });

  test("a watch that is read goes on, and so does one that has nothing to say", async () => {
    const { promise: isLate, resolve: comeLate } = Promise.withResolvers<void>();
    async function* watchEvents() {
      yield bookmark(1);
      await isLate;
      yield bookmark(2);
    }
    const { open } = await openHttp1({ watchEvents }, { unreadMs: 50 });
    const text = readToEnd(
      await open(...watch, ...ask, "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"),
    );
    // Longer than an unread answer is kept: the first of three answers is still being made.
    await new Promise((resolve) => setTimeout(resolve, 300));
    comeLate();

    expect((await text).match(/HTTP\/1\.1 200 /g)).toHaveLength(3);
  });

  test("an old connection ends its streams, and is closed after its next answer", async () => {
    const { promise: isEnded, resolve: end } = Promise.withResolvers<void>();
    async function* watchEvents(req: unknown, ctx: Parameters<typeof waitForEnd>[1]) {
      yield* waitForEnd(req, ctx);
      end();
    }
    const { open } = await openHttp1({ watchEvents }, { ageMs: 100, ageGraceMs: 60_000 });
    const socket = await open(...watch);
    const text = readToEnd(socket);
    await isEnded;
    socket.write(ask.join(""));

    expect((await text).match(/HTTP\/1\.1 200 /g)).toHaveLength(2);
    // The message that ends a stream of Connect, without an error.
    expect(await text).toContain("{}");
  });

  test("headers that are too large are refused", async () => {
    const { open } = await openHttp1({}, { headerBytes: 4096 });
    const text = readToEnd(await open(`GET /livez HTTP/1.1\r\nx-large: ${"x".repeat(4096)}\r\n\r\n`));

    expect(await text).toMatch(/^HTTP\/1\.1 431 /);
  });

  test("a connection without calls is closed", async () => {
    const { open } = await openHttp1({}, { idleMs: 50 });

    expect(await readToEnd(await open(...ask))).toMatch(/^HTTP\/1\.1 200 /);
  });

  test("connections above the limit are not taken", async () => {
    const { open } = await openHttp1({}, { connectionCount: 1 });
    const first = await open();
    const refused = await open(...ask);

    expect(await readToEnd(refused)).toBe("");
    first.write(ask.join(""));
    expect(String(await once(first, "data"))).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe.each(http2Doors)("%s", (kind) => {
  test("calls that follow at once on calls that are broken off do not end their connection", async () => {
    const callsPerConnection = 100;
    const getStock = (): Promise<never> => new Promise(() => {});
    const { open, call } = await openHttp2(kind, { getStock }, { callsPerConnection, resetsPerSecond: 1000 });
    const peer = await open();
    const streamOf = (index: number): number => 2 * index + 1;
    const ping = frame(frameType.ping, 0, 0, Buffer.alloc(8));
    await peer.next(frameType.settings); // it has said by now that it knows the limit
    peer.send(
      ...Array.from({ length: callsPerConnection }, (_, index) => call(streamOf(index), stockPath)).flat(),
      ping,
    );
    await peer.next(frameType.ping);
    // Each takes the place of one that is broken off in the same write.
    const later = Array.from({ length: 2 * callsPerConnection }, (_, index) => streamOf(index + callsPerConnection));
    peer.send(
      ...later.flatMap((stream) => [resetFrame(stream - 2 * callsPerConnection), ...call(stream, stockPath)]),
      ping,
    );
    await expect.poll(() => peer.frames.filter(({ type }) => type === frameType.ping).length).toBe(2);

    expect(peer.frames.filter(({ type }) => type === frameType.reset).length).toBeGreaterThan(99);
    expect(peer.frames.filter(({ type }) => type === frameType.goAway)).toEqual([]);
    expect(peer.socket.readableEnded).toBe(false);
  });
});

test.each(["gRPC", "Connect"] as const)("by %s the deadlines of the settings hold", async (protocol) => {
  const leftMs: number[] = [];
  const getStock = async (_req: unknown, ctx: { readonly deadlineMs: number }) => {
    leftMs.push(ctx.deadlineMs - Date.now());
    return stockOf("a");
  };
  const doors = await openDoors({ getStock }, { limits: { defaultDeadlineMs: 50_000, maxDeadlineMs: 90_000 } });
  const { inventory } = createClients(protocol, doors);
  await inventory.getStock({ sku: "a" });
  await inventory.getStock({ sku: "a" }, { timeoutMs: 500_000 });

  expect(leftMs.map((each) => Math.ceil(each / 10_000))).toEqual([5, 9]);
});

test.each(["gRPC", "Connect"] as const)("by %s a request above the limit is RESOURCE_EXHAUSTED", async (protocol) => {
  const doors = await openDoors({}, { limits: { requestBytes: 16_384 } });
  const { inventory } = createClients(protocol, doors);

  expect(summaryOf(await errorOf(inventory.getStock({ sku: "a".repeat(16_384) })))).toBe("ResourceExhausted");
});
