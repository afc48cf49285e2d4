import { once } from "node:events";
import { Agent as HttpAgent, type RequestOptions, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { flag, frame, frameType, lengthPrefixed, readGrpcStatus } from "../../bench/frames.ts";
import { mutate, randomBytes } from "./mutate.ts";
import { callHeaders, grpcFields, openPeer, openSocket, type Peer, preface } from "./peer.ts";
import { randomRequest } from "./random-request.ts";
import { type AttackOptions, type AttackResult, createPace, type Pace, Tally, within } from "./target.ts";

/** UNKNOWN and INTERNAL: the server did not expect something. And none: the call or its connection was reset. */
const faultStatuses: readonly (number | undefined)[] = [2, 13, undefined];
const streamTimeoutMs = 200;
/** Requests at a time on each door. */
const inFlightCount = 32;
/** Requests on a connection whose bytes are changed. */
const perConnection = 10;
const answerMs = 20_000;
/** How long a connection of changed bytes is left open. */
const openMs = 30;

/** What sends requests of its kind, one after the other, until the count is reached. */
type Sender = (options: Sending, take: () => boolean) => Promise<void>;

interface Sending extends AttackOptions {
  readonly tally: Tally;
  readonly pace: Pace;
}

/**
 * Sends requests that are random or changed: their messages, which have to be answered with a status that blames the caller,
 * and the bytes of HTTP that carry them, which may be answered in any way that leaves others alone.
 */
export async function sendMutated(options: AttackOptions): Promise<AttackResult> {
  const tally = new Tally();
  const sending = { ...options, tally, pace: createPace(options.perSecond) };
  const kinds: readonly (readonly [Sender, number, number])[] = [
    [sendMessagesOverGrpc, 0.35, 4],
    [sendMessagesOverHttp, 0.35, inFlightCount],
    [sendFrames, 0.15, 4],
    [sendHttp1Text, 0.15, 4],
  ];
  await Promise.all(
    kinds.map(async ([send, share, workerCount]) => {
      let left = Math.round(options.count * share);
      const take = (): boolean => left-- > 0;
      await Promise.all(Array.from({ length: workerCount }, () => send(sending, take)));
    }),
  );
  return tally;
}

/** As it is, changed, or nothing like it. */
function abused(bytes: Buffer, { dice }: AttackOptions): Buffer {
  const kind = dice.between(0, 9);
  return kind < 2 ? bytes : kind < 9 ? mutate(bytes, dice) : randomBytes(dice);
}

async function sendMessagesOverGrpc(sending: Sending, take: () => boolean): Promise<void> {
  const { target, dice, tally, pace } = sending;
  let peer: Peer | undefined;
  let stream = 1;
  while (take()) {
    await pace.next();
    if (peer === undefined || peer.socket.readableEnded || stream > 2000) {
      peer?.socket.destroy();
      peer = await openPeer({ port: target.grpcPort, ca: target.ca, windowBytes: 1 << 24 });
      stream = 1;
    }
    const { path, method, bytes } = randomRequest(dice);
    const timeout = method.methodKind === "unary" ? [] : ([["grpc-timeout", `${streamTimeoutMs}m`]] as const);
    peer.send(
      callHeaders(stream, grpcFields(path, timeout)),
      frame(frameType.data, flag.endStream, stream, lengthPrefixed(abused(bytes, sending).subarray(0, 16_000))),
    );
    const end = peer.endOf(stream).catch(() => undefined);
    stream += 2;
    if (!(await within(answerMs, end))) {
      tally.wrong.push(`${path} over gRPC was not answered in ${answerMs / 1000} s`);
      continue;
    }
    const last = await end;
    const code = last?.type === frameType.headers ? readGrpcStatus(last.payload) : undefined;
    tally.add(`status ${code}`);
    if (faultStatuses.includes(code)) tally.wrong.push(`${path} over gRPC was answered with ${code}`);
  }
  peer?.socket.destroy();
}

async function sendMessagesOverHttp(sending: Sending, take: () => boolean): Promise<void> {
  const { target, dice, tally, pace } = sending;
  const agent =
    target.ca === undefined ? new HttpAgent({ keepAlive: true }) : new HttpsAgent({ keepAlive: true, ca: target.ca });
  while (take()) {
    await pace.next();
    const { path, method, bytes, json } = randomRequest(dice);
    const isStream = method.methodKind !== "unary";
    const type = dice.from(
      isStream ? ["connect+json", "connect+proto", "grpc-web+proto"] : ["json", "proto", "grpc-web+proto"],
    );
    const message = abused(type.includes("json") ? Buffer.from(json) : bytes, sending);
    const headers = {
      "content-type": `application/${type}`,
      ...(isStream ? { "connect-timeout-ms": String(streamTimeoutMs), "grpc-timeout": `${streamTimeoutMs}m` } : {}),
    };
    const options = { agent, port: target.httpPort, host: "127.0.0.1", path, method: "POST", headers };
    const answer = await answerOf(
      options,
      type.includes("+") ? lengthPrefixed(message) : message,
      target.ca !== undefined,
    );
    tally.add(`HTTP ${answer.status}`);
    const fault = /"code":"(internal|unknown)"|grpc-status: ?(2|13)\b/.exec(answer.text)?.[0];
    if (answer.status === 0 || fault !== undefined) {
      tally.wrong.push(`${path} as ${type} over HTTP was answered with ${fault ?? answer.text}`);
    }
  }
  agent.destroy();
}

/** Status 0: it was not answered. */
function answerOf(
  options: RequestOptions,
  body: Buffer,
  isTls: boolean,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve) => {
    const fail = (error: Error): void => resolve({ status: 0, text: error.message });
    const request = (isTls ? requestHttps : requestHttp)(options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", fail);
      response.on("end", () => {
        const status = String(response.headers["grpc-status"] ?? "");
        resolve({
          status: response.statusCode ?? 0,
          text: `grpc-status: ${status} ${Buffer.concat(chunks).toString("latin1")}`,
        });
      });
    });
    request.setTimeout(answerMs, () => request.destroy(new Error(`nothing came in ${answerMs / 1000} s`)));
    request.on("error", fail);
    request.end(body);
  });
}

/** Whole connections of HTTP/2 whose bytes are changed: frames that are cut, repeated, out of order, with wrong lengths. */
async function sendFrames(sending: Sending, take: () => boolean): Promise<void> {
  const { target, dice, pace, tally } = sending;
  while (take()) {
    for (let rest = perConnection - 1; rest > 0 && take(); rest -= 1);
    await pace.next(perConnection);
    const frames = Array.from({ length: perConnection }, (_, index) => {
      const { path, bytes } = randomRequest(dice);
      const stream = 2 * index + 1;
      return [
        callHeaders(stream, grpcFields(path)),
        frame(frameType.data, flag.endStream, stream, lengthPrefixed(bytes.subarray(0, 16_000))),
        frame(dice.between(0, 12), dice.between(0, 255), dice.from([0, stream, 0x7fff_ffff]), randomBytes(dice)),
      ];
    }).flat();
    if (dice.between(0, 2) === 0) frames.sort(() => dice.between(-1, 1));
    const opening = [preface, frame(frameType.settings, 0, 0), frame(frameType.settings, flag.ack, 0)];
    const bytes =
      dice.between(0, 4) === 0 ? Buffer.concat([...opening, ...frames]) : mutate(Buffer.concat(frames), dice);
    const port = target.ca !== undefined && dice.between(0, 1) === 0 ? target.httpPort : target.grpcPort;
    await throwAt(
      { port, ca: target.ca },
      dice.between(0, 4) === 0 ? mutate(bytes, dice) : Buffer.concat([...opening, bytes]),
    );
    tally.add("frames", perConnection);
  }
}

async function sendHttp1Text(sending: Sending, take: () => boolean): Promise<void> {
  const { target, dice, pace, tally } = sending;
  while (take()) {
    for (let rest = perConnection - 1; rest > 0 && take(); rest -= 1);
    await pace.next(perConnection);
    const requests = Array.from({ length: perConnection }, () => {
      const { path, json } = randomRequest(dice);
      const head = `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(json)}`;
      return Buffer.from(`${head}\r\n\r\n${json}`);
    });
    await throwAt(
      { port: target.httpPort, ca: target.ca, protocol: "http/1.1" },
      mutate(Buffer.concat(requests), dice),
    );
    tally.add("requests of HTTP/1.1", perConnection);
  }
}

/** Sends bytes on a connection of their own and leaves it, whatever comes. */
async function throwAt(options: Parameters<typeof openSocket>[0], bytes: Buffer): Promise<void> {
  const socket = await openSocket(options);
  socket.resume();
  socket.write(bytes);
  await Promise.race([once(socket, "close").catch(() => undefined), sleep(openMs)]);
  socket.destroy();
}
