/**
 * The little of HTTP/2 that a caller of unary gRPC needs (RFC 9113, RFC 7541). Requests are whole frames made beforehand,
 * in which only the stream's number and one id change, so a call costs its caller a copy of some 300 bytes.
 */

/** Frame types. */
export const frameType = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 } as const;
/** Frame flags. */
export const flag = { endStream: 1, ack: 1, endHeaders: 4 } as const;

/** Bytes of a frame's header. */
export const frameHeaderBytes = 9;

/** Most the peer may send without hearing from us: the largest window there is. */
export const windowBytes = 0x7fff_ffff;

const settingId = { headerTableSize: 1, enablePush: 2, initialWindowSize: 4 } as const;
/** What every connection's window starts with. */
const firstWindowBytes = 65_535;

/** Makes one frame. */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const bytes = Buffer.alloc(frameHeaderBytes + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes.writeUInt8(type, 3);
  bytes.writeUInt8(flags, 4);
  bytes.writeUInt32BE(stream, 5);
  bytes.set(payload, frameHeaderBytes);
  return bytes;
}

/** What opens a connection: the preface, settings that keep the server's headers simple, and the largest windows. */
export function opening(): Buffer {
  const settings = Buffer.alloc(18);
  const pairs = [
    [settingId.headerTableSize, 0],
    [settingId.enablePush, 0],
    [settingId.initialWindowSize, windowBytes],
  ] as const;
  for (const [index, [id, value]] of pairs.entries()) {
    settings.writeUInt16BE(id, index * 6);
    settings.writeUInt32BE(value, index * 6 + 2);
  }
  return Buffer.concat([
    Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    frame(frameType.settings, 0, 0, settings),
    windowUpdate(windowBytes - firstWindowBytes),
  ]);
}

/** Takes what comes over a connection apart into frames; the beginning of one waits for the rest of it. */
export class FrameReader {
  readonly #take: (bytes: Buffer, offset: number, end: number) => void;
  #rest: Buffer | undefined;

  /** `take` is given each frame, header included, as a range of bytes that it must not keep. */
  constructor(take: (bytes: Buffer, offset: number, end: number) => void) {
    this.#take = take;
  }

  read(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    let offset = 0;
    while (bytes.length - offset >= frameHeaderBytes) {
      const end = offset + frameHeaderBytes + bytes.readUIntBE(offset, 3);
      if (end > bytes.length) {
        break;
      }
      this.#take(bytes, offset, end);
      offset = end;
    }
    this.#rest = offset === bytes.length ? undefined : bytes.subarray(offset);
  }
}

/** Lets the peer send so many bytes more on the connection. */
export function windowUpdate(byteCount: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(byteCount);
  return frame(frameType.windowUpdate, 0, 0, payload);
}

/** A request whose bytes are ready but for what differs from call to call. */
export interface RequestTemplate {
  readonly byteLength: number;
  /** Bytes that count against the server's window. */
  readonly dataLength: number;
  /** Copies the request to `offset` of `into`, for a stream, with the last 12 characters of each id as a hexadecimal number. */
  write(into: Buffer, offset: number, stream: number, call: number): void;
}

/** What a template is made of. */
export interface RequestOptions {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly authority: string;
  /** The header `authorization`; undefined: none. */
  readonly authorization?: string | undefined;
  /** The serialised request. */
  readonly message: Uint8Array;
  /** Ids in the message that must be others in each call; each ends with 12 hexadecimal digits. */
  readonly ids: readonly string[];
}

const idDigits = 12;

/** Makes a request ready to be sent many times. */
export function createRequestTemplate(options: RequestOptions): RequestTemplate {
  const { message, ids } = options;
  const headers = frame(frameType.headers, flag.endHeaders, 0, headerBlock(options));
  const data = frame(frameType.data, flag.endStream, 0, lengthPrefixed(message));
  const bytes = Buffer.concat([headers, data]);
  const digitsAt = ids.map((id) => {
    const idAt = bytes.indexOf(id);
    if (idAt < 0) {
      throw new Error("the message does not contain its id");
    }
    return idAt + id.length - idDigits;
  });
  return {
    byteLength: bytes.length,
    dataLength: data.length - frameHeaderBytes,
    write: (into, offset, stream, call) => {
      bytes.copy(into, offset);
      into.writeUInt32BE(stream, offset + 5);
      into.writeUInt32BE(stream, offset + headers.length + 5);
      if (digitsAt.length > 0) {
        const digits = call.toString(16).padStart(idDigits, "0");
        for (const at of digitsAt) {
          into.write(digits, offset + at, "latin1");
        }
      }
    },
  };
}

/** A message as gRPC sends it: not compressed, its length before it. */
export function lengthPrefixed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** `grpc-status` in a block of headers: as it is, and in the Huffman code of RFC 7541. */
const statusNames = [Buffer.from("grpc-status"), Buffer.from("9acac8b21234da8f", "hex")];

/**
 * Reads `grpc-status` from the headers that end a call, undefined when it is not there. No table has it, and its one or two
 * digits are no shorter in the Huffman code, so nobody encodes them.
 */
export function readGrpcStatus(block: Buffer): number | undefined {
  for (const name of statusNames) {
    const nameAt = block.indexOf(name);
    if (nameAt >= 0) {
      const lengthAt = nameAt + name.length;
      const length = block[lengthAt] as number;
      return Number(block.toString("latin1", lengthAt + 1, lengthAt + 1 + length));
    }
  }
  return undefined;
}

/** Two fields of the static table (`POST`, `http`), the rest as plain literals that enter no table. */
function headerBlock({ path, authority, authorization }: RequestOptions): Buffer {
  const pathName = 4;
  const authorityName = 1;
  return Buffer.concat([
    Buffer.from([0x83, 0x86, pathName]),
    text(path),
    Buffer.from([authorityName]),
    text(authority),
    ...[
      ["content-type", "application/grpc"],
      ["te", "trailers"],
      ["user-agent", "holdfast-bench"],
      ["grpc-accept-encoding", "identity"],
      ...(authorization === undefined ? [] : [["authorization", authorization]]),
    ].flatMap(([name = "", value = ""]) => [Buffer.from([0]), text(name), text(value)]),
  ]);
}

function text(value: string): Buffer {
  return Buffer.concat([textLength(value.length), Buffer.from(value, "latin1")]);
}

/** As an integer of RFC 7541, section 5.1: seven bits, and what does not fit into them in steps of seven more. */
function textLength(length: number): Buffer {
  const most = 127;
  if (length < most) {
    return Buffer.from([length]);
  }
  const bytes = [most];
  let rest = length - most;
  for (; rest > most; rest >>>= 7) {
    bytes.push((rest & most) | 128);
  }
  return Buffer.from([...bytes, rest]);
}
