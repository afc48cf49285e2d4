import { create, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { EventSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { messageFromLog } from "../../src/shop/messages.ts";

const services = [InventoryService, OrderService, SubscriptionService, UserService];
const schemas = [EventSchema, ...services.flatMap(({ methods }) => methods.map(({ output }) => output))];

/** The same in the log and in a message. */
interface Pair {
  readonly json: unknown;
  readonly value: unknown;
}

function pairs(schema: DescMessage): fc.Arbitrary<Pair> {
  const members = schema.members.map((member) =>
    member.kind === "oneof" ? fc.oneof(...member.fields.map(fieldPairs)) : fieldPairs(member),
  );
  return fc.tuple(...members).map((parts) => {
    const jsons = parts.map(({ json }) => json as object);
    const values = parts.map(({ value }) => value as object);
    return { json: Object.assign({}, ...jsons), value: create(schema, Object.assign({}, ...values)) };
  });
}

/** A field set, unset or null. */
function fieldPairs(field: DescField): fc.Arbitrary<Pair> {
  const named = ({ json, value }: Pair): Pair => {
    const choice = field.oneof === undefined ? value : { case: field.localName, value };
    return { json: { [field.name]: json }, value: { [field.oneof?.localName ?? field.localName]: choice } };
  };
  const unset = [{}, { [field.name]: null }].map((json) => ({ json, value: {} }));
  return fc.oneof(setPairs(field).map(named), fc.constantFrom(...unset));
}

function setPairs(field: DescField): fc.Arbitrary<Pair> {
  if (field.fieldKind === "list") {
    const lists = fc.array(valuePairs(field), { maxLength: 3 });
    return lists.map((items) => ({ json: items.map(({ json }) => json), value: items.map(({ value }) => value) }));
  }
  if (field.fieldKind === "map") {
    return fc.dictionary(fc.string(), fc.string()).map((texts) => ({ json: texts, value: texts }));
  }
  return valuePairs(field);
}

const maxTimeMs = 8_640_000_000_000_000;

function valuePairs({ message, scalar, enum: names }: DescField): fc.Arbitrary<Pair> {
  const same = (values: fc.Arbitrary<unknown>) => values.map((value) => ({ json: value, value }));
  if (message?.typeName === "google.protobuf.Timestamp") {
    return fc.integer({ min: -1000, max: maxTimeMs }).map((ms) => ({ json: ms, value: timestampFromMs(ms) }));
  }
  if (message !== undefined) {
    return pairs(message);
  }
  switch (names === undefined ? scalar : ScalarType.INT32) {
    case ScalarType.STRING:
      return same(fc.string());
    case ScalarType.BOOL:
      return same(fc.boolean());
    case ScalarType.INT32:
      return same(fc.integer());
    case ScalarType.INT64:
      return fc.maxSafeInteger().map((count) => ({ json: count, value: BigInt(count) }));
    default:
      throw new Error(`no values for a field of type ${scalar}`);
  }
}

test.each(schemas)("reads a $typeName from the log", (schema) => {
  fc.assert(
    fc.property(pairs(schema), ({ json, value }) => {
      expect(messageFromLog(schema, json as object)).toEqual(value);
    }),
  );
});

test("leaves alone what a message does not know, and shares nothing between messages", () => {
  const schema = OrderService.method.placeOrder.output;
  const [first, second] = [messageFromLog(schema, { unknown: 1 }), messageFromLog(schema, {})];
  expect(first).toEqual(second);
  expect(first.stocks).not.toBe(second.stocks);
});
