import { describe, expect, test } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import { Refusal } from "../../src/refusal.ts";
import { createClients, errorOf, PROTOCOLS, readAll, summaryOf } from "./clients.ts";
import { openDoors, stockOf } from "./open-doors.ts";

const heldOut = new Refusal("HELD_OUT", "2 of sku:ps5 are wanted, 1 is available and 4 are held", {
  metadata: { sku: "ps5", requested_count: "2", available_count: "1", held_count: "4", position: "17", epoch: "3" },
  retryMs: 1500,
  fieldViolations: [{ field: "sku", description: "for the sake of the test" }],
  subjectViolations: [{ reason: "HELD_OUT", subject: "sku:ps5", description: "1 is available" }],
});

describe.each(PROTOCOLS)("by %s", (protocol) => {
  test("a refusal has its code, its sentence and all its details", async () => {
    const doors = await openDoors({ getStock: () => Promise.reject(heldOut) });
    const error = await errorOf(createClients(protocol, doors).inventory.getStock({ sku: "ps5" }));

    expect(summaryOf(error)).toBe("FailedPrecondition HELD_OUT");
    expect(error.rawMessage).toBe(heldOut.message);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      { domain: "holdfast", metadata: heldOut.details.metadata },
    ]);
    expect(error.findDetails(RetryInfoSchema)).toMatchObject([{ retryDelay: { seconds: 1n, nanos: 500_000_000 } }]);
    expect(error.findDetails(BadRequestSchema)).toMatchObject([{ fieldViolations: heldOut.details.fieldViolations }]);
    expect(error.findDetails(PreconditionFailureSchema)).toMatchObject([
      { violations: [{ type: "HELD_OUT", subject: "sku:ps5", description: "1 is available" }] },
    ]);
    expect(doors.logged).toEqual([]);
  });

  test("a call that is one too many says when to come back, also to clients that read no details", async () => {
    const tooMany = new Refusal("OVERLOADED", "too much is waiting", { retryMs: 120.5 });
    const doors = await openDoors({
      getStock: () => Promise.reject(tooMany),
      async *watchEvents() {
        yield await Promise.reject(tooMany);
      },
    });
    const { inventory, events } = createClients(protocol, doors);

    for (const call of [inventory.getStock({ sku: "ps5" }), readAll(events.watchEvents({}))]) {
      const error = await errorOf(call);
      expect(summaryOf(error)).toBe("ResourceExhausted OVERLOADED");
      expect(error.findDetails(RetryInfoSchema)).toMatchObject([{ retryDelay: { seconds: 0n, nanos: 121_000_000 } }]);
      expect(error.metadata.get("grpc-retry-pushback-ms")).toBe("121");
    }
  });

  test("a refusal that waiting does not undo says nothing of when to come back", async () => {
    const doors = await openDoors({ getStock: () => Promise.reject(heldOut) });
    const error = await errorOf(createClients(protocol, doors).inventory.getStock({ sku: "ps5" }));
    expect(error.metadata.has("grpc-retry-pushback-ms")).toBe(false);
  });

  test("a stream that is refused after its first message ends with the refusal", async () => {
    const doors = await openDoors({
      async *watchEvents() {
        yield await Promise.reject(new Refusal("POSITION_AHEAD", "the head is at 4", { metadata: { position: "4" } }));
      },
    });
    const reading = readAll(createClients(protocol, doors).events.watchEvents({}));

    expect(summaryOf(await errorOf(reading))).toBe("OutOfRange POSITION_AHEAD");
  });

  test("an error that has an explanation is the refusal it is explained by", async () => {
    const handlers = {
      getStock: () => Promise.reject(new Error("connection lost")),
      async *watchEvents() {
        yield await Promise.reject(new Error("connection lost"));
      },
    };
    const explain = () => new Refusal("SHOP_UNAVAILABLE", "the database is away", { retryMs: 1000 });
    const doors = await openDoors(handlers, { explain });
    const { inventory, events } = createClients(protocol, doors);
    const errors = [errorOf(inventory.getStock({ sku: "ps5" })), errorOf(readAll(events.watchEvents({})))];

    expect((await Promise.all(errors)).map(summaryOf)).toEqual(Array(2).fill("Unavailable SHOP_UNAVAILABLE"));
    expect(doors.logged).toEqual([]);
  });

  test("an unknown error is INTERNAL without its text, and logged once", async () => {
    const doors = await openDoors({ getStock: () => Promise.reject(new Error("password=hunter2")) });
    const error = await errorOf(createClients(protocol, doors).inventory.getStock({ sku: "ps5" }));

    expect([summaryOf(error), error.rawMessage, error.details]).toEqual(["Internal", "internal error", []]);
    expect(doors.logged).toMatchObject([
      { rpc: "/holdfast.v1.InventoryService/GetStock", err: { message: "password=hunter2" } },
    ]);
  });

  test("a handler that throws before it returns a promise is treated alike", async () => {
    const doors = await openDoors({
      getStock: () => {
        throw new Refusal("PRODUCT_NOT_FOUND", "no product ps5");
      },
    });

    expect(summaryOf(await errorOf(createClients(protocol, doors).inventory.getStock({ sku: "ps5" })))).toBe(
      "NotFound PRODUCT_NOT_FOUND",
    );
  });

  test("an answer above 4 MiB is RESOURCE_EXHAUSTED", async () => {
    const doors = await openDoors({ getStock: () => Promise.resolve(stockOf("x".repeat(4 * 1024 * 1024))) });
    const call = createClients(protocol, doors).inventory.getStock({ sku: "ps5" });

    expect(summaryOf(await errorOf(call))).toBe("ResourceExhausted");
  });

  test("a cart of 100 lines names every failing SKU, without sentences where these have no room", async () => {
    const subjectViolations = Array.from({ length: 100 }, (_, index) => ({
      reason: "SOLD_OUT" as const,
      subject: `sku:product-number-${1000 + index}`,
      description: `"product-number-${1000 + index}" has 0 available, 1 was asked for`,
    }));
    const doors = await openDoors({
      getStock: () => Promise.reject(new Refusal("SOLD_OUT", "sold out", { subjectViolations })),
    });
    const error = await errorOf(createClients(protocol, doors).inventory.getStock({ sku: "ps5" }));

    const [failure] = error.findDetails(PreconditionFailureSchema);
    expect(failure?.violations.map(({ type, subject, description }) => ({ type, subject, description }))).toEqual(
      subjectViolations.map(({ reason, subject }) => ({ type: reason, subject, description: "" })),
    );
    expect(error.findDetails(ErrorInfoSchema)[0]?.metadata).toEqual({});
  });

  test("details that would not fit into a header block are left out and counted", async () => {
    const subjectViolations = Array.from({ length: 100 }, (_, index) => ({
      reason: "SOLD_OUT" as const,
      subject: `sku:${"x".repeat(60)}${index}`,
      description: "0 are available",
    }));
    const doors = await openDoors({
      getStock: () => Promise.reject(new Refusal("SOLD_OUT", "sold out", { subjectViolations })),
    });
    const error = await errorOf(createClients(protocol, doors).inventory.getStock({ sku: "ps5" }));

    const [info] = error.findDetails(ErrorInfoSchema);
    const [failure] = error.findDetails(PreconditionFailureSchema);
    const toldCount = failure?.violations.length ?? 0;
    expect(toldCount).toBeGreaterThan(40);
    expect(info?.metadata).toEqual({ omitted_violation_count: String(100 - toldCount) });
  });
});
