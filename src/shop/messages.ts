import { createHash } from "node:crypto";
import {
  create,
  type DescField,
  type DescMessage,
  type DescOneof,
  getOption,
  type Message,
  type MessageShape,
  ScalarType,
} from "@bufbuild/protobuf";
import { personal_data } from "../../gen/holdfast/v1/options_pb.js";
import { Refusal } from "../refusal.ts";

/**
 * Both directions between protobuf messages and the JSON of the log. The log's JSON has proto field names, times and
 * durations in milliseconds, 64-bit integers as numbers (all within 2^53-1) and enums as numbers; what a message does not
 * know is left alone, what the JSON lacks stays unset. Plans are compiled once per message type.
 */

type Json = Record<string, unknown>;

/** Reads messages of one type. */
interface Reader {
  /** There when all types are compiled that the message is made of; one of them may be its own. */
  read: (json: never) => Message;
}

const readers = new WeakMap<DescMessage, Reader>();

/** Builds a message from the JSON of a log event or one of its parts. */
export function messageFromLog<Desc extends DescMessage>(desc: Desc, json: object): MessageShape<Desc> {
  return readerOf(desc).read(json as never) as MessageShape<Desc>;
}

/**
 * Compiles one object literal with all fields of the message: with a closure for each field, after `create`, the answer to a
 * PlaceOrder took five times as long (2026-11).
 */
function readerOf(desc: DescMessage): Reader {
  const known = readers.get(desc);
  if (known !== undefined) {
    return known;
  }
  const reader: Reader = { read: notCompiled };
  readers.set(desc, reader);
  const children: Reader[] = [];
  const members = desc.members.map((member) => `${member.localName}: ${memberCode(member, children)}`);
  const code = `(json) => ({ $typeName: empty.$typeName, ${members.join(", ")} })`;
  reader.read = new Function("empty", "children", `return ${code}`)(create(desc), children);
  return reader;
}

/** The expression for a member of a message. It may name the message's `json`, an `empty` message, and `children`. */
function memberCode(member: DescField | DescOneof, children: Reader[]): string {
  if (member.kind === "oneof") {
    const choices = member.fields.map((field) => {
      const value = `json.${field.name}`;
      return `${value} != null ? { case: "${field.localName}", value: ${valueCode(field, value, children)} } : `;
    });
    return `${choices.join("")}{ case: undefined }`;
  }
  const value = `json.${member.name}`;
  if (member.fieldKind === "list") {
    return `${value} == null ? [] : ${value}.map((each) => ${valueCode(member, "each", children)})`;
  }
  const unset = member.fieldKind === "map" ? "{}" : `empty.${member.localName}`;
  return `${value} == null ? ${unset} : ${valueCode(member, value, children)}`;
}

function valueCode(field: DescField, value: string, children: Reader[]): string {
  if (field.message !== undefined) {
    const count = children.push(isInMs(field.message) ? readerOfMs(field.message) : readerOf(field.message));
    return `children[${count - 1}].read(${value})`;
  }
  return field.scalar === ScalarType.INT64 ? `BigInt(${value})` : value;
}

function notCompiled(): never {
  throw new Error("the reader of a message is not compiled yet");
}

/** Whether a message is a number of milliseconds in the log. */
function isInMs({ typeName }: DescMessage): boolean {
  return typeName === "google.protobuf.Timestamp" || typeName === "google.protobuf.Duration";
}

function readerOfMs({ typeName: $typeName }: DescMessage): Reader {
  return {
    read: (ms: number) => {
      const seconds = Math.floor(ms / 1000);
      return { $typeName, seconds: BigInt(seconds), nanos: (ms - seconds * 1000) * 1_000_000 } as Message;
    },
  };
}

/**
 * A timestamp or duration in whole milliseconds (a part of one counts as nothing). `field` names it in the refusal of
 * nanoseconds that are none: the binary format lets any number through.
 */
export function toMs(value: { readonly seconds: bigint; readonly nanos: number }, field: string): number {
  if (value.nanos < 0 || value.nanos > 999_999_999) {
    const description = "nanos must be between 0 and 999999999";
    throw new Refusal("VALIDATION_FAILED", `${field}: ${description}`, { fieldViolations: [{ field, description }] });
  }
  return Number(value.seconds) * 1000 + Math.floor(value.nanos / 1_000_000);
}

type Writer = (message: Json, json: Json, salt: string) => void;

const writers = new Map<string, readonly Writer[]>();

/**
 * The parsed request as the log keeps it, so that a repeated request id can be compared field by field: without shop and
 * request id, without unset and default values. Personal data (`personal_data`) is kept only as a hash salted with the
 * request id: it can be compared, and it need not be erased.
 */
export function requestJson(desc: DescMessage, message: object, requestId: string): Json {
  const json: Json = {};
  for (const write of writersOf(desc)) {
    write(message as Json, json, requestId);
  }
  return json;
}

function writersOf(desc: DescMessage): readonly Writer[] {
  let known = writers.get(desc.typeName);
  if (known === undefined) {
    known = desc.fields.filter((field) => field.name !== "shop_id" && field.name !== "request_id").map(writerOf);
    writers.set(desc.typeName, known);
  }
  return known;
}

function writerOf(field: DescField): Writer {
  const { name, localName, oneof } = field;
  const write = valueWriterOf(field);
  const hasPresence = oneof !== undefined || field.presence === 1;
  return (message, json, salt) => {
    let value = message[localName];
    if (oneof !== undefined) {
      const chosen = message[oneof.localName] as { case?: string; value?: unknown };
      value = chosen.case === localName ? chosen.value : undefined;
    }
    if (value === undefined || (!hasPresence && isDefault(value))) {
      return;
    }
    json[name] = Array.isArray(value) ? value.map((item) => write(item, salt)) : write(value, salt);
  };
}

function isDefault(value: unknown): boolean {
  return value === "" || value === 0 || value === 0n || value === false || (Array.isArray(value) && value.length === 0);
}

function valueWriterOf(field: DescField): (value: unknown, salt: string) => unknown {
  if (field.message !== undefined) {
    const { message } = field;
    if (isInMs(message)) {
      return (value) => toMs(value as { seconds: bigint; nanos: number }, field.name);
    }
    return (value, salt) => requestJson(message, value as object, salt);
  }
  if (getOption(field, personal_data)) {
    return (value, salt) =>
      `sha256:${createHash("sha256")
        .update(`${salt}\n${String(value)}`)
        .digest("base64url")}`;
  }
  return field.scalar === ScalarType.INT64 ? (value) => Number(value) : (value) => value;
}

/** The path of the first field in which two requests of one RPC differ (`lines[1].quantity`); undefined when they are equal. */
export function firstDifference(stored: unknown, repeated: unknown, path = ""): string | undefined {
  if (Array.isArray(stored) || Array.isArray(repeated)) {
    const [before, after] = [(stored ?? []) as unknown[], (repeated ?? []) as unknown[]];
    for (let index = 0; index < Math.max(before.length, after.length); index += 1) {
      const found = firstDifference(before[index], after[index], `${path}[${index}]`);
      if (found !== undefined) {
        return found;
      }
    }
    return undefined;
  }
  if (isObject(stored) && isObject(repeated)) {
    for (const name of new Set([...Object.keys(repeated), ...Object.keys(stored)])) {
      const found = firstDifference(stored[name], repeated[name], path === "" ? name : `${path}.${name}`);
      if (found !== undefined) {
        return found;
      }
    }
    return undefined;
  }
  return stored === repeated ? undefined : path;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null;
}
