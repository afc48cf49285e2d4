import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { createDeadlines, type Perishable } from "../../src/deadlines.ts";
import type { CallContext } from "../../src/server/call-context.ts";
import { createClients, errorOf, PROTOCOLS, readAll, summaryOf } from "./clients.ts";
import { aborted, bookmark, openDoors, openGrpcClient, stockOf } from "./open-doors.ts";

const GET_STOCK = "/holdfast.v1.InventoryService/GetStock";

/** A handler that answers only when its call is over, and what it then knows. */
function createHangingHandler() {
  const { promise: started, resolve: start } = Promise.withResolvers<CallContext>();
  const { promise: ended, resolve: end } = Promise.withResolvers<unknown>();
  const getStock = async (_req: unknown, ctx: CallContext) => {
    start(ctx);
    await aborted(ctx.signal);
    end(ctx.signal.reason);
    return stockOf("too late");
  };
  return { getStock, started, ended };
}

describe.each(PROTOCOLS)("by %s", (protocol) => {
  test("the caller's deadline ends a call that takes longer", async () => {
    const { getStock, ended } = createHangingHandler();
    const { inventory } = createClients(protocol, await openDoors({ getStock }));

    expect(summaryOf(await errorOf(inventory.getStock({ sku: "ps5" }, { timeoutMs: 100 })))).toBe("DeadlineExceeded");
    expect(await ended).toMatchObject({ name: "CallEnded" });
  });

  test("a deadline of more than 30 s is shortened to 30 s", async () => {
    const { getStock, started } = createHangingHandler();
    const { inventory } = createClients(protocol, await openDoors({ getStock }));
    const abort = new AbortController();
    const call = inventory.getStock({ sku: "ps5" }, { timeoutMs: 3_600_000, signal: abort.signal });
    const { deadlineMs } = await started;
    abort.abort();

    expect(deadlineMs - Date.now()).toBeGreaterThan(29_000);
    expect(deadlineMs - Date.now()).toBeLessThanOrEqual(30_000);
    await errorOf(call);
  });

  test("a caller that goes away aborts the handler's signal", async () => {
    const { getStock, started, ended } = createHangingHandler();
    const doors = await openDoors({ getStock });
    const abort = new AbortController();
    const call = createClients(protocol, doors).inventory.getStock({ sku: "ps5" }, { signal: abort.signal });
    await started;
    abort.abort();
    await errorOf(call);

    expect(await ended).toMatchObject({ name: "CallEnded", message: "cancelled by the caller" });
    expect(doors.logged).toEqual([]);
  });

  test("a stream has no deadline unless its caller sets one, which is not shortened", async () => {
    const deadlines: number[] = [];
    const doors = await openDoors({
      async *watchEvents(_req, ctx) {
        deadlines.push(ctx.deadlineMs - Date.now());
        yield bookmark(1);
      },
    });
    const { events } = createClients(protocol, doors);
    await readAll(events.watchEvents({}));
    await readAll(events.watchEvents({}, { timeoutMs: 60_000 }));

    expect(deadlines[0]).toBe(Number.POSITIVE_INFINITY);
    expect(deadlines[1]).toBeGreaterThan(50_000);
  });

  test("a deadline that no timer can be set for is one that does not pass", async () => {
    const deadlines: number[] = [];
    const doors = await openDoors({
      getStock: async (_req, ctx) => {
        deadlines.push(ctx.deadlineMs - Date.now());
        await delay(20, undefined, { signal: ctx.signal });
        return stockOf("a");
      },
      async *watchEvents(_req, ctx) {
        deadlines.push(ctx.deadlineMs - Date.now());
        await delay(20, undefined, { signal: ctx.signal });
        yield bookmark(1);
      },
    });
    const { inventory, events } = createClients(protocol, doors);
    // Clients in JavaScript cannot set a timer for it either. 34 and 35 days.
    const headers = { "grpc-timeout": "50000M", "connect-timeout-ms": "3000000000" };

    await inventory.getStock({ sku: "ps5" }, { headers });
    expect(await readAll(events.watchEvents({}, { headers }))).toHaveLength(1);
    expect(deadlines[0]).toBeGreaterThan(29_000);
    expect(deadlines[0]).toBeLessThanOrEqual(30_000);
    expect(deadlines[1]).toBeGreaterThan(24 * 86_400_000);
  });

  test("a stream whose deadline passes ends with DEADLINE_EXCEEDED", async () => {
    const doors = await openDoors({
      async *watchEvents(_req, ctx) {
        yield bookmark(1);
        await aborted(ctx.signal);
      },
    });
    const reading = readAll(createClients(protocol, doors).events.watchEvents({}, { timeoutMs: 100 }));

    expect(summaryOf(await errorOf(reading))).toBe("DeadlineExceeded");
  });
});

test.each([
  ["InventoryService/GetStock", "deadline exceeded"],
  ["OrderService/PlaceOrder", "deadline exceeded; the outcome is unknown, repeat with the same request_id to learn it"],
])("%s past its deadline says '%s'", async (rpc, message) => {
  const hang = async (_req: unknown, ctx: CallContext): Promise<never> => {
    await aborted(ctx.signal);
    throw ctx.signal.reason;
  };
  const doors = await openDoors({ getStock: hang, placeOrder: hang });
  const response = await fetch(`${doors.httpUrl}/holdfast.v1.${rpc}`, {
    method: "POST",
    headers: { "content-type": "application/json", "connect-timeout-ms": "50" },
    body: rpc.endsWith("GetStock")
      ? '{"sku":"a"}'
      : '{"lines":[{"sku":"a","quantity":1}],"paymentMethod":"PAYMENT_METHOD_NONE"}',
  });

  expect(await response.json()).toMatchObject({ code: "deadline_exceeded", message });
});

test("a call that is past its deadline when its request is there never reaches the handler", async () => {
  let callCount = 0;
  const doors = await openDoors({
    getStock: async (req) => {
      callCount += 1;
      return stockOf(req.sku);
    },
  });
  const client = openGrpcClient(doors.grpcAddress);
  const keep = (value: Buffer): Buffer => value;
  const call = client.makeClientStreamRequest(GET_STOCK, keep, keep, { deadline: Date.now() + 100 }, () => undefined);
  const status = await new Promise<number>((resolve) => call.on("status", ({ code }) => resolve(code)));

  expect([status, callCount]).toEqual([4, 0]);
});

test("by every protocol a call without a deadline ends after 5 s, also when its request never comes", async () => {
  const reasons: unknown[] = [];
  const doors = await openDoors({
    getStock: async (_req, ctx) => {
      await aborted(ctx.signal);
      reasons.push(ctx.signal.reason);
      return stockOf("too late");
    },
  });
  const beganMs = Date.now();
  const calls = PROTOCOLS.map((protocol) => errorOf(createClients(protocol, doors).inventory.getStock({ sku: "ps5" })));
  const keep = (value: Buffer): Buffer => value;
  const silent = openGrpcClient(doors.grpcAddress).makeClientStreamRequest(GET_STOCK, keep, keep, () => undefined);
  const silentEnd = new Promise<number>((resolve) => silent.on("status", ({ code }) => resolve(code)));
  const summaries = (await Promise.all(calls)).map(summaryOf);

  expect([summaries, await silentEnd]).toEqual([PROTOCOLS.map(() => "DeadlineExceeded"), 4]);
  expect(Date.now() - beganMs).toBeGreaterThan(4900);
  expect(Date.now() - beganMs).toBeLessThan(6000);
  expect(reasons.map(String)).toEqual(PROTOCOLS.map(() => "CallEnded: deadline exceeded"));
});

test("entries end in the order of their deadlines, removed ones never", async () => {
  const deadlines = createDeadlines();
  const expired: number[] = [];
  const nowMs = Date.now();
  const entries = [60, 20, 40, 30, Number.POSITIVE_INFINITY].map((afterMs, number): Perishable => {
    return { number, deadlineMs: nowMs + afterMs, expire: () => expired.push(afterMs) };
  });
  for (const entry of entries) {
    deadlines.add(entry);
  }
  deadlines.remove(entries[3] as Perishable);
  await new Promise<void>((resolve) => {
    deadlines.add({ number: entries.length, deadlineMs: nowMs + 90, expire: resolve });
  });

  expect(expired).toEqual([20, 40, 60]);
});
