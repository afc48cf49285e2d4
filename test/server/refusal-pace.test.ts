import { expect, onTestFinished, test, vi } from "vitest";
import { flag, frame, frameType, lengthPrefixed, readGrpcStatus } from "../../bench/frames.ts";
import { Refusal } from "../../src/refusal.ts";
import { createRefusalPace, type PacedRefusal } from "../../src/server/refusal-pace.ts";
import { callHeaders, type Frame, grpcFields, openPeer, type Peer } from "../abuse/peer.ts";
import { openDoors } from "./open-doors.ts";

const resourceExhausted = 8;
/** GetStockRequest { sku: "a" } */
const message = lengthPrefixed(Buffer.from([0x12, 0x01, 0x61]));
/** Calls at a time on one connection: more than are refused at once. */
const manyCount = 240;

/** A door that has no place for anybody. */
async function openOverloaded() {
  const getStock = async (): Promise<never> => {
    throw new Refusal("OVERLOADED", "too many", { retryMs: 100 });
  };
  const doors = await openDoors({ getStock });
  const open = async (): Promise<Peer> => {
    const peer = await openPeer({ port: doors.grpcPort });
    onTestFinished(() => void peer.socket.destroy());
    return peer;
  };
  return { ...doors, open };
}

/** Makes so many calls at once. */
function callAtOnce(peer: Peer, count: number, timeout: string): void {
  const fields = grpcFields("/holdfast.v1.InventoryService/GetStock", [["grpc-timeout", timeout]]);
  const calls = Array.from({ length: count }, (_, index) => 2 * index + 1).flatMap((stream) => [
    callHeaders(stream, fields),
    frame(frameType.data, flag.endStream, stream, message),
  ]);
  peer.send(...calls);
}

const answersOf = ({ frames }: Peer): Frame[] => frames.filter(({ type }) => type === frameType.headers);
const answerCount = (peer: Peer): number => answersOf(peer).length;

/** The statuses of all calls that were answered. */
function statusesOf(peer: Peer): Set<number | undefined> {
  return new Set(answersOf(peer).map(({ payload }) => readGrpcStatus(payload)));
}

test("of many refusals each is sent, and those of other connections in between", async () => {
  const { open } = await openOverloaded();
  const [noisy, quiet] = [await open(), await open()];
  callAtOnce(noisy, manyCount, "30S");
  await expect.poll(() => answerCount(noisy), { interval: 5 }).toBeGreaterThan(0);
  callAtOnce(quiet, 1, "30S");
  await quiet.endOf(1);
  expect(answerCount(noisy)).toBeLessThan(manyCount);
  await expect.poll(() => answerCount(noisy), { timeout: 10_000 }).toBe(manyCount);
  expect(statusesOf(noisy)).toEqual(new Set([resourceExhausted]));
});

test("a refusal does not wait beyond its caller's deadline", async () => {
  const { open } = await openOverloaded();
  // More than have their turn in two seconds.
  const peers = await Promise.all(Array.from({ length: 5 }, open));
  for (const peer of peers) callAtOnce(peer, manyCount, "2S");
  for (const peer of peers) {
    await expect.poll(() => answerCount(peer), { timeout: 10_000 }).toBe(manyCount);
    expect(statusesOf(peer)).toEqual(new Set([resourceExhausted]));
  }
});

/** A pace of its own, and what was sent at it. */
function openPace() {
  const sent: number[] = [];
  const refuse = (index: number, session?: PacedRefusal["session"]) => ({
    session,
    deadlineMs: Number.POSITIVE_INFINITY,
    isOver: false,
    sendNow: () => void sent.push(index),
  });
  return { pace: createRefusalPace(), refuse, sent };
}

test("who has no refusal that waits does not wait for others'", () => {
  const { pace, refuse, sent } = openPace();
  for (let index = 0; index < manyCount; index += 1) pace.add(refuse(index));
  const before = sent.length;
  const other = {} as PacedRefusal["session"];
  pace.add(refuse(manyCount, other));
  expect(before).toBeLessThan(manyCount);
  expect(sent.slice(before)).toEqual([manyCount]);
});

test("the more calls are answered, the more refusals are sent", () => {
  vi.useFakeTimers({ toFake: ["performance", "Date", "setInterval", "clearInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  const { pace, refuse, sent } = openPace();
  for (let index = 0; index < manyCount; index += 1) pace.add(refuse(index));
  /** Refusals of a tenth of a second in which so many calls are answered. */
  const sentWith = (answerCount: number): number => {
    const before = sent.length;
    for (let count = 0; count < answerCount; count += 1) pace.answered();
    vi.advanceTimersByTime(100);
    return sent.length - before;
  };
  sentWith(0);
  expect([sentWith(0), sentWith(320), sentWith(0)]).toEqual([5, 25, 5]);
});

test("a refusal that nobody waits for takes nobody's turn", async () => {
  const { pace, refuse, sent } = openPace();
  const refusals = Array.from({ length: manyCount }, (_, index) => refuse(index));
  for (const refusal of refusals) pace.add(refusal);
  expect(sent.length).toBeLessThan(100);
  for (const refusal of refusals.slice(100, -1)) refusal.isOver = true;
  await expect.poll(() => sent.at(-1), { timeout: 10_000 }).toBe(manyCount - 1);
  expect(sent).toEqual([...Array.from({ length: 100 }, (_, index) => index), manyCount - 1]);
});

test("a drain waits for none of them", async () => {
  const { open, grpcDoor } = await openOverloaded();
  // More than have their turn while this looks.
  const peers = await Promise.all(Array.from({ length: 5 }, open));
  for (const peer of peers) callAtOnce(peer, manyCount, "30S");
  for (const peer of peers) await expect.poll(() => answerCount(peer), { interval: 5 }).toBeGreaterThan(0);
  void grpcDoor.drain(10_000);
  for (const peer of peers) {
    await expect.poll(() => answerCount(peer), { interval: 5 }).toBe(manyCount);
    peer.socket.end();
  }
});
