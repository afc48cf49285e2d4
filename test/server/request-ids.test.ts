import { describe, expect, test } from "vitest";
import { BadRequestSchema } from "../../gen/google/rpc/error_details_pb.js";
import { createClients, errorOf, PROTOCOLS, summaryOf } from "./clients.ts";
import { openDoors } from "./open-doors.ts";

const order = { lines: [{ sku: "ps5", quantity: 1 }] };

describe.each(PROTOCOLS)("by %s", (protocol) => {
  async function place(requestId: string, headers: Record<string, string>, requireRequestId = false): Promise<string> {
    const { orders } = createClients(protocol, await openDoors({}, { requireRequestId }));
    const { commit } = await orders.placeOrder({ ...order, requestId }, { headers });
    return commit?.requestId ?? "";
  }

  test.each([
    ["the field alone", "r1", {}, "r1"],
    ["the header alone", "", { "idempotency-key": "r1" }, "r1"],
    ["the header in quotes", "", { "idempotency-key": '"r1"' }, "r1"],
    ["both alike", "r1", { "idempotency-key": "r1" }, "r1"],
    ["none", "", {}, ""],
    ["none, at the first attempt", "", { "grpc-previous-rpc-attempts": "0" }, ""],
    ["a retry with an id", "r1", { "grpc-previous-rpc-attempts": "2" }, "r1"],
  ])("the handler gets the id from %s", async (_name, requestId, headers, expected) => {
    expect(await place(requestId, headers as Record<string, string>)).toBe(expected);
  });

  test.each([
    ["another id in the header", "r1", "r2"],
    ["other characters in the header", "", "r 1"],
    ["too long a header", "", "x".repeat(65)],
    ["an empty id in the header", "", '""'],
  ])("%s is refused and names request_id", async (_name, requestId, header) => {
    const error = await errorOf(place(requestId, { "idempotency-key": header }));

    expect(summaryOf(error)).toBe("InvalidArgument VALIDATION_FAILED");
    expect(error.findDetails(BadRequestSchema)).toMatchObject([{ fieldViolations: [{ field: "request_id" }] }]);
  });

  test("a client's automatic retry without an id is refused", async () => {
    const error = await errorOf(place("", { "grpc-previous-rpc-attempts": "1" }));

    expect(summaryOf(error)).toBe("InvalidArgument REQUEST_ID_REQUIRED");
  });

  test("where ids are required a mutation without one is refused", async () => {
    expect(summaryOf(await errorOf(place("", {}, true)))).toBe("InvalidArgument REQUEST_ID_REQUIRED");
    expect(await place("", { "idempotency-key": "r1" }, true)).toBe("r1");
  });

  test("a read needs none, and its header is not looked at", async () => {
    const { inventory } = createClients(protocol, await openDoors({}, { requireRequestId: true }));
    const headers = { "idempotency-key": "not an id", "grpc-previous-rpc-attempts": "1" };

    expect((await inventory.getStock({ sku: "ps5" }, { headers })).stock?.sku).toBe("ps5");
  });
});
