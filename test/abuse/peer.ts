import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { FrameReader, flag, frame, frameHeaderBytes, frameType, windowUpdate } from "../../bench/frames.ts";

/** What a server sent. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** How a peer behaves. */
export interface PeerOptions {
  readonly port: number;
  /** The CA to check a server over TLS by. Undefined: without TLS. */
  readonly ca?: string | Buffer | undefined;
  /** What the server may send of each stream before it is told to go on, which it never is. Default 65,535. */
  readonly windowBytes?: number;
  /** False: pings are not answered. Default true. */
  readonly answersPings?: boolean;
  /** False: the server's settings are not answered. Default true. */
  readonly answersSettings?: boolean;
}

/** A connection of HTTP/2 that does what it is told, however wrong, and never closes its own side. */
export interface Peer {
  readonly socket: Socket;
  /** Everything that came, in order; DATA without its payload. */
  readonly frames: readonly Frame[];
  /** Writes bytes, or frames, as they are. */
  send(...bytes: Uint8Array[]): void;
  /** Resolves with the first frame of a type, also when it has come already. Rejects when the connection ends before. */
  next(type: number): Promise<Frame>;
  /** Resolves with the frame that ends a stream. Rejects when the connection ends before. Its frames are kept no longer. */
  endOf(stream: number): Promise<Frame>;
  /** Resolves when the server has closed its side. */
  readonly ended: Promise<void>;
  /** Resolves when the connection is gone as a whole. */
  readonly gone: Promise<void>;
}

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const headerTableSize = 1;
const initialWindowSize = 4;
const connectionWindowBytes = 65_535;
const largestWindowBytes = 0x7fff_ffff;
const knockMs = 20;

/** What a socket is opened with. */
export interface SocketOptions extends Pick<PeerOptions, "port" | "ca"> {
  /** What is asked for over TLS. Default "h2". */
  readonly protocol?: "h2" | "http/1.1";
}

/** Opens a socket that stays open when the other side ends. */
export async function openSocket({ port, ca, protocol = "h2" }: SocketOptions): Promise<Socket> {
  const options = { port, host: "127.0.0.1", allowHalfOpen: true };
  const socket = ca === undefined ? connectTcp(options) : connectTls({ ...options, ca, ALPNProtocols: [protocol] });
  // Connections are cut here on purpose.
  socket.on("error", () => undefined);
  // One that is refused, or cut in its handshake, is a socket too, that is closed.
  await Promise.race([once(socket, ca === undefined ? "connect" : "secureConnect"), once(socket, "close")]).catch(
    ignore,
  );
  return socket;
}

/** Connects, and sends the preface and the settings. */
export async function openPeer(options: PeerOptions): Promise<Peer> {
  const { windowBytes = 65_535, answersPings = true, answersSettings = true } = options;
  const socket = await openSocket(options);
  const frames: Frame[] = [];
  const ended = once(socket, "end").then(() => undefined, ignore);
  const gone = once(socket, "close").then(() => undefined, ignore);
  // Only who writes learns that a connection which the other side has ended is gone.
  void ended.then(() => {
    const knocking = setInterval(() => socket.write(frame(frameType.ping, 0, 0, Buffer.alloc(8))), knockMs);
    socket.once("close", () => clearInterval(knocking));
  });
  const waiting = new Set<() => void>();
  const reader = new FrameReader((bytes, offset, end) => {
    const type = bytes[offset + 3] as number;
    const flags = bytes[offset + 4] as number;
    const payload = Buffer.from(bytes.subarray(offset + frameHeaderBytes, type === frameType.data ? offset : end));
    frames.push({ type, flags, stream: bytes.readUInt32BE(offset + 5), payload });
    if (answersPings && type === frameType.ping && (flags & flag.ack) === 0) {
      socket.write(frame(frameType.ping, flag.ack, 0, payload));
    }
    if (answersSettings && type === frameType.settings && (flags & flag.ack) === 0) {
      socket.write(frame(frameType.settings, flag.ack, 0));
    }
    for (const look of waiting) look();
  });
  socket.on("data", (chunk: Buffer) => reader.read(chunk));
  const settings = Buffer.alloc(12);
  // No table: the status of a call can be read without one.
  settings.writeUInt16BE(headerTableSize, 0);
  settings.writeUInt16BE(initialWindowSize, 6);
  settings.writeUInt32BE(windowBytes, 8);
  socket.write(Buffer.concat([preface, frame(frameType.settings, 0, 0, settings)]));
  // Else all calls together may not be sent more than 64 KiB.
  if (windowBytes > connectionWindowBytes) socket.write(windowUpdate(largestWindowBytes - connectionWindowBytes));

  function waitFor(isWanted: (frame: Frame) => boolean): Promise<Frame> {
    return new Promise((resolve, reject) => {
      const fail = (): void => reject(new Error("the connection ended"));
      const look = (): void => {
        const found = frames.find(isWanted);
        if (found !== undefined) {
          waiting.delete(look);
          socket.off("close", fail);
          resolve(found);
        }
      };
      waiting.add(look);
      socket.once("close", fail);
      look();
    });
  }

  async function endOf(stream: number): Promise<Frame> {
    const last = await waitFor((each) => each.stream === stream && (each.type === frameType.reset || isLast(each)));
    frames.splice(0, frames.length, ...frames.filter((each) => each.stream !== stream));
    return last;
  }

  return {
    socket,
    frames,
    send: (...bytes) => void socket.write(Buffer.concat(bytes)),
    next: (type) => waitFor((each) => each.type === type),
    endOf,
    ended,
    gone,
  };
}

function isLast({ type, flags }: Frame): boolean {
  return (type === frameType.headers || type === frameType.data) && (flags & flag.endStream) !== 0;
}

/** HEADERS that open a call. Without END_STREAM, unless told otherwise. */
export function callHeaders(stream: number, fields: readonly (readonly [string, string])[], flags = 0): Buffer {
  return frame(frameType.headers, flag.endHeaders | flags, stream, encodeHeaders(fields));
}

/** The header fields of a call over gRPC. */
export function grpcFields(path: string, more: readonly (readonly [string, string])[] = []) {
  return [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ...more,
  ] as const;
}

/** A RST_STREAM with a code, CANCEL when absent. */
export function resetFrame(stream: number, code = 8): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(code);
  return frame(frameType.reset, 0, stream, payload);
}

/** Literals that enter no table (RFC 7541), which is all that a peer needs to say. */
export function encodeHeaders(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

function ignore(): void {}
