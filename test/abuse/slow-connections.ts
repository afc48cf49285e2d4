import { once } from "node:events";
import type { Socket } from "node:net";
import { flag, frame, frameType } from "../../bench/frames.ts";
import { encodeHeaders, grpcFields, openSocket, preface } from "./peer.ts";
import { type AttackOptions, type AttackResult, createPace, Tally, within } from "./target.ts";

/** Longer than the time limits of the attacked server together, in milliseconds. */
const patienceMs = 60_000;
const dribbleMs = 500;

const settings = frame(frameType.settings, 0, 0);
const acknowledged = frame(frameType.settings, flag.ack, 0);
const headers = encodeHeaders(grpcFields("/holdfast.v1.InventoryService/GetStock"));

/** How far a connection of HTTP/2 gets before it says no more. */
const http2Beginnings: readonly (readonly [string, Buffer])[] = [
  ["nothing", Buffer.alloc(0)],
  ["half a preface", preface.subarray(0, 12)],
  ["no settings", preface],
  ["settings not confirmed", Buffer.concat([preface, settings])],
  [
    "half a frame",
    Buffer.concat([preface, settings, acknowledged, frame(1, flag.endHeaders, 1, headers).subarray(0, 30)]),
  ],
  ["headers without end", Buffer.concat([preface, settings, acknowledged, frame(frameType.headers, 0, 1, headers)])],
  [
    "a call without its request",
    Buffer.concat([preface, settings, acknowledged, frame(1, flag.endHeaders, 1, headers)]),
  ],
];

const post =
  "POST /holdfast.v1.InventoryService/GetStock HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
const http1Beginnings: readonly (readonly [string, Buffer])[] = [
  ["nothing", Buffer.alloc(0)],
  ["half a line", Buffer.from("POST /hold")],
  ["headers without end", Buffer.from(post)],
  ["a call without its request", Buffer.from(`${post}content-length: 11\r\n\r\n{"sk`)],
  ["chunks without end", Buffer.from(`${post}transfer-encoding: chunked\r\n\r\n3\r\n{"s\r\n`)],
];

/** Opens connections that say little, or one byte now and then, and waits until the server has closed every one. */
export async function connectSlowly({ target, count, perSecond, dice }: AttackOptions): Promise<AttackResult> {
  const tally = new Tally();
  const pace = createPace(perSecond);
  const waiting: Promise<void>[] = [];

  async function keep(socket: Socket, name: string): Promise<void> {
    // One that goes on, a byte at a time, is as slow as one that does not.
    const dribble = dice.between(0, 3) > 0 ? undefined : setInterval(() => socket.write("x"), dribbleMs);
    socket.resume();
    const isClosed = await within(
      patienceMs,
      once(socket, "end").catch(() => undefined),
    );
    clearInterval(dribble);
    socket.destroy();
    tally.add(isClosed ? "closed by the server" : "kept open");
    if (!isClosed) tally.wrong.push(`a connection with "${name}" was still open after ${patienceMs / 1000} s`);
  }

  for (let index = 0; index < count; index += 1) {
    const isGrpc = index % 2 === 0;
    const isHttp2 = isGrpc || (target.ca !== undefined && dice.between(0, 1) === 0);
    const [name, beginning] = dice.from(isHttp2 ? http2Beginnings : http1Beginnings);
    const port = isGrpc ? target.grpcPort : target.httpPort;
    const protocol = isHttp2 ? "h2" : "http/1.1";
    // Half of those over TLS do not even begin with it.
    const ca = dice.between(0, 1) === 0 ? target.ca : undefined;
    const socket = await openSocket({ port, ca, protocol });
    socket.write(beginning);
    waiting.push(keep(socket, name));
    await pace.next();
  }
  await Promise.all(waiting);
  return tally;
}
