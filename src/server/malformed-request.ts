import { type DescMethod, fromBinary, fromJsonString } from "@bufbuild/protobuf";
import { createContextValues } from "@connectrpc/connect";
import {
  createAsyncIterable,
  encodeEnvelope,
  type UniversalHandler,
  type UniversalServerRequest,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { Refusal } from "../refusal.ts";
import { type HttpExchange, httpExchange } from "./http-call.ts";
import { MAX_REQUEST_BYTES } from "./limits.ts";
import { validationFailed } from "./validation-interceptor.ts";

/** Zeros are written, unknown fields refused: a misspelt `requestID` must not be ignored. Nor is broken UTF-8 mended. */
export const JSON_OPTIONS = {
  alwaysEmitImplicit: true,
  ignoreUnknownFields: false,
  textDecoder: new TextDecoder("utf-8", { fatal: true }),
};

/** Compressions of requests and responses. */
export const COMPRESSIONS = [compressionGzip, compressionBrotli];

const ENVELOPE_HEADER_BYTES = 5;
const BODY_HEADERS = ["content-length", "content-encoding", "connect-content-encoding", "grpc-encoding"];

/**
 * Has connect answer a call, and sees to it that a request connect cannot parse is refused like any other bad request.
 * connect answers those by itself: INTERNAL for binary messages, INVALID_ARGUMENT without details for JSON. It offers no
 * hook, but it does know how to write a refusal in each of its protocols. So the call is made once more with an empty
 * request, and the refusal thrown in place of its handler.
 */
export async function handle(handler: UniversalHandler, req: UniversalServerRequest): Promise<UniversalServerResponse> {
  const body = new RecordedBody(req.body as AsyncIterable<Uint8Array>);
  const exchange: HttpExchange = { reached: false, refusal: undefined };
  const contextValues = createContextValues().set(httpExchange, exchange);
  const response = await handler({ ...req, body, contextValues });
  if (exchange.reached) {
    return response;
  }
  exchange.refusal = await findFault(handler.method, req, body);
  return exchange.refusal === undefined ? response : await handler({ ...withEmptyMessage(req), contextValues });
}

/** A body that passes through and stays readable. */
class RecordedBody implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterable<Uint8Array>;
  readonly #chunks: Uint8Array[] = [];
  /** True when the whole body was read. */
  complete = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.#source) {
      this.#chunks.push(chunk);
      yield chunk;
    }
    this.complete = true;
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#chunks);
  }
}

/** The refusal of a request that cannot be parsed; undefined when connect had another reason not to call the handler. */
async function findFault(
  method: DescMethod,
  req: UniversalServerRequest,
  body: RecordedBody,
): Promise<Refusal | undefined> {
  const message = await readMessage(req, body);
  if (message === undefined) {
    return undefined;
  }
  const { typeName } = method.input;
  try {
    if (isJson(req)) {
      fromJsonString(method.input, JSON_OPTIONS.textDecoder.decode(message), JSON_OPTIONS);
    } else {
      fromBinary(method.input, message);
    }
    return undefined;
  } catch (error) {
    const why = isJson(req) && error instanceof Error ? `: ${error.message}` : "";
    return validationFailed([{ field: "", description: `the request is not a valid ${typeName}${why}` }]);
  }
}

/** The serialised request message; undefined when it is not there as a whole, or too large. */
async function readMessage(req: UniversalServerRequest, body: RecordedBody): Promise<Uint8Array | undefined> {
  if (req.method === "GET") {
    const { searchParams } = new URL(req.url);
    const message = searchParams.get("message") ?? "";
    const bytes = Buffer.from(message, searchParams.get("base64") === "1" ? "base64url" : "utf8");
    return decompress(bytes, searchParams.get("compression"));
  }
  const bytes = body.bytes();
  if (bytes.byteLength > MAX_REQUEST_BYTES) {
    return undefined;
  }
  if (!isEnveloped(req)) {
    return body.complete ? decompress(bytes, req.header.get("content-encoding")) : undefined;
  }
  const [flags = 0] = bytes;
  const message = bytes.subarray(ENVELOPE_HEADER_BYTES);
  const isWhole =
    bytes.byteLength >= ENVELOPE_HEADER_BYTES &&
    new DataView(bytes.buffer, bytes.byteOffset).getUint32(1) === message.byteLength;
  if (!isWhole) {
    return undefined;
  }
  const encoding = req.header.get("connect-content-encoding") ?? req.header.get("grpc-encoding");
  return decompress(message, flags === 0 ? null : encoding);
}

async function decompress(bytes: Uint8Array, encoding: string | null): Promise<Uint8Array | undefined> {
  if (encoding === null || encoding === "identity") {
    return bytes;
  }
  try {
    return await COMPRESSIONS.find(({ name }) => name === encoding)?.decompress(bytes, MAX_REQUEST_BYTES);
  } catch {
    // Not compressed as it says, or too large: connect's answer stands.
    return undefined;
  }
}

function withEmptyMessage(req: UniversalServerRequest): UniversalServerRequest {
  const message = Buffer.from(isJson(req) ? "{}" : "");
  if (req.method === "GET") {
    const url = new URL(req.url);
    url.searchParams.set("message", message.toString());
    url.searchParams.delete("base64");
    url.searchParams.delete("compression");
    return { ...req, url: url.toString(), body: createAsyncIterable([]) };
  }
  const header = new Headers(req.header);
  for (const name of BODY_HEADERS) {
    header.delete(name);
  }
  return { ...req, header, body: createAsyncIterable([isEnveloped(req) ? encodeEnvelope(0, message) : message]) };
}

function isJson(req: UniversalServerRequest): boolean {
  const encoding =
    req.method === "GET" ? new URL(req.url).searchParams.get("encoding") : req.header.get("content-type");
  return /json/.test(encoding ?? "");
}

function isEnveloped(req: UniversalServerRequest): boolean {
  return /^application\/(connect\+|grpc-web)/.test(req.header.get("content-type") ?? "");
}
