import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import {
  FrameReader,
  flag,
  frame,
  frameHeaderBytes,
  frameType,
  opening,
  type RequestTemplate,
  readGrpcStatus,
  windowUpdate,
} from "./frames.ts";

/** What a connection counts while it is under load. */
export interface Tally {
  /** Purchases whose every call was answered with a message. */
  doneCount: number;
  /** Purchases that were refused for what the shop is like: FAILED_PRECONDITION. */
  refusedCount: number;
  /** Purchases that may be tried again: ABORTED, RESOURCE_EXHAUSTED, or not looked at. */
  busyCount: number;
  /** Purchases that ended in any other way. */
  failedCount: number;
  /** From the first call to the last answer, of those that were done or refused. */
  readonly latenciesMs: number[];
  /** When each of these ended, on the clock of `performance`. */
  readonly endedAtMs: number[];
  /** The same times of those that may be tried again. */
  readonly busyLatenciesMs: number[];
}

/** A tally of nothing yet. */
export function emptyTally(): Tally {
  const counts = { doneCount: 0, refusedCount: 0, busyCount: 0, failedCount: 0 };
  return { ...counts, latenciesMs: [], endedAtMs: [], busyLatenciesMs: [] };
}

/** One connection that buys. */
export interface LoadConnection {
  /** Keeps so many purchases in flight until `untilMs` on the clock of `performance`; resolves when all have ended. */
  run(inFlightCount: number, untilMs: number, tally: Tally): Promise<void>;
  /**
   * Begins so many purchases per second, whether the earlier ones have ended or not, until `untilMs`; resolves when all
   * have ended. Above `maxInFlightCount` the next ones wait.
   */
  pace(perSecond: number, maxInFlightCount: number, untilMs: number, tally: Tally): Promise<void>;
  close(): void;
}

/** Calls in a row that make one purchase, each with the requests that purchases take in turn. */
export type Steps = readonly (readonly RequestTemplate[])[];

interface Call {
  readonly purchase: number;
  readonly step: number;
  /** When the first call of the purchase was sent. */
  readonly sentMs: number;
  hasMessage: boolean;
}

/** Our side of the peer's flow control: after so many bytes of data, which alone count, it is told to go on. */
const windowStepBytes = 1 << 24;
/** Half of what a server takes before it has read anything, so the server's windows need no watching. */
const maxInFlightBytes = 32_768;
/** A prime: purchases go through the requests of a step in an order without neighbours. */
const requestStride = 7919;
const paceMs = 1;

/** What became of a purchase. */
type Outcome = "done" | "refused" | "busy" | "failed";

/** The code of HTTP/2 for a stream that was not looked at: clients of gRPC send it again by themselves. */
const refusedStream = 7;
/** The setting of HTTP/2 that says how many streams the peer takes at a time, and how long one setting is. */
const maxStreamsSetting = { id: 3, bytes: 6 };

/** Opens a connection. `nextPurchase` numbers the purchases of all connections; undefined: none is to follow. */
export async function openLoadConnection(
  port: number,
  steps: Steps,
  nextPurchase: () => number | undefined,
): Promise<LoadConnection> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  return new Http2Connection(socket, steps, nextPurchase);
}

class Http2Connection implements LoadConnection {
  readonly #socket: Socket;
  readonly #steps: Steps;
  readonly #nextPurchase: () => number | undefined;
  readonly #calls = new Map<number, Call>();
  #stream = 1;
  readonly #frames = new FrameReader((bytes, offset, end) => this.#take(bytes, offset, end));
  #receivedBytes = 0;
  readonly #following: Call[] = [];
  /** Until when there are as many as wanted. */
  #refillUntilMs = 0;
  #wantedInFlightCount = 0;
  /** How many calls at a time the server takes. */
  #maxStreamCount = Number.POSITIVE_INFINITY;
  #isPacing = false;
  #tally = emptyTally();
  #done = Promise.withResolvers<void>();

  constructor(socket: Socket, steps: Steps, nextPurchase: () => number | undefined) {
    this.#socket = socket;
    this.#steps = steps;
    this.#nextPurchase = nextPurchase;
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("error", (error) => this.#done.reject(error));
    socket.on("close", () => this.#done.reject(new Error("the server closed the connection")));
    socket.write(opening());
    // Until a run waits for it.
    this.#done.promise.catch(() => {});
  }

  run(inFlightCount: number, untilMs: number, tally: Tally): Promise<void> {
    this.#start(inFlightCount, tally);
    this.#refillUntilMs = untilMs;
    this.#begin(this.#placeCount);
    return this.#done.promise;
  }

  async pace(perSecond: number, maxInFlightCount: number, untilMs: number, tally: Tally): Promise<void> {
    this.#start(maxInFlightCount, tally);
    this.#refillUntilMs = 0;
    this.#isPacing = true;
    const lost = this.#done.promise;
    const startedMs = performance.now();
    let begunCount = 0;
    for (let nowMs = startedMs; nowMs < untilMs; nowMs = performance.now()) {
      const dueCount = Math.floor(((nowMs - startedMs) / 1000) * perSecond);
      const count = Math.min(dueCount - begunCount, this.#placeCount);
      if (count > 0) {
        this.#begin(count);
        begunCount += count;
      }
      await Promise.race([sleep(paceMs), lost]);
    }
    this.#isPacing = false;
    this.#finish();
    return lost;
  }

  close(): void {
    this.#done.promise.catch(() => {});
    this.#socket.destroy();
  }

  #start(inFlightCount: number, tally: Tally): void {
    const largest = Math.max(...this.#steps.flat().map(({ dataLength }) => dataLength));
    if (inFlightCount * largest > maxInFlightBytes) {
      throw new Error("more in flight than a server's first window takes");
    }
    this.#tally = tally;
    this.#wantedInFlightCount = inFlightCount;
    this.#done = Promise.withResolvers();
  }

  /** How many purchases may be begun: as clients of gRPC do, what the server does not take at a time is kept back. */
  get #placeCount(): number {
    return Math.max(0, Math.min(this.#wantedInFlightCount, this.#maxStreamCount) - this.#calls.size);
  }

  #begin(count: number): void {
    if (count === 0) {
      return;
    }
    const sentMs = performance.now();
    const calls: Call[] = [];
    for (let purchase = this.#nextPurchase(); purchase !== undefined; purchase = this.#nextPurchase()) {
      calls.push({ purchase, step: 0, sentMs, hasMessage: false });
      if (calls.length === count) {
        break;
      }
    }
    this.#send(calls);
  }

  #send(calls: readonly Call[]): void {
    const templates = calls.map(({ purchase, step }) => {
      const requests = this.#steps[step] as readonly RequestTemplate[];
      return requests[(purchase * requestStride) % requests.length] as RequestTemplate;
    });
    const bytes = Buffer.allocUnsafe(templates.reduce((sum, { byteLength }) => sum + byteLength, 0));
    let offset = 0;
    for (const [index, call] of calls.entries()) {
      const template = templates[index] as RequestTemplate;
      template.write(bytes, offset, this.#stream, call.purchase);
      offset += template.byteLength;
      this.#calls.set(this.#stream, call);
      this.#stream += 2;
    }
    this.#socket.write(bytes);
  }

  #receive(chunk: Buffer): void {
    this.#frames.read(chunk);
    this.#openWindow();
    this.#goOn();
  }

  #take(bytes: Buffer, offset: number, end: number): void {
    const type = bytes[offset + 3];
    const flags = bytes[offset + 4] as number;
    const stream = bytes.readUInt32BE(offset + 5);
    if (type === frameType.data) {
      const call = this.#calls.get(stream);
      this.#receivedBytes += end - offset - frameHeaderBytes;
      if (call !== undefined && end > offset + frameHeaderBytes) {
        call.hasMessage = true;
      }
    } else if (type === frameType.headers && (flags & flag.endStream) !== 0) {
      this.#end(stream, bytes.subarray(offset + frameHeaderBytes, end));
    } else if (type === frameType.reset) {
      this.#end(stream, bytes.readUInt32BE(offset + frameHeaderBytes) === refusedStream ? "busy" : "failed");
    } else if (type === frameType.settings && (flags & flag.ack) === 0) {
      this.#takeSettings(bytes.subarray(offset + frameHeaderBytes, end));
      this.#socket.write(frame(frameType.settings, flag.ack, 0));
    } else if (type === frameType.ping && (flags & flag.ack) === 0) {
      this.#socket.write(frame(frameType.ping, flag.ack, 0, bytes.subarray(offset + frameHeaderBytes, end)));
    } else if (type === frameType.goAway) {
      this.#done.reject(new Error("the server sent GOAWAY"));
    }
  }

  #takeSettings(settings: Buffer): void {
    for (let offset = 0; offset < settings.length; offset += maxStreamsSetting.bytes) {
      if (settings.readUInt16BE(offset) === maxStreamsSetting.id) {
        this.#maxStreamCount = settings.readUInt32BE(offset + 2);
      }
    }
  }

  #end(stream: number, trailers: Buffer | Outcome): void {
    const call = this.#calls.get(stream);
    if (call === undefined) {
      return;
    }
    this.#calls.delete(stream);
    const outcome = typeof trailers === "string" ? trailers : outcomeOf(call, trailers);
    if (outcome === "done" && call.step + 1 < this.#steps.length) {
      this.#following.push({ ...call, step: call.step + 1, hasMessage: false });
      return;
    }
    this.#tally[`${outcome}Count`] += 1;
    const nowMs = performance.now();
    if (outcome === "done" || outcome === "refused") {
      this.#tally.latenciesMs.push(nowMs - call.sentMs);
      this.#tally.endedAtMs.push(nowMs);
    } else if (outcome === "busy") {
      this.#tally.busyLatenciesMs.push(nowMs - call.sentMs);
    }
  }

  #goOn(): void {
    if (this.#following.length > 0) {
      this.#send(this.#following.splice(0));
    }
    if (performance.now() < this.#refillUntilMs) {
      this.#begin(this.#placeCount);
    }
    this.#finish();
  }

  #finish(): void {
    if (this.#calls.size === 0 && !this.#isPacing) {
      this.#done.resolve();
    }
  }

  #openWindow(): void {
    if (this.#receivedBytes >= windowStepBytes) {
      this.#socket.write(windowUpdate(this.#receivedBytes));
      this.#receivedBytes = 0;
    }
  }
}

/** A unary call has a message exactly when its status is OK, so the trailers of most calls need no reading. */
function outcomeOf(call: Call, trailers: Buffer): Outcome {
  if (call.hasMessage) {
    return "done";
  }
  switch (readGrpcStatus(trailers)) {
    case status.FAILED_PRECONDITION:
      return "refused";
    case status.ABORTED:
    case status.RESOURCE_EXHAUSTED:
      return "busy";
    default:
      return "failed";
  }
}
