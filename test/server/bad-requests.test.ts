import { gzipSync } from "node:zlib";
import type { ServiceError } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { createClients, errorOf, PROTOCOLS, readAll, summaryOf } from "./clients.ts";
import { openDoors, openGrpcClient } from "./open-doors.ts";

const GET_STOCK = "/holdfast.v1.InventoryService/GetStock";
const PLACE_ORDER = "/holdfast.v1.OrderService/PlaceOrder";
const WATCH_EVENTS = "/holdfast.v1.EventService/WatchEvents";
// Field 2, length 5, and only one byte of it.
const MALFORMED = Buffer.from([0x12, 0x05, 0x61]);
// Field 2 (sku), one byte that no UTF-8 text has.
const BROKEN_TEXT = Buffer.from([0x12, 0x01, 0xff]);

/** Sends bytes as a request over gRPC; gives the status code and the reason in the details. */
async function sendRaw(grpcAddress: string, path: string, bytes: Buffer): Promise<string> {
  const client = openGrpcClient(grpcAddress);
  const keep = (value: Buffer): Buffer => value;
  const error = await new Promise<ServiceError | null>((resolve) => {
    client.makeUnaryRequest(path, keep, keep, bytes, (failure) => resolve(failure));
  });
  const details = String(error?.metadata.get("grpc-status-details-bin")[0] ?? "");
  return `${error?.code} ${/[A-Z]+(_[A-Z]+)+/.exec(details)?.[0] ?? ""}`.trim();
}

interface JsonError {
  readonly code: string;
  readonly message: string;
  readonly details?: readonly { readonly type: string; readonly debug: { readonly reason?: string } }[];
}

async function post(url: string, contentType: string, body: string | Buffer, headers: Record<string, string> = {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": contentType, ...headers },
    body: typeof body === "string" ? body : new Uint8Array(body),
  });
  const error = (await response.json()) as JsonError;
  return { status: response.status, ...error, reason: error.details?.[0]?.debug.reason };
}

describe.each(PROTOCOLS)("by %s", (protocol) => {
  test("every field that breaks a rule is named by its path", async () => {
    const doors = await openDoors({ placeOrder: () => Promise.reject(new Error("the handler was called")) });
    const lines = [
      { sku: "ps5", quantity: 1 },
      { sku: "p s 5", quantity: -1 },
    ];
    const error = await errorOf(createClients(protocol, doors).orders.placeOrder({ orderId: "o/1", lines }));

    expect(summaryOf(error)).toBe("InvalidArgument VALIDATION_FAILED");
    const fields = error.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field);
    expect(fields).toEqual(["order_id", "lines[1].sku", "lines[1].quantity"]);
    expect(error.rawMessage).toMatch(/^order_id: .+ \(and 2 more\)$/);
  });

  test("a list with too many items is not looked at to its end", async () => {
    const doors = await openDoors({ placeOrder: () => Promise.reject(new Error("the handler was called")) });
    const lines = Array.from({ length: 20_000 }, () => ({}));
    const error = await errorOf(createClients(protocol, doors).orders.placeOrder({ lines }));

    expect(summaryOf(error)).toBe("InvalidArgument VALIDATION_FAILED");
    const named = error.findDetails(BadRequestSchema)[0]?.fieldViolations ?? [];
    const omitted = error.findDetails(ErrorInfoSchema)[0]?.metadata["omitted_violation_count"];
    // Of each of the 101 items that are looked at the SKU and the quantity, and the list itself.
    expect(named.length + Number(omitted)).toBe(2 * 101 + 1);
  });

  test("a request above 64 KiB is RESOURCE_EXHAUSTED", async () => {
    const doors = await openDoors({});
    const call = createClients(protocol, doors).inventory.getStock({ sku: "x".repeat(70_000) });

    expect(summaryOf(await errorOf(call))).toBe("ResourceExhausted");
  });

  test("a stream's request is looked at in the same way", async () => {
    const doors = await openDoors({});
    const reading = readAll(createClients(protocol, doors).events.watchEvents({ subjects: ["nothing"] }));

    expect(summaryOf(await errorOf(reading))).toBe("InvalidArgument VALIDATION_FAILED");
  });
});

test.each([
  ["malformed protobuf", GET_STOCK, MALFORMED],
  ["a string that is not UTF-8", GET_STOCK, BROKEN_TEXT],
  ["a stream's malformed request", WATCH_EVENTS, MALFORMED],
])("over gRPC %s is VALIDATION_FAILED", async (_name, path, bytes) => {
  const doors = await openDoors({});

  expect(await sendRaw(doors.grpcAddress, path, bytes)).toBe("3 VALIDATION_FAILED");
  expect(doors.logged).toEqual([]);
});

test.each([
  ["malformed protobuf", "application/proto", MALFORMED, {}],
  ["compressed malformed protobuf", "application/proto", gzipSync(MALFORMED), { "content-encoding": "gzip" }],
  ["a string that is not UTF-8", "application/proto", BROKEN_TEXT, {}],
  ["text that is not JSON", "application/json", "{sku}", {}],
  ["an empty body", "application/json", "", {}],
  ["JSON that is not UTF-8", "application/json", Buffer.from('{"sku":"\xff"}', "latin1"), {}],
  ["text that is not JSON, of a type in capitals", "Application/JSON", "{sku}", {}],
  ["gzip that is cut off", "application/json", gzipSync("{}").subarray(0, -6), { "content-encoding": "gzip" }],
  ["what is not gzip", "application/json", "{}", { "content-encoding": "gzip" }],
  ["an unknown field", "application/json", '{"sku":"ps5","requestID":"r1"}', {}],
  ["a value of another type", "application/json", '{"sku":5}', {}],
  ["a lone surrogate", "application/json", '{"sku":"\\ud800"}', {}],
  ["a lone surrogate as a field", "application/json", '{"\\ud800":1}', {}],
  ["an unknown enum name", "application/json", '{"lines":[{"sku":"ps5","quantity":1}],"paymentMethod":"GOLD"}', {}],
])("over HTTP %s is VALIDATION_FAILED", async (name, contentType, body, headers) => {
  const doors = await openDoors({});
  const path = name.includes("enum") ? PLACE_ORDER : GET_STOCK;
  const answer = await post(doors.httpUrl + path, contentType, body, headers);

  expect(answer).toMatchObject({ status: 400, code: "invalid_argument", reason: "VALIDATION_FAILED" });
  expect(doors.logged).toEqual([]);
});

test.each([
  ['{"requestID":"r1"}', "requestID: is no field of holdfast.v1.PlaceOrderRequest"],
  ['{"orderId":"o1","lines":[{"sku":"a"},{"skuu":"b"}]}', "lines[1].skuu: is no field of holdfast.v1.CartLine"],
  ['{"orderId":5}', "order_id: expected string, got 5"],
  ['{"lines":{"sku":"a"}}', "lines: expected Array, got object"],
  ['{"lines":["a"]}', "lines[0]: must be an object"],
  ['{"lines":[null]}', "lines: list item must not be null"],
  ['{"lines":[{"quantity":1.5}]}', "lines[0].quantity: is not a whole number"],
  ['{"lines":[{"quantity":1},{"expectedPriceMinor":"1.5"}]}', "lines[1].expected_price_minor: is not a whole number"],
  ['{"lines":[{"expected_price_minor":1e30}]}', "lines[0].expected_price_minor: is out of range"],
  ['{"lines":[{"expected_price_minor":"9223372036854775808"}]}', "lines[0].expected_price_minor: is out of range"],
  ['{"lines":[{"expected_price_minor":"1e3"}]}', "lines[0].expected_price_minor: must be written in digits alone"],
  [
    '{"paymentMethod":"GOLD"}',
    "payment_method: must be one of PAYMENT_METHOD_WALLET, PAYMENT_METHOD_EXTERNAL, PAYMENT_METHOD_NONE, PAYMENT_METHOD_GATEWAY",
  ],
  [
    '{"orderId":"a","order_id":"b"}',
    "the request is not a valid holdfast.v1.PlaceOrderRequest: cannot decode field holdfast.v1.PlaceOrderRequest.order_id from JSON: set multiple times",
  ],
])("the refusal of JSON names the field and what is wrong with it: %s", async (body, message) => {
  const doors = await openDoors({});

  expect((await post(doors.httpUrl + PLACE_ORDER, "application/json", body)).message).toBe(message);
});

test.each([
  ["HoldStock", '{"holdDuration":90}', 'hold_duration: must be seconds as text, such as "90s"'],
  ["HoldStock", '{"holdDuration":{"seconds":90}}', 'hold_duration: must be seconds as text, such as "90s"'],
  ["PutProduct", '{"saleEndTime":"soon"}', 'sale_end_time: must be a time such as "2026-11-21T18:00:00Z"'],
])("the refusal of JSON shows how times are written: %s %s", async (rpc, body, message) => {
  const doors = await openDoors({});
  const url = `${doors.httpUrl}/holdfast.v1.InventoryService/${rpc}`;

  expect((await post(url, "application/json", body)).message).toBe(message);
});

test.each([
  ["AdjustStock", { sku: "ps5", deltaCount: 1 }, [["reason", "is required"]]],
  [
    "AdjustStock",
    { reason: "ADJUST_REASON_RESTOCK" },
    [
      ["sku", "is required"],
      ["delta_count", "must not be 0"],
    ],
  ],
  [
    "HoldStock",
    { holdId: "h/1", lines: [{ sku: "", quantity: 1 }] },
    [
      ["hold_id", "must be 1 to 64 of A-Z a-z 0-9 . _ -"],
      ["lines[0].sku", "is required"],
    ],
  ],
  ["GetStock", { sku: "p s 5" }, [["sku", "must be 1 to 64 of A-Z a-z 0-9 . _ -"]]],
  [
    "BatchGetStock",
    { skus: ["a", "", "b/c"] },
    [
      ["skus[1]", "is required"],
      ["skus[2]", "must be 1 to 64 of A-Z a-z 0-9 . _ -"],
    ],
  ],
  ["PutProduct", { sku: "ps5", title: "a\nb" }, [["title", "must be text without control characters"]]],
])("a broken rule is told in words: %s %j", async (rpc, body, violations) => {
  const doors = await openDoors({});
  const response = await fetch(`${doors.httpUrl}/holdfast.v1.InventoryService/${rpc}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

  const told = violations.map(([field, description]) => ({ field, description }));
  expect(JSON.stringify(await response.json())).toContain(JSON.stringify(told));
});

test.each([
  ["that is no JSON", { message: '{"sku":' }],
  ["that is no base64", { message: "eyJza3UiOiJwczUifQ!", base64: "1" }],
])("a GET with a message %s is VALIDATION_FAILED", async (_name, parameters) => {
  const doors = await openDoors({});
  const query = new URLSearchParams({ encoding: "json", ...parameters });
  const response = await fetch(`${doors.httpUrl}${GET_STOCK}?${query}`);

  expect([response.status, await response.text()]).toEqual([400, expect.stringContaining("VALIDATION_FAILED")]);
});

test.each([
  ["application/grpc-web+proto", "identity", MALFORMED],
  ["application/grpc-web+proto", "gzip", gzipSync(MALFORMED)],
  ["application/connect+proto", "identity", MALFORMED],
  ["application/connect+proto", "gzip", gzipSync(MALFORMED)],
])("malformed %s, compressed by %s, is refused in its own framing", async (contentType, encoding, message) => {
  const doors = await openDoors({});
  const isWeb = contentType.includes("grpc-web");
  const response = await fetch(doors.httpUrl + (isWeb ? GET_STOCK : WATCH_EVENTS), {
    method: "POST",
    headers: { "content-type": contentType, [isWeb ? "grpc-encoding" : "connect-content-encoding"]: encoding },
    body: Buffer.concat([Buffer.from([encoding === "gzip" ? 1 : 0, 0, 0, 0, message.length]), message]),
  });
  const text = await response.text();

  expect(response.status).toBe(200);
  expect(text).toContain(isWeb ? "grpc-status: 3" : '"code":"invalid_argument"');
  expect(text).toContain(isWeb ? "grpc-status-details-bin" : "VALIDATION_FAILED");
});

test("what connect refuses for another reason stays as it is", async () => {
  const doors = await openDoors({});
  const url = doors.httpUrl + GET_STOCK;

  expect(await post(url, "application/json", "{}", { "connect-timeout-ms": "soon" })).toMatchObject({
    status: 400,
    reason: undefined,
  });
  expect(await post(url, "application/json", "{}", { "content-encoding": "zip" })).toMatchObject({ status: 501 });
  expect((await fetch(url, { method: "POST", body: "sku=ps5" })).status).toBe(415);
  expect((await fetch(doors.httpUrl + PLACE_ORDER)).status).toBe(405);
});
