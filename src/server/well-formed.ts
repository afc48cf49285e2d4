import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
import { validationFailed } from "./validation-interceptor.ts";

/**
 * Refuses a message with a string that is not well-formed UTF-16. Only JSON can carry one (`"\ud800"`); PostgreSQL would
 * stumble over it long after the decision. Maps are not looked into: no request has one.
 */
export function assertWellFormed(schema: DescMessage, message: Message): void {
  const fields = [...illFormedFields(schema, message, "")];
  if (fields.length > 0) {
    throw validationFailed(fields.map((field) => ({ field, description: "must be well-formed Unicode" })));
  }
}

function* illFormedFields(schema: DescMessage, message: Message, prefix: string): Generator<string> {
  for (const field of schema.fields) {
    const value = fieldValue(message, field);
    const path = prefix + field.name;
    if (field.fieldKind === "list") {
      for (const [index, element] of (value as readonly unknown[]).entries()) {
        yield* illFormedValues(field, element, `${path}[${index}]`);
      }
    } else if (field.fieldKind !== "map") {
      yield* illFormedValues(field, value, path);
    }
  }
}

function* illFormedValues(field: DescField, value: unknown, path: string): Generator<string> {
  if (typeof value === "string" && !value.isWellFormed()) {
    yield path;
  } else if (field.message !== undefined && value !== undefined) {
    yield* illFormedFields(field.message, value as Message, `${path}.`);
  }
}

function fieldValue(message: Message, field: DescField): unknown {
  const properties = message as unknown as Readonly<Record<string, unknown>>;
  if (field.oneof === undefined) {
    return properties[field.localName];
  }
  const choice = properties[field.oneof.localName] as { readonly case?: string; readonly value?: unknown };
  return choice.case === field.localName ? choice.value : undefined;
}
