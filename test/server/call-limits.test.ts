import { Code, ConnectError } from "@connectrpc/connect";
import { expect, onTestFinished, test } from "vitest";
import { flag, frame, frameType, lengthPrefixed } from "../../bench/frames.ts";
import { Refusal } from "../../src/refusal.ts";
import { callHeaders, grpcFields, openPeer, type Peer } from "../abuse/peer.ts";
import { createClients } from "./clients.ts";
import { openDoors, stockOf, type TestHandlers } from "./open-doors.ts";

const mostCount = 60;
const lowered = mostCount / 2;
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

test("who has a call refused as one too many may have fewer at a time, down to 16, and all again later", async () => {
  const { state, open } = await openRefusing("OVERLOADED");
  const [peer, other] = [await open(), await open()];
  peer.send(...call(1));
  await peer.endOf(1);
  await expect.poll(() => toldCount(peer)).toBe(lowered);
  let stream = 3;
  const goOn = async (): Promise<number | undefined> => {
    peer.send(...call(stream));
    await peer.endOf(stream);
    stream += 2;
    return toldCount(peer);
  };
  await expect.poll(goOn, { timeout: 5000, interval: 20 }).toBe(16);
  state.reason = undefined;
  await expect.poll(() => toldCount(peer), { timeout: 10_000 }).toBe(mostCount);
  expect(toldCounts(peer).slice(0, 3)).toEqual([mostCount, lowered, 16]);
  expect(toldCount(other)).toBe(mostCount);
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
  for (const stream of [1, 3, 5]) {
    peer.send(...call(stream, watchPath));
  }
  await expect.poll(() => peer.frames.filter(({ type }) => type === frameType.headers).length).toBe(3);
  peer.send(...call(7));
  await peer.endOf(7);
  // What it was told at once: it is told of more later.
  await expect.poll(() => toldCounts(peer)[1]).toBe(lowered + 3);
});

test("a refusal of another kind changes nothing", async () => {
  const { open } = await openRefusing("RATE_LIMITED");
  const peer = await open();
  for (const stream of [1, 3, 5]) {
    peer.send(...call(stream));
    await peer.endOf(stream);
  }
  expect(toldCounts(peer)).toEqual([mostCount]);
});

test("a peer that does not answer settings keeps its connection, and its limit", async () => {
  const { grpcPort } = await openRefusing("OVERLOADED");
  const peer = await openPeer({ port: grpcPort, answersSettings: false });
  onTestFinished(() => void peer.socket.destroy());
  let stream = 1;
  const goOn = async (): Promise<number> => {
    peer.send(...call(stream));
    await peer.endOf(stream);
    stream += 2;
    return stream;
  };
  // Longer than ten looks take, at which Node would end it.
  await expect.poll(goOn, { timeout: 10_000, interval: 30 }).toBeGreaterThan(100);
  expect(toldCounts(peer)).toEqual([mostCount]);
});

test("clients that honour it have more calls answered than they may have at a time", async () => {
  const { state, ...urls } = await openRefusing("OVERLOADED");
  const { inventory } = createClients("gRPC", urls);
  await expect(inventory.getStock({ sku: "a" })).rejects.toMatchObject({ code: Code.ResourceExhausted });
  state.reason = undefined;
  const calls = Array.from({ length: 4 * mostCount }, () => inventory.getStock({ sku: "a" }).catch(ConnectError.from));
  const failed = (await Promise.all(calls)).filter((answer) => answer instanceof ConnectError);
  expect(failed).toEqual([]);
});
