import { once } from "node:events";
import { connect, type Socket } from "node:net";
import {
  createRequestTemplate,
  FrameReader,
  flag,
  frame,
  frameHeaderBytes,
  frameType,
  opening,
  readGrpcStatus,
  windowUpdate,
} from "../frames.ts";
import { readWatchMessage, type WatchListener } from "./watch-message.ts";

/** What is watched, and where from. */
export interface Watching {
  /** Of the gRPC door. */
  readonly port: number;
  /** `/package.Service/Method`. */
  readonly path: string;
  /** The serialised request: the same for all. */
  readonly message: Uint8Array;
}

/** After so many bytes of data, which alone count, the server is told to go on. */
const windowStepBytes = 1 << 24;
/** The flag and the length before a gRPC message. */
const prefixBytes = 5;

/**
 * Opens one connection with a watch for each listener; `onEnd` hears of anything that ends one of them. Resolves with what
 * closes the connection.
 */
export async function openWatchConnection(
  { port, path, message }: Watching,
  listeners: readonly WatchListener[],
  onEnd: (error: Error) => void,
): Promise<() => void> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  const connection = new WatchConnection(socket, listeners, onEnd);
  socket.on("error", onEnd);
  socket.on("close", () => onEnd(new Error("the server closed a watch's connection")));
  socket.on("data", (chunk) => connection.receive(chunk));
  const request = createRequestTemplate({ path, authority: `127.0.0.1:${port}`, message, ids: [] });
  const bytes = Buffer.alloc(request.byteLength * listeners.length);
  for (const index of listeners.keys()) {
    request.write(bytes, index * request.byteLength, streamOf(index), 0);
  }
  socket.write(Buffer.concat([opening(), bytes]));
  return () => {
    socket.removeAllListeners("close");
    socket.destroy();
  };
}

const streamOf = (index: number): number => 2 * index + 1;

class WatchConnection {
  readonly #socket: Socket;
  readonly #listeners: readonly WatchListener[];
  readonly #onEnd: (error: Error) => void;
  /** By stream, what has come of a message whose end has not. */
  readonly #parts = new Map<number, Buffer>();
  readonly #frames = new FrameReader((bytes, offset, end) => this.#take(bytes, offset, end));
  #receivedBytes = 0;

  constructor(socket: Socket, listeners: readonly WatchListener[], onEnd: (error: Error) => void) {
    this.#socket = socket;
    this.#listeners = listeners;
    this.#onEnd = onEnd;
  }

  receive(chunk: Buffer): void {
    this.#frames.read(chunk);
    if (this.#receivedBytes >= windowStepBytes) {
      this.#socket.write(windowUpdate(this.#receivedBytes));
      this.#receivedBytes = 0;
    }
  }

  #take(bytes: Buffer, offset: number, end: number): void {
    const type = bytes[offset + 3];
    const flags = bytes[offset + 4] as number;
    const stream = bytes.readUInt32BE(offset + 5);
    const payload = bytes.subarray(offset + frameHeaderBytes, end);
    if (type === frameType.data) {
      this.#receivedBytes += payload.length;
      this.#takeData(stream, payload);
    } else if (type === frameType.headers && (flags & flag.endStream) !== 0) {
      this.#onEnd(new Error(`a watch ended with status ${readGrpcStatus(payload)}`));
    } else if (type === frameType.reset || type === frameType.goAway) {
      const code = payload.readUInt32BE(payload.length >= 8 ? 4 : 0);
      this.#onEnd(
        new Error(`the server broke ${type === frameType.reset ? "a watch" : "a connection"} off with error ${code}`),
      );
    } else if (type === frameType.settings && (flags & flag.ack) === 0) {
      this.#socket.write(frame(frameType.settings, flag.ack, 0));
    } else if (type === frameType.ping && (flags & flag.ack) === 0) {
      this.#socket.write(frame(frameType.ping, flag.ack, 0, payload));
    }
  }

  /** Reads the messages that are complete, and keeps the rest for the frames to come. */
  #takeData(stream: number, payload: Buffer): void {
    const part = this.#parts.get(stream);
    const bytes = part === undefined ? payload : Buffer.concat([part, payload]);
    const listener = this.#listeners[(stream - 1) / 2] as WatchListener;
    let offset = 0;
    while (bytes.length - offset >= prefixBytes) {
      const start = offset + prefixBytes;
      const end = start + bytes.readUInt32BE(offset + 1);
      if (end > bytes.length) {
        break;
      }
      readWatchMessage(bytes, start, end, listener);
      offset = end;
    }
    if (offset < bytes.length) {
      // A copy: a view would keep all of the chunk.
      this.#parts.set(stream, Buffer.from(bytes.subarray(offset)));
    } else if (part !== undefined) {
      this.#parts.delete(stream);
    }
  }
}
