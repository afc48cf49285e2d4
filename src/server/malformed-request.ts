import {
  type DescField,
  type DescMessage,
  type DescMethod,
  fromBinary,
  fromJson,
  fromJsonString,
  type JsonObject,
  type JsonValue,
  ScalarType,
} from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { Code, ConnectError, createContextValues } from "@connectrpc/connect";
import {
  createAsyncIterable,
  encodeEnvelope,
  type UniversalHandler,
  type UniversalServerRequest,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { FieldViolation, Refusal } from "../refusal.ts";
import { type HttpExchange, httpExchange } from "./http-call.ts";
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

/** What is known of the connection that a request came over, and what of it is read. */
export interface HandleOptions extends Pick<HttpExchange, "certificate" | "ending"> {
  /** Largest request message, in bytes. */
  readonly maxBytes: number;
}

/**
 * Has connect answer a call, and sees to it that a request connect cannot parse is refused like any other bad request.
 * connect answers those by itself: INTERNAL for binary messages, and for gzip or base64 that is none, INVALID_ARGUMENT without
 * details for JSON. It offers no hook, but it does know how to write a refusal in each of its protocols. So the call is made once
 * more with an empty request, and the refusal thrown in place of its handler.
 */
export async function handle(
  handler: UniversalHandler,
  req: UniversalServerRequest,
  { maxBytes, ...connection }: HandleOptions,
): Promise<UniversalServerResponse> {
  const body = new RecordedBody(req.body as AsyncIterable<Uint8Array>);
  const exchange: HttpExchange = { reached: false, refusal: undefined, ...connection };
  const contextValues = createContextValues().set(httpExchange, exchange);
  const response = await handler({ ...req, body, contextValues });
  if (exchange.reached) {
    return response;
  }
  exchange.refusal = await findFault(handler.method, req, body, maxBytes);
  return exchange.refusal === undefined ? response : await handler({ ...withEmptyMessage(req), contextValues });
}

/**
 * A body that passes through and stays readable. Who stops to read it does not end it: Node takes that for a caller who is gone,
 * and the call would be cancelled.
 */
class RecordedBody implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterable<Uint8Array>;
  readonly #chunks: Uint8Array[] = [];
  /** True when the whole body was read. */
  complete = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    const chunks = this.#source[Symbol.asyncIterator]();
    for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
      this.#chunks.push(next.value);
      yield next.value;
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
  maxBytes: number,
): Promise<Refusal | undefined> {
  try {
    const message = await readMessage(req, body, maxBytes);
    const find = isJson(req) ? findJsonFault : findBinaryFault;
    const violation = message === undefined ? undefined : find(method.input, message);
    return violation === undefined ? undefined : validationFailed([violation]);
  } catch (error) {
    const description = `the request cannot be read: ${(error as Error).message}`;
    return validationFailed([{ field: "", description }]);
  }
}

function findBinaryFault(desc: DescMessage, message: Uint8Array): FieldViolation | undefined {
  const why = refusal(() => fromBinary(desc, message));
  return why === undefined ? undefined : { field: "", description: `the request is not a valid ${desc.typeName}` };
}

function findJsonFault(desc: DescMessage, message: Uint8Array): FieldViolation | undefined {
  try {
    const text = JSON_OPTIONS.textDecoder.decode(message);
    const why = refusal(() => fromJsonString(desc, text, JSON_OPTIONS));
    return why === undefined ? undefined : faultOf(desc, JSON.parse(text) as JsonValue, "", why);
  } catch (error) {
    // It is no text, or no JSON.
    return { field: "", description: `the request is not a valid ${desc.typeName}: ${(error as Error).message}` };
  }
}

/** What a decoder throws; undefined when it does not. */
function refusal(decode: () => unknown): string | undefined {
  try {
    decode();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Why the decoder refuses a value as such a message; undefined when it takes it. */
function refusedAs(desc: DescMessage, json: JsonValue): string | undefined {
  return refusal(() => fromJson(desc, json, JSON_OPTIONS));
}

/**
 * The first field of a refused JSON message that is refused for itself, by its path. The decoder names the field of a wrong
 * enum or duration nowhere, and of others without their place in the request; so every field is decoded once more, alone.
 */
function faultOf(desc: DescMessage, json: JsonValue, path: string, why: string): FieldViolation {
  const isObject = typeof json === "object" && json !== null && !Array.isArray(json);
  for (const [key, value] of isObject ? Object.entries(json) : []) {
    const whyField = refusedAs(desc, { [key]: value } satisfies JsonObject);
    if (whyField !== undefined) {
      const field = desc.fields.find(({ name, jsonName }) => name === key || jsonName === key);
      const at = path === "" ? (field?.name ?? key) : `${path}.${field?.name ?? key}`;
      return field === undefined
        ? { field: at, description: `is no field of ${desc.typeName}` }
        : faultOfField(field, value, at, whyField);
    }
  }
  return path !== "" && !isObject
    ? { field: path, description: "must be an object" }
    : {
        field: path,
        description: `${path === "" ? "the request" : ""} is not a valid ${desc.typeName}: ${why}`.trim(),
      };
}

function faultOfField(field: DescField, value: JsonValue, path: string, why: string): FieldViolation {
  const { message } = field;
  if (field.fieldKind === "list" && Array.isArray(value)) {
    const index = value.findIndex((item) => refusedAs(field.parent, { [field.name]: [item] }) !== undefined);
    const item = value[index];
    if (item !== undefined && item !== null) {
      const at = `${path}[${index}]`;
      return message === undefined || message.typeName.startsWith("google.protobuf.")
        ? { field: at, description: describe(field, item, why) }
        : faultOf(message, item, at, why);
    }
  }
  if (field.fieldKind === "message" && !field.message.typeName.startsWith("google.protobuf.")) {
    return faultOf(field.message, value, path, why);
  }
  return { field: path, description: describe(field, value, why) };
}

/** What a field of JSON has to be, where the decoder does not say it in a caller's words. */
function describe(field: DescField, value: JsonValue, why: string): string {
  if (field.enum !== undefined) {
    const names = field.enum.values.filter(({ number }) => number !== 0).map(({ name }) => name);
    return `must be one of ${names.join(", ")}`;
  }
  if (field.message?.typeName === "google.protobuf.Duration") {
    return 'must be seconds as text, such as "90s"';
  }
  if (field.message?.typeName === "google.protobuf.Timestamp") {
    return 'must be a time such as "2026-11-21T18:00:00Z"';
  }
  const isWhole = field.scalar === ScalarType.INT64 || field.scalar === ScalarType.INT32;
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (isWhole && !Number.isInteger(number)) {
    return "is not a whole number";
  }
  if (isWhole) {
    return typeof value === "string" && !/^-?\d+$/.test(value) ? "must be written in digits alone" : "is out of range";
  }
  return why.replace(/^cannot decode .+? from JSON: /, "");
}

/** The serialised request message; undefined when it is not there as a whole, or too large. Throws when it cannot be decoded. */
async function readMessage(
  req: UniversalServerRequest,
  body: RecordedBody,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  if (req.method === "GET") {
    const { searchParams } = new URL(req.url);
    const message = searchParams.get("message") ?? "";
    const bytes = searchParams.get("base64") === "1" ? base64Decode(message) : Buffer.from(message);
    return decompress(bytes, searchParams.get("compression"), maxBytes);
  }
  const bytes = body.bytes();
  if (bytes.byteLength > maxBytes) {
    return undefined;
  }
  if (!isEnveloped(req)) {
    return body.complete ? decompress(bytes, req.header.get("content-encoding"), maxBytes) : undefined;
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
  return decompress(message, flags === 0 ? null : encoding, maxBytes);
}

async function decompress(
  bytes: Uint8Array,
  encoding: string | null,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  if (encoding === null || encoding === "identity") {
    return bytes;
  }
  try {
    return await COMPRESSIONS.find(({ name }) => name === encoding)?.decompress(bytes, maxBytes);
  } catch (error) {
    if (ConnectError.from(error).code === Code.ResourceExhausted) {
      return undefined; // too large: connect's answer stands
    }
    throw new Error(`it is no ${encoding}`);
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
  return /json/i.test(encoding ?? "");
}

function isEnveloped(req: UniversalServerRequest): boolean {
  return /^application\/(connect\+|grpc-web)/i.test(req.header.get("content-type") ?? "");
}
