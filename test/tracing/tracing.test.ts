import { describe, expect, onTestFinished, test } from "vitest";
import type { EventBatch } from "../../gen/holdfast/v1/event_service_pb.js";
import { OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { type CollectedSpan, startCollector } from "../helpers/collector.ts";
import { type Clients, startHoldfast } from "../helpers/holdfast.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
const traceId = "0af7651916cd43dd8448eb211c80319c";
const callerId = "b7ad6b7169203331";
const headers = { traceparent: `00-${traceId}-${callerId}-01` };
const unsampled = { traceparent: `00-${traceId}-${callerId}-00` };

async function start(settings: Readonly<Record<string, string>> = {}) {
  const holdfast = await startHoldfast({ ...stores.urls, settings });
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= holdfast.stop();
    return stopping;
  };
  onTestFinished(stop);
  return { ...holdfast, stop };
}

async function startTraced(settings: Readonly<Record<string, string>> = {}) {
  const collector = await startCollector();
  onTestFinished(() => collector.stop());
  const holdfast = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...settings });
  return { holdfast, collector };
}

const buy = ({ orders }: Clients, shopId: string, requestId: string, given: Record<string, string> = {}) =>
  orders.placeOrder(
    { shopId, requestId, lines: [{ sku: "a", quantity: 1 }], paymentMethod: PaymentMethod.NONE },
    { headers: given },
  );

/** The commit of a request, as watchers get it. */
async function watchFor({ events }: Clients, shopId: string, requestId: string): Promise<EventBatch> {
  for await (const { message } of events.watchEvents({ shopId })) {
    if (message.case === "batch" && message.value.requestId === requestId) return message.value;
  }
  throw new Error("the watch ended");
}

/** Takes the first message of a stream. */
async function readFirst(messages: AsyncIterable<unknown>): Promise<void> {
  await messages[Symbol.asyncIterator]().next();
}

describe("with a collector", () => {
  test.each(["grpc", "http"] as const)(
    "a call on %s continues its caller's trace, down to its script and up to whoever watches",
    async (door) => {
      const { holdfast, collector } = await startTraced();
      const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
      const requestId = uniqueId("request");
      await buy(holdfast[door], shopId, requestId, headers);
      const { traceParent } = await watchFor(holdfast.grpc, shopId, requestId);
      await holdfast.stop();
      const [call, ...others] = collector.spans.filter(({ parentId }) => parentId === callerId);
      expect(others).toEqual([]);
      expect(call).toMatchObject({ name: "holdfast.v1.OrderService/PlaceOrder", traceId });
      const { spanId } = call as CollectedSpan;
      expect(traceParent).toBe(`00-${traceId}-${spanId}-01`);
      const within = collector.spans.filter(({ parentId }) => parentId === spanId);
      expect(within.map(({ name, traceId: trace }) => [name, trace])).toEqual([["script placeOrder", traceId]]);
      const flushes = collector.spans.filter(({ name }) => name === "flush");
      expect(flushes.filter(({ links }) => links.includes(`${traceId}-${spanId}`))).toHaveLength(1);
      expect(flushes.every(({ parentId }) => parentId === "")).toBe(true);
    },
  );

  test.each(["grpc", "http"] as const)(
    "a call on %s carries its caller's tracestate on, down to its script, and no commit keeps it",
    async (door) => {
      const { holdfast, collector } = await startTraced();
      const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
      const tracestate = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
      const requestId = uniqueId("request");
      await buy(holdfast[door], shopId, requestId, { ...headers, tracestate });
      const { traceParent } = await watchFor(holdfast.grpc, shopId, requestId);
      expect(traceParent).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
      const [stored] = await holdfast.server.store.db
        .selectFrom("commits")
        .selectAll()
        .where("request_id", "=", requestId)
        .execute();
      expect(JSON.stringify(stored)).not.toContain("congo");
      await holdfast.stop();
      const spans = collector.spans.filter((span) => span.traceId === traceId);
      expect(spans.map((span) => [span.name, span.traceState]).sort()).toEqual([
        ["holdfast.v1.OrderService/PlaceOrder", tracestate],
        ["script placeOrder", tracestate],
      ]);
    },
  );

  test.each([
    ["without a traceparent", "", "congo=1", ""],
    ["of which a part is none", headers.traceparent, "congo=1,nonsense,rojo=2", "congo=1,rojo=2"],
    [
      "that is too long",
      headers.traceparent,
      `congo=${"x".repeat(256)},rojo=${"y".repeat(256)}`,
      `congo=${"x".repeat(256)}`,
    ],
  ])("a tracestate %s is carried on as far as it says something", async (_which, traceparent, tracestate, carried) => {
    const { holdfast, collector } = await startTraced();
    const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
    await buy(holdfast.grpc, shopId, uniqueId("request"), { traceparent, tracestate });
    await holdfast.stop();
    const [call] = collector.spans.filter(({ name }) => name.endsWith("/PlaceOrder"));
    expect(call?.traceState).toBe(carried);
  });

  test("queries of a read are within its call, without their values, and calls of others are not mixed up", async () => {
    const { holdfast, collector } = await startTraced();
    const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
    const ids = Array.from({ length: 10 }, (_, index) => `${index}`.padStart(16, "f"));
    await Promise.all(
      ids.map((id) =>
        holdfast.grpc.users.listUsers(
          { shopId },
          { headers: { traceparent: `00-${traceId.slice(16)}${id}-${id}-01` } },
        ),
      ),
    );
    await holdfast.stop();
    for (const id of ids) {
      const [call] = collector.spans.filter(({ parentId }) => parentId === id);
      const within = collector.spans.filter(({ parentId }) => parentId === call?.spanId);
      expect(within.length).toBeGreaterThan(0);
      expect(within.every(({ traceId: trace }) => trace.endsWith(id))).toBe(true);
      const queries = within.flatMap(({ attributes }) => attributes["db.query.text"] ?? []);
      expect(queries).toContainEqual(expect.stringMatching(/^select .* from "users" .*\$1/));
      expect(JSON.stringify(within)).not.toContain(shopId);
    }
  });

  test.each(["grpc", "http"] as const)(
    "a stream on %s has one span too, which ends when and how the stream does, and none within it",
    async (door) => {
      const { holdfast, collector } = await startTraced();
      const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
      const { admin, events } = holdfast[door];
      const leaving = new AbortController();
      for await (const _ of admin.verifyShop({ shopId }, { headers }));
      for await (const _ of admin.rebuildShop({ shopId }, { headers }));
      await refusalOf(readFirst(admin.verifyShop({ shopId: "no-such-shop" }, { headers })));
      await readFirst(events.watchEvents({ shopId }, { headers, signal: leaving.signal }));
      leaving.abort();
      await until("the watch is over", () => holdfast.server.store.shops.hub(shopId).watcherCount === 0);
      await holdfast.stop();
      const spans = collector.spans.filter((span) => span.traceId === traceId);
      expect(spans.every(({ parentId }) => parentId === callerId)).toBe(true);
      const told = spans.map(({ name, attributes: { "rpc.grpc.status_code": code, "holdfast.reason": reason } }) =>
        [name.split("/").at(1), code, reason].join(" ").trim(),
      );
      expect(told.sort()).toEqual(["RebuildShop 0", "VerifyShop 0", "VerifyShop 5 SHOP_NOT_FOUND", "WatchEvents 1"]);
      expect(spans.filter(({ hasFailed }) => hasFailed)).toEqual([]);
    },
  );

  test("what the payment worker asks the gateway is a trace of its own, without ids, that links to who wanted it", async () => {
    const { holdfast, collector } = await startTraced();
    const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
    const lines = [{ sku: "a", quantity: 1 }];
    const wanted = { shopId, lines, paymentMethod: PaymentMethod.GATEWAY };
    const { order } = await holdfast.grpc.orders.placeOrder(wanted, { headers });
    const orderId = order?.orderId as string;
    const stateOf = async () => (await holdfast.grpc.orders.getOrder({ shopId, orderId })).order?.state;
    await until("it is charged", async () => (await stateOf()) === OrderState.PAID);
    await holdfast.grpc.orders.refundOrder({ shopId, orderId }, { headers });
    const { db } = holdfast.server.store;
    const openRefunds = () => db.selectFrom("refunds").selectAll().where("settled", "=", false).execute();
    await until("it is given back", async () => (await openRefunds()).length === 0);
    await holdfast.stop();
    const linksTo = (rpc: string) =>
      collector.spans
        .filter(({ name, traceId: trace }) => name.endsWith(`/${rpc}`) && trace === traceId)
        .map(({ spanId }) => `${traceId}-${spanId}`);
    const payments = collector.spans.filter(({ name }) => name.startsWith("payment "));
    const asIt = { parentId: "", hasFailed: false };
    expect(payments).toMatchObject([
      { ...asIt, name: "payment charge", attributes: { "holdfast.outcome": "charged" }, links: linksTo("PlaceOrder") },
      {
        ...asIt,
        name: "payment refund",
        attributes: { "holdfast.outcome": "refunded" },
        links: linksTo("RefundOrder"),
      },
    ]);
    expect(payments.flatMap(({ links }) => links)).toHaveLength(2);
    expect(payments.map(({ traceId: trace }) => trace)).not.toContain(traceId);
    expect(JSON.stringify(payments)).not.toContain(orderId);
  });

  test("a caller that does not sample is not traced, and its commits keep what it said", async () => {
    const { holdfast, collector } = await startTraced();
    const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
    const requestId = uniqueId("request");
    await buy(holdfast.grpc, shopId, requestId, unsampled);
    expect((await watchFor(holdfast.grpc, shopId, requestId)).traceParent).toBe(unsampled.traceparent);
    await holdfast.stop();
    expect(collector.spans.filter(({ traceId: trace }) => trace === traceId)).toEqual([]);
    // Others were.
    expect(collector.spans.length).toBeGreaterThan(0);
  });

  test("of traces that begin here the share of the settings is kept", async () => {
    const { holdfast, collector } = await startTraced({ OTEL_TRACES_SAMPLER_ARG: "0" });
    await createShop(holdfast.grpc, { stock: { a: 5 } });
    await holdfast.stop();
    expect(collector.spans).toEqual([]);
  });
});

describe("without one", () => {
  test("a commit keeps its caller's traceparent, and a replay need not have the same", async () => {
    const holdfast = await start();
    const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
    const requestId = uniqueId("request");
    await buy(holdfast.grpc, shopId, requestId, headers);
    const other = { traceparent: headers.traceparent.replace(callerId, "00000000000000aa") };
    for (const given of [other, {}]) {
      expect((await buy(holdfast.http, shopId, requestId, given)).commit?.replayed).toBe(true);
    }
    expect((await watchFor(holdfast.grpc, shopId, requestId)).traceParent).toBe(headers.traceparent);
    const found = [];
    for await (const { discrepancies } of holdfast.grpc.admin.verifyShop({ shopId })) found.push(...discrepancies);
    expect(found).toEqual([]);
  });

  test.each(["nonsense", `00-${traceId}-${callerId}-01-${"x".repeat(4000)}`, "00-\u00e9", ""])(
    "a traceparent that is none is dropped: %.20s",
    async (traceparent) => {
      const holdfast = await start();
      const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
      const requestId = uniqueId("request");
      const { url, body } = {
        url: `${holdfast.httpUrl}/holdfast.v1.OrderService/PlaceOrder`,
        body: JSON.stringify({
          shopId,
          requestId,
          lines: [{ sku: "a", quantity: 1 }],
          paymentMethod: "PAYMENT_METHOD_NONE",
        }),
      };
      const json = { "content-type": "application/json" };
      expect((await fetch(url, { method: "POST", headers: { ...json, traceparent }, body })).status).toBe(200);
      expect((await watchFor(holdfast.grpc, shopId, requestId)).traceParent).toBe("");
    },
  );
});

test("a collector that is away is told once, and calls go on", async () => {
  const holdfast = await start({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://127.0.0.1:1/v1/traces" });
  const shopId = await createShop(holdfast.grpc, { stock: { a: 5 } });
  expect((await buy(holdfast.grpc, shopId, uniqueId("request"), headers)).commit?.durable).toBe(true);
  await holdfast.stop();
  expect(holdfast.faults).toEqual([]);
  const told = holdfast.logged.map((line) => JSON.parse(line).msg).filter((msg) => /spans/.test(msg));
  expect(told.length).toBeLessThanOrEqual(2);
});
