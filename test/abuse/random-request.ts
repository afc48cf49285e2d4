import {
  type DescField,
  type DescMessage,
  type DescMethod,
  fromJson,
  type JsonObject,
  type JsonValue,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import type { Dice } from "../crash/dice.ts";

/** A request of some RPC, before anything is done to it. */
export interface RandomRequest {
  readonly method: DescMethod;
  readonly path: string;
  readonly bytes: Buffer;
  readonly json: string;
}

/** The shop that is abused; the good caller has another one. */
export const abusedShop = "abused";

/** An operator's: each takes as much as its shop is large, whoever may call it. */
const operators = ["VerifyShop", "RebuildShop"];
const methods = [AdminService, EventService, InventoryService, OrderService, SubscriptionService, UserService].flatMap(
  (service) => service.methods.filter(({ name }) => !operators.includes(name)),
);
/** Few, so that requests meet what others have made, and a run makes little that stays. */
const texts = [
  "",
  "a",
  "b",
  "u1",
  "o1",
  "h1",
  "free",
  "pro",
  "sku:a",
  "x".repeat(64),
  "x".repeat(300),
  "é\u0000",
  "../..",
  "{a}",
];
const integers = [
  "0",
  "1",
  "2",
  "-1",
  "3",
  "100",
  "1000000",
  "9007199254740991",
  "-9007199254740991",
  "9223372036854775807",
];
const durations = ["0s", "1s", "600s", "-1s", "0.5s", "315576000000s"];
const times = ["1970-01-01T00:00:00Z", "2026-11-27T12:00:00Z", "9999-12-31T23:59:59Z"];
const maxListLength = 5;

/** Makes a request that can be serialised, and often means something. */
export function randomRequest(dice: Dice): RandomRequest {
  const method = dice.from(methods);
  const json = {
    ...randomMessage(method.input, dice),
    shopId: dice.between(0, 9) === 0 ? dice.from(texts) : abusedShop,
  };
  return {
    method,
    path: `/${method.parent.typeName}/${method.name}`,
    bytes: Buffer.from(toBinary(method.input, fromJson(method.input, withoutForeign(method.input, json)))),
    json: JSON.stringify(withoutForeign(method.input, json)),
  };
}

/** ListShops has no `shop_id`. */
function withoutForeign(desc: DescMessage, json: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(json).filter(([name]) => desc.fields.some((field) => field.jsonName === name)),
  );
}

function randomMessage(desc: DescMessage, dice: Dice): JsonObject {
  const entries: [string, JsonValue][] = [];
  const setOneofs = new Set<unknown>();
  for (const field of desc.fields) {
    if (dice.between(0, 3) === 0 || (field.oneof !== undefined && setOneofs.has(field.oneof))) continue;
    if (field.oneof !== undefined) setOneofs.add(field.oneof);
    entries.push([field.jsonName, randomField(field, dice)]);
  }
  return Object.fromEntries(entries);
}

function randomField(field: DescField, dice: Dice): JsonValue {
  if (field.fieldKind !== "list") return randomValue(field, dice);
  return Array.from({ length: dice.between(0, maxListLength) }, () => randomValue(field, dice));
}

function randomValue(field: DescField, dice: Dice): JsonValue {
  if (field.enum !== undefined) return dice.from(field.enum.values).number;
  if (field.message?.typeName === "google.protobuf.Duration") return dice.from(durations);
  if (field.message?.typeName === "google.protobuf.Timestamp") return dice.from(times);
  if (field.message !== undefined) return randomMessage(field.message, dice);
  if (field.scalar === ScalarType.BOOL) return dice.between(0, 1) === 1;
  if (field.scalar === ScalarType.STRING) return dice.from(texts);
  if (field.scalar === ScalarType.BYTES) return Buffer.from(dice.from(texts)).toString("base64");
  const fitting = field.scalar === ScalarType.INT32 ? integers.filter((each) => each.length < 9) : integers;
  return dice.from(fitting);
}
