import { create, type DescField, type DescMessage, type MessageShape, ScalarType } from "@bufbuild/protobuf";

/**
 * A message as plain data: proto field names, times and durations in milliseconds, 64-bit integers as numbers, enums as
 * numbers. What has no presence and is empty or 0 is left out, so two messages are equal when their plain forms are.
 */
export type Plain = { readonly [name: string]: unknown };

/** Reads a message of a response. */
export function toPlain(desc: DescMessage, message: object): Plain {
  const plain: Record<string, unknown> = {};
  for (const field of desc.fields) {
    const value = readField(field, message as Record<string, unknown>);
    if (value === undefined) continue;
    keep(plain, field, Array.isArray(value) ? value.map((item) => plainValue(field, item)) : plainValue(field, value));
  }
  return plain;
}

/** The field's value; undefined when it is not set. */
function readField({ localName, oneof }: DescField, message: Record<string, unknown>): unknown {
  if (oneof === undefined) return message[localName];
  const chosen = message[oneof.localName] as { readonly case?: string; readonly value?: unknown };
  return chosen.case === localName ? chosen.value : undefined;
}

function plainValue(field: DescField, value: unknown): unknown {
  const { message } = field;
  if (message === undefined) return typeof value === "bigint" ? Number(value) : value;
  if (!isTime(message)) return toPlain(message, value as object);
  const { seconds, nanos } = value as { readonly seconds: bigint; readonly nanos: number };
  return Number(seconds) * 1000 + nanos / 1_000_000;
}

/** Makes the message of a request. Numbers that are not whole are for nobody. */
export function toMessage<Desc extends DescMessage>(desc: Desc, plain: Plain): MessageShape<Desc> {
  const message = create(desc) as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(plain)) {
    if (value === undefined) continue;
    const field = fieldOf(desc, name);
    const converted = Array.isArray(value)
      ? value.map((item) => messageValue(field, item))
      : messageValue(field, value);
    if (field.oneof === undefined) message[field.localName] = converted;
    else message[field.oneof.localName] = { case: field.localName, value: converted };
  }
  return message as unknown as MessageShape<Desc>;
}

function messageValue(field: DescField, value: unknown): unknown {
  const { message } = field;
  if (message === undefined) return field.scalar === ScalarType.INT64 ? BigInt(value as number) : value;
  if (!isTime(message)) return toMessage(message, value as Plain);
  const seconds = Math.floor((value as number) / 1000);
  const nanos = ((value as number) - seconds * 1000) * 1_000_000;
  return create(message, { seconds: BigInt(seconds), nanos } as never);
}

/** What the model says of a message, in the form of {@link toPlain}. Throws on a name the message does not have. */
export function normalise(desc: DescMessage, plain: Plain): Plain {
  const normal: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(plain)) {
    if (value === undefined) continue;
    const field = fieldOf(desc, name);
    const { message } = field;
    const convert = (item: unknown): unknown =>
      message === undefined || isTime(message) ? item : normalise(message, item as Plain);
    keep(normal, field, Array.isArray(value) ? value.map(convert) : convert(value));
  }
  return normal;
}

function fieldOf(desc: DescMessage, name: string): DescField {
  const field = desc.fields.find((each) => each.name === name);
  if (field === undefined) throw new Error(`${desc.typeName} has no field "${name}"`);
  return field;
}

function keep(plain: Record<string, unknown>, field: DescField, value: unknown): void {
  const hasPresence = field.oneof !== undefined || field.presence === 1 || field.message !== undefined;
  const isEmptyList = Array.isArray(value) && value.length === 0;
  if (isEmptyList || (!hasPresence && (value === "" || value === 0 || value === false))) return;
  plain[field.name] = value;
}

function isTime({ typeName }: DescMessage): boolean {
  return typeName === "google.protobuf.Timestamp" || typeName === "google.protobuf.Duration";
}

/** The paths in which two plain values differ: `lines[1].quantity`; a part that only one of them has is one path. */
export function differences(left: unknown, right: unknown, path = ""): string[] {
  if (Array.isArray(left) || Array.isArray(right)) {
    const [before, after] = [(left ?? []) as unknown[], (right ?? []) as unknown[]];
    const indexes = [...Array(Math.max(before.length, after.length)).keys()];
    return indexes.flatMap((index) => differences(before[index], after[index], `${path}[${index}]`));
  }
  if (isObject(left) && isObject(right)) {
    const names = [...new Set([...Object.keys(left), ...Object.keys(right)])];
    return names.flatMap((name) => differences(left[name], right[name], path === "" ? name : `${path}.${name}`));
  }
  return Object.is(left, right) ? [] : [path];
}

function isObject(value: unknown): value is Plain {
  return typeof value === "object" && value !== null;
}
