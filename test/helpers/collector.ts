import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader } from "@bufbuild/protobuf/wire";

/** A span, as a collector gets it; ids in hexadecimal, the parent's empty where there is none. */
export interface CollectedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  /** The `tracestate` that it carries; empty: none. */
  readonly traceState: string;
  /** Those that are texts, and whole numbers in decimal; others are empty. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Whether its status is an error. */
  readonly hasFailed: boolean;
  /** `<trace>-<span>` */
  readonly links: readonly string[];
}

/** A collector of OpenTelemetry that takes OTLP over HTTP, in protobuf. */
export interface Collector {
  readonly url: string;
  readonly spans: readonly CollectedSpan[];
  stop(): Promise<void>;
}

/** Starts a collector on a free port. */
export async function startCollector(): Promise<Collector> {
  const spans: CollectedSpan[] = [];
  const server = createServer(async (req, res) => {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk);
    if (req.url === "/v1/traces") spans.push(...spansOf(Buffer.concat(chunks)));
    res.setHeader("content-type", "application/x-protobuf");
    res.end();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** Field numbers are those of opentelemetry/proto/trace/v1/trace.proto. */
function spansOf(request: Uint8Array): CollectedSpan[] {
  return fieldsOf(request, 1)
    .flatMap((resource) => fieldsOf(resource, 2))
    .flatMap((scope) => fieldsOf(scope, 2))
    .map((span) => ({
      traceId: hex(fieldsOf(span, 1)),
      spanId: hex(fieldsOf(span, 2)),
      traceState: text(fieldsOf(span, 3)),
      parentId: hex(fieldsOf(span, 4)),
      name: text(fieldsOf(span, 5)),
      attributes: Object.fromEntries(
        fieldsOf(span, 9).map((pair) => [text(fieldsOf(pair, 1)), attributeOf(fieldsOf(pair, 2)[0] ?? pair)]),
      ),
      hasFailed: numberOf(fieldsOf(span, 15)[0], 3) === 2,
      links: fieldsOf(span, 13).map((link) => `${hex(fieldsOf(link, 1))}-${hex(fieldsOf(link, 2))}`),
    }));
}

/** The values of a field that is a message, a text or bytes. */
function fieldsOf(message: Uint8Array, wanted: number): Uint8Array[] {
  const reader = new BinaryReader(message);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === wanted && type === 2) found.push(reader.bytes());
    else reader.skip(type, field);
  }
  return found;
}

/** An attribute's value. */
function attributeOf(value: Uint8Array): string {
  return text(fieldsOf(value, 1)) || String(numberOf(value, 3) ?? "");
}

/** The value of a field that is a whole number, such as an enum; undefined where there is none. */
function numberOf(message: Uint8Array | undefined, wanted: number): number | undefined {
  const reader = new BinaryReader(message ?? new Uint8Array());
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === wanted && type === 0) return Number(reader.int64());
    reader.skip(type, field);
  }
  return undefined;
}

function hex([bytes]: Uint8Array[]): string {
  return Buffer.from(bytes ?? []).toString("hex");
}

function text([bytes]: Uint8Array[]): string {
  return Buffer.from(bytes ?? []).toString();
}
