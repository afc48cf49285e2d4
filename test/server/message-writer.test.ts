import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  type Message,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, StructSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { compileWriter, writeMessage } from "../../src/server/message-writer.ts";

const services = [AdminService, EventService, InventoryService, OrderService, SubscriptionService, UserService];
const responses = services.flatMap(({ methods }) => methods.map(({ output }) => output));

/** Messages of any type, with every field now zero, now not. */
function messages(schema: DescMessage): fc.Arbitrary<Message> {
  const plain = schema.fields.filter(({ oneof }) => oneof === undefined);
  const record: Record<string, fc.Arbitrary<unknown>> = {};
  for (const field of plain) {
    record[field.localName] = field.fieldKind === "list" ? fc.array(values(field), { maxLength: 3 }) : optional(field);
  }
  for (const oneof of schema.oneofs) {
    record[oneof.localName] = fc.oneof(
      fc.constant({ case: undefined }),
      ...oneof.fields.map((field) => values(field).map((value) => ({ case: field.localName, value }))),
    );
  }
  return fc.record(record).map((init) => create(schema, init));
}

function optional(field: DescField): fc.Arbitrary<unknown> {
  return field.fieldKind === "map"
    ? fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 })
    : fc.option(values(field), { nil: undefined });
}

function values(field: DescField): fc.Arbitrary<unknown> {
  if (field.message !== undefined) {
    return messages(field.message);
  }
  switch (field.enum === undefined ? field.scalar : ScalarType.INT32) {
    case ScalarType.STRING:
      return fc.oneof(fc.string(), fc.string({ unit: "grapheme", minLength: 60, maxLength: 200 }));
    case ScalarType.BYTES:
      return fc.uint8Array({ minLength: 1 });
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.INT64:
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    default:
      return fc.integer();
  }
}

describe.each([...responses, ErrorInfoSchema, StatusSchema].map((schema) => [schema.typeName, schema] as const))(
  "%s",
  (_name, schema) => {
    test("is written as protobuf-es writes it", () => {
      fc.assert(
        fc.property(messages(schema), (message) => {
          expect(Buffer.from(writeMessage(schema, message))).toEqual(Buffer.from(toBinary(schema, message)));
        }),
        { numRuns: 50 },
      );
    });
  },
);

test("a message that cannot be written leaves nothing behind for the next", () => {
  const bad = create(TimestampSchema, { seconds: 1n, nanos: 1.5 });
  const good = create(TimestampSchema, { seconds: 2n });

  expect(() => writeMessage(TimestampSchema, bad)).toThrow();
  expect(fromBinary(TimestampSchema, writeMessage(TimestampSchema, good))).toEqual(good);
});

test.each([FileDescriptorProtoSchema, StructSchema])("$typeName is refused before any message is written", (schema) => {
  expect(() => compileWriter(schema)).toThrow("message-writer.ts does not write");
});
