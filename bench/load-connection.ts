import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { flag, frame, frameHeaderBytes, frameType, opening, type RequestTemplate, windowUpdate } from "./frames.ts";

/** What a connection counts while it is under load. */
export interface Tally {
  /** Calls that were answered with a message. */
  successCount: number;
  /** Calls that ended without one. */
  failureCount: number;
  /** Of the successes. */
  readonly latenciesMs: number[];
}

/** One connection that keeps a number of calls in flight. */
export interface LoadConnection {
  /** Sends the next call for each that ends, until `untilMs` on the clock of `performance`; resolves when all have ended. */
  run(inFlightCount: number, untilMs: number, tally: Tally): Promise<void>;
  close(): void;
}

interface Call {
  readonly sentMs: number;
  hasMessage: boolean;
}

/** Our side of the peer's flow control: after so many bytes it is told to go on. */
const windowStepBytes = 1 << 24;

/**
 * Opens a connection. `nextCall` numbers the calls of all connections. The requests in flight must stay below the 64 KiB
 * that a server takes before it has read anything, so the server's windows need no watching.
 */
export async function openLoadConnection(
  port: number,
  template: RequestTemplate,
  nextCall: () => number,
): Promise<LoadConnection> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  return new Http2Connection(socket, template, nextCall);
}

class Http2Connection implements LoadConnection {
  readonly #socket: Socket;
  readonly #template: RequestTemplate;
  readonly #nextCall: () => number;
  readonly #calls = new Map<number, Call>();
  #stream = 1;
  #rest: Buffer | undefined;
  #receivedBytes = 0;
  #ended = 0;
  #untilMs = 0;
  #tally: Tally = { successCount: 0, failureCount: 0, latenciesMs: [] };
  #done = Promise.withResolvers<void>();

  constructor(socket: Socket, template: RequestTemplate, nextCall: () => number) {
    this.#socket = socket;
    this.#template = template;
    this.#nextCall = nextCall;
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("error", (error) => this.#done.reject(error));
    socket.on("close", () => this.#done.reject(new Error("the server closed the connection")));
    socket.write(opening());
    // Until a run waits for it.
    this.#done.promise.catch(() => {});
  }

  run(inFlightCount: number, untilMs: number, tally: Tally): Promise<void> {
    if (inFlightCount * this.#template.byteLength > 32_768) {
      throw new Error("more in flight than a server's first window takes");
    }
    this.#untilMs = untilMs;
    this.#tally = tally;
    this.#done = Promise.withResolvers();
    this.#send(inFlightCount);
    return this.#done.promise;
  }

  close(): void {
    this.#done.promise.catch(() => {});
    this.#socket.destroy();
  }

  #send(count: number): void {
    const { byteLength } = this.#template;
    const bytes = Buffer.allocUnsafe(count * byteLength);
    const sentMs = performance.now();
    for (let index = 0; index < count; index += 1) {
      this.#template.write(bytes, index * byteLength, this.#stream, this.#nextCall());
      this.#calls.set(this.#stream, { sentMs, hasMessage: false });
      this.#stream += 2;
    }
    this.#socket.write(bytes);
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    let offset = 0;
    this.#ended = 0;
    while (bytes.length - offset >= frameHeaderBytes) {
      const end = offset + frameHeaderBytes + bytes.readUIntBE(offset, 3);
      if (end > bytes.length) {
        break;
      }
      this.#take(bytes, offset, end);
      offset = end;
    }
    this.#rest = offset === bytes.length ? undefined : bytes.subarray(offset);
    this.#openWindow(chunk.length);
    this.#goOn();
  }

  #take(bytes: Buffer, offset: number, end: number): void {
    const type = bytes[offset + 3];
    const flags = bytes[offset + 4] as number;
    const stream = bytes.readUInt32BE(offset + 5);
    if (type === frameType.data) {
      const call = this.#calls.get(stream);
      if (call !== undefined && end > offset + frameHeaderBytes) {
        call.hasMessage = true;
      }
    }
    if (type === frameType.reset || (type === frameType.headers && (flags & flag.endStream) !== 0)) {
      this.#end(stream);
    } else if (type === frameType.settings && (flags & flag.ack) === 0) {
      this.#socket.write(frame(frameType.settings, flag.ack, 0));
    } else if (type === frameType.ping && (flags & flag.ack) === 0) {
      this.#socket.write(frame(frameType.ping, flag.ack, 0, bytes.subarray(offset + frameHeaderBytes, end)));
    } else if (type === frameType.goAway) {
      this.#done.reject(new Error("the server sent GOAWAY"));
    }
  }

  /** A unary call has a message exactly when its status is OK; so the trailers need no reading. */
  #end(stream: number): void {
    const call = this.#calls.get(stream);
    if (call === undefined) {
      return;
    }
    this.#calls.delete(stream);
    this.#ended += 1;
    if (call.hasMessage) {
      this.#tally.successCount += 1;
      this.#tally.latenciesMs.push(performance.now() - call.sentMs);
    } else {
      this.#tally.failureCount += 1;
    }
  }

  #goOn(): void {
    if (this.#ended > 0 && performance.now() < this.#untilMs) {
      this.#send(this.#ended);
    } else if (this.#calls.size === 0) {
      this.#done.resolve();
    }
  }

  #openWindow(byteCount: number): void {
    this.#receivedBytes += byteCount;
    if (this.#receivedBytes >= windowStepBytes) {
      this.#socket.write(windowUpdate(this.#receivedBytes));
      this.#receivedBytes = 0;
    }
  }
}
