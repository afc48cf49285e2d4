import { Code, ConnectError } from "@connectrpc/connect";
import { expect, onTestFinished, test } from "vitest";
import { flag, frame, frameType, lengthPrefixed } from "../../bench/frames.ts";
import { Refusal } from "../../src/refusal.ts";
import { callHeaders, grpcFields, openPeer, type Peer, resetFrame } from "../abuse/peer.ts";
import { createClients } from "./clients.ts";
import { openDoors, stockOf, type TestHandlers } from "./open-doors.ts";

const mostCount = 100;
const lowered = 50;
const leastCount = 32;
/** So many refusals between two looks are too many, from all to the least. */
const tooMany = 11;
const watchPath = "/holdfast.v1.EventService/WatchEvents";
const stockPath = "/holdfast.v1.InventoryService/GetStock";
/** GetStockRequest { sku: "a" } */
const sku = Buffer.from([0x12, 0x01, 0x61]);

/** A door whose GetStock refuses for a reason for as long as there is one. */
async function openRefusing(reason: "OVERLOADED" | "RATE_LIMITED" | undefined, handlers: TestHandlers = {}) {
  const state = { reason };
  const getStock: NonNullable<TestHandlers["getStock"]> = async (req) => {
    if (state.reason !== undefined) throw new Refusal(state.reason, "too many", { retryMs: 100 });
    return stockOf(req.sku);
  };
  const doors = await openDoors({ getStock, ...handlers }, { limits: { callsPerConnection: mostCount } });
  const open = async (): Promise<Peer> => {
    const peer = await openPeer({ port: doors.grpcPort });
    onTestFinished(() => void peer.socket.destroy());
    return peer;
  };
  return { ...doors, state, open };
}

function call(stream: number, path = stockPath): Buffer[] {
  const message = lengthPrefixed(path === stockPath ? sku : Buffer.alloc(0));
  return [callHeaders(stream, grpcFields(path)), frame(frameType.data, flag.endStream, stream, message)];
}

/** How many calls at a time a peer was told it may have, each time. */
function toldCounts({ frames }: Peer): number[] {
  const settings = frames.filter(({ type, flags }) => type === frameType.settings && (flags & flag.ack) === 0);
  return settings.flatMap(({ payload }) =>
    Array.from({ length: payload.length / 6 }, (_, index) => index * 6)
      .filter((at) => payload.readUInt16BE(at) === 3)
      .map((at) => payload.readUInt32BE(at + 2)),
  );
}

/** What it was told last. */
const toldCount = (peer: Peer): number | undefined => toldCounts(peer).at(-1);

/** Makes so many calls at a time, and waits for their ends. */
async function callAtOnce(peer: Peer, count: number): Promise<void> {
  const first = nextStream;
  nextStream += 2 * count;
  const streams = Array.from({ length: count }, (_, index) => first + 2 * index);
  peer.send(...streams.flatMap((stream) => call(stream)));
  await Promise.all(streams.map((stream) => peer.endOf(stream)));
}

/** Unused on every connection. */
let nextStream = 1001;

test("who has many calls refused as too many may have fewer at a time, down to 32, and all again later", async () => {
  const { state, open } = await openRefusing("OVERLOADED");
  const [peer, other] = [await open(), await open()];
  await callAtOnce(peer, tooMany);
  await expect.poll(() => toldCount(peer)).toBe(lowered);
  const goOn = async (): Promise<number | undefined> => {
    await callAtOnce(peer, tooMany);
    return toldCount(peer);
  };
  await expect.poll(goOn, { timeout: 5000, interval: 20 }).toBe(leastCount);
  state.reason = undefined;
  await expect.poll(() => toldCount(peer), { timeout: 10_000 }).toBe(mostCount);
  expect(toldCounts(peer)).toEqual([mostCount, lowered, leastCount, 48, 72, mostCount]);
  expect(toldCounts(other)).toEqual([mostCount]);
}, 20_000);

test("who has few calls refused keeps its limit", async () => {
  const { open } = await openRefusing("OVERLOADED");
  const peer = await open();
  await callAtOnce(peer, tooMany - 1);
  expect(toldCounts(peer)).toEqual([mostCount]);
});

test("streams that last take none of the places", async () => {
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  onTestFinished(() => end());
  // biome-ignore lint/correctness/useYield: a stream that has nothing to say
  const watchEvents: NonNullable<TestHandlers["watchEvents"]> = async function* () {
    await ended;
  };
  const { open } = await openRefusing("OVERLOADED", { watchEvents });
  const peer = await open();
  for (const stream of [1, 3]) {
    peer.send(...call(stream, watchPath));
  }
  // Of another service.
  peer.send(
    callHeaders(5, grpcFields("/grpc.health.v1.Health/Watch")),
    frame(frameType.data, flag.endStream, 5, lengthPrefixed(Buffer.alloc(0))),
  );
  await expect.poll(() => peer.frames.filter(({ type }) => type === frameType.headers).length).toBe(3);
  await callAtOnce(peer, tooMany);
  // What it was told at once: it is told of more later.
  await expect.poll(() => toldCounts(peer)[1]).toBe(lowered + 3);
});

test("a refusal of another kind changes nothing", async () => {
  const { open } = await openRefusing("RATE_LIMITED");
  const peer = await open();
  await callAtOnce(peer, 3 * tooMany);
  expect(toldCounts(peer)).toEqual([mostCount]);
});

test("a peer that does not answer settings keeps its connection, and its limit", async () => {
  const { grpcPort } = await openRefusing("OVERLOADED");
  const peer = await openPeer({ port: grpcPort, answersSettings: false });
  onTestFinished(() => void peer.socket.destroy());
  let roundCount = 0;
  const goOn = async (): Promise<number> => {
    await callAtOnce(peer, tooMany);
    roundCount += 1;
    return roundCount;
  };
  // Longer than ten looks take, at which Node would end it.
  await expect.poll(goOn, { timeout: 10_000, interval: 30 }).toBeGreaterThan(60);
  expect(toldCounts(peer)).toEqual([mostCount]);
});

test("clients that honour it have more calls answered than they may have at a time", async () => {
  const { state, ...urls } = await openRefusing("OVERLOADED");
  const { inventory } = createClients("gRPC", urls);
  const callMany = (count: number) =>
    Promise.all(Array.from({ length: count }, () => inventory.getStock({ sku: "a" }).catch(ConnectError.from)));
  const refused = await callMany(tooMany);
  expect(refused.map((error) => error instanceof ConnectError && error.code)).toEqual(
    refused.map(() => Code.ResourceExhausted),
  );
  state.reason = undefined;
  const failed = (await callMany(4 * mostCount)).filter((answer) => answer instanceof ConnectError);
  expect(failed).toEqual([]);
});

test("calls that follow at once on calls that are broken off do not end their connection", async () => {
  const { promise: never } = Promise.withResolvers<void>();
  const getStock: NonNullable<TestHandlers["getStock"]> = async (req) => {
    await never;
    return stockOf(req.sku);
  };
  const { grpcPort } = await openDoors({ getStock }, { limits: { callsPerConnection: mostCount } });
  const peer = await openPeer({ port: grpcPort });
  onTestFinished(() => void peer.socket.destroy());
  const streamOf = (index: number): number => 2 * index + 1;
  const count = 2 * mostCount;
  await peer.next(frameType.settings); // it has said by now that it knows the limit
  peer.send(...Array.from({ length: mostCount }, (_, index) => call(streamOf(index))).flat());
  const ping = frame(frameType.ping, 0, 0, Buffer.alloc(8));
  peer.send(ping);
  await peer.next(frameType.ping);
  const later = Array.from({ length: count }, (_, index) => streamOf(index + mostCount));
  // Each takes the place of one that is broken off in the same write.
  peer.send(...later.flatMap((stream) => [resetFrame(stream - 2 * mostCount), ...call(stream)]));
  await expect.poll(() => peer.frames.filter(({ type }) => type === frameType.reset).length).toBeGreaterThan(99);
  peer.send(ping);
  await expect.poll(() => peer.frames.filter(({ type }) => type === frameType.ping).length).toBe(2);
  expect(peer.frames.filter(({ type }) => type === frameType.goAway)).toEqual([]);
  expect(peer.socket.readableEnded).toBe(false);
});
