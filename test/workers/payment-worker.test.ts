import { create } from "@bufbuild/protobuf";
import { Client } from "pg";
import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PlaceOrderRequestSchema } from "../../gen/holdfast/v1/order_service_pb.js";
import { type Order, OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { loadConfig } from "../../src/config.ts";
import type { PaymentGateway } from "../../src/payments/gateway.ts";
import { createSimulatedGateway } from "../../src/payments/simulated-gateway.ts";
import { openFlushConnection } from "../../src/postgres/connection.ts";
import { patientCaller } from "../../src/shop/waiters.ts";
import { openStore } from "../../src/store.ts";
import { startPaymentWorker } from "../../src/workers/payment-worker.ts";
import { auditShop } from "../helpers/audit.ts";
import { type FakeStripe, type Fault, startFakeStripe } from "../helpers/fake-stripe.ts";
import { type Clients, type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { parseMetrics } from "../helpers/metrics-text.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
let stripe: FakeStripe;
let here: Holdfast;
let postgres: Client;

/** Settings that ask the fake, and ask again soon. */
function settings(changes: Record<string, string> = {}) {
  return {
    HOLDFAST_PAYMENT_GATEWAY: "stripe",
    STRIPE_API_KEY: "sk_test_holdfast",
    STRIPE_API_BASE: stripe.url,
    HOLDFAST_PAYMENT_ATTEMPT_TIMEOUT_MS: "500",
    HOLDFAST_PAYMENT_RETRY_MS: "5",
    HOLDFAST_PAYMENT_BREAK_MS: "20",
    ...changes,
  };
}

beforeAll(async () => {
  stripe = await startFakeStripe({ delayMs: 300 });
  here = await startHoldfast({ ...stores.urls, settings: settings() });
  postgres = new Client({ connectionString: stores.database.url });
  await postgres.connect();
});
beforeEach(() => stripe.misbehave(() => undefined));
afterAll(async () => {
  await postgres?.end();
  await here?.stop();
  await stripe?.stop();
});

const lines = [{ sku: "ps5", quantity: 2 }];

async function place(clients: Clients, shopId: string, changes: object = {}): Promise<Order> {
  const orderId = uniqueId("o");
  const paymentMethod = PaymentMethod.GATEWAY;
  const { order } = await clients.orders.placeOrder({ shopId, orderId, lines, paymentMethod, ...changes });
  if (order === undefined) throw new Error("the answer has no order");
  return order;
}

async function read(clients: Clients, shopId: string, { orderId }: Order): Promise<Order | undefined> {
  return (await clients.orders.getOrder({ shopId, orderId })).order;
}

/** Waits until an order has a state, and returns it. */
async function reached(clients: Clients, shopId: string, order: Order, state: OrderState): Promise<Order | undefined> {
  await expect
    .poll(async () => (await read(clients, shopId, order))?.state, { timeout: 20_000, interval: 10 })
    .toBe(state);
  return read(clients, shopId, order);
}

function chargesOf({ orderId }: Order) {
  return stripe.charges.filter(({ metadata }) => metadata.order_id === orderId);
}

function requestsFor({ orderId }: Order): number {
  return stripe.requests.filter(({ key }) => key.endsWith(orderId)).length;
}

async function levels(clients: Clients, shopId: string) {
  const { stock } = await clients.inventory.getStock({ shopId, sku: "ps5" });
  return [stock?.availableCount, stock?.heldCount, stock?.soldCount];
}

/** The commits that concern an order, oldest first: who made them and what happened. */
async function history(shopId: string, { orderId }: Order): Promise<[string, string][]> {
  const { rows } = await postgres.query(
    `select call->>'principal' as principal, k as kind from commits c, json_array_elements(c.events) e, json_object_keys(e) k
     where shop_id = $1 and e->k->'order'->>'order_id' = $2 order by position`,
    [shopId, orderId],
  );
  return rows.map(({ principal, kind }) => [principal, kind]);
}

describe("a GATEWAY order", () => {
  test("waits with its units held, is charged, and is then paid", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 5 }, users: { ann: 0 } });
    const placed = await place(here.grpc, shopId, { userId: "ann" });
    expect(placed).toMatchObject({ state: OrderState.PENDING_PAYMENT, chargeId: "" });
    expect(placed.expireTime).toBeUndefined();
    const paid = await reached(here.http, shopId, placed, OrderState.PAID);
    const [charge] = chargesOf(placed);
    expect(charge).toMatchObject({ key: `${shopId}/${placed.orderId}`, amount: 200, currency: "usd" });
    expect(paid).toMatchObject({ chargeId: charge?.id, amountMinor: 200n });
    expect(await levels(here.grpc, shopId)).toEqual([3n, 0n, 2n]);
    expect(await history(shopId, placed)).toEqual([
      ["", "order_placed"],
      ["payment-worker", "order_confirmed"],
    ]);
    await auditShop({ ...stores.urls, shopId });
  });

  test("that is declined is cancelled, and its units can be sold again", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 2 } });
    stripe.misbehave(() => "decline");
    const placed = await place(here.grpc, shopId);
    const cancelled = await reached(here.grpc, shopId, placed, OrderState.CANCELLED);
    expect(cancelled).toMatchObject({ cancelReason: "PAYMENT_DECLINED", chargeId: "" });
    expect(chargesOf(placed)).toEqual([]);
    stripe.misbehave(() => undefined);
    const next = await place(here.grpc, shopId);
    await reached(here.grpc, shopId, next, OrderState.PAID);
    await auditShop({ ...stores.urls, shopId });
  });

  test("is counted by what the gateway says of it, and the breaker shows", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 20 } });
    const count = async (outcome: string) =>
      parseMetrics(await here.server.metrics()).sum("holdfast_payments_total", { kind: "charge", outcome });
    const before = [await count("charged"), await count("declined"), await count("unavailable")] as const;
    await reached(here.grpc, shopId, await place(here.grpc, shopId), OrderState.PAID);
    stripe.misbehave(() => "decline");
    await reached(here.grpc, shopId, await place(here.grpc, shopId), OrderState.CANCELLED);
    stripe.misbehave(() => "unavailable");
    const late = await Promise.all([1, 2, 3].map(() => place(here.grpc, shopId)));
    const breakerIs = async (state: string) =>
      parseMetrics(await here.server.metrics()).sum("holdfast_payment_breaker", { state });
    await expect.poll(() => breakerIs("open"), { timeout: 20_000, interval: 1 }).toBe(1);
    await expect.poll(() => count("unavailable"), { timeout: 20_000 }).toBeGreaterThan(before[2]);
    // What the open breaker stopped took no time that says anything about the gateway.
    const untimedCount = async () => {
      const page = parseMetrics(await here.server.metrics());
      const charges = { kind: "charge" };
      return page.sum("holdfast_payments_total", charges) - page.sum("holdfast_payment_seconds_count", charges);
    };
    await expect.poll(untimedCount, { timeout: 20_000 }).toBeGreaterThan(0);
    stripe.misbehave(() => undefined);
    await Promise.all(late.map((order) => reached(here.grpc, shopId, order, OrderState.PAID)));
    expect(await breakerIs("closed")).toBe(1);
    expect([await count("charged"), await count("declined")]).toEqual([before[0] + 4, before[1] + 1]);
  });

  test("whose outcome stays unknown keeps its units, and is asked for until it is known", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 2 } });
    stripe.misbehave(() => "unavailable");
    const placed = await place(here.grpc, shopId);
    await expect.poll(() => requestsFor(placed), { timeout: 20_000, interval: 10 }).toBeGreaterThan(6);
    expect(await read(here.grpc, shopId, placed)).toMatchObject({ state: OrderState.PENDING_PAYMENT });
    expect(await levels(here.grpc, shopId)).toEqual([0n, 2n, 0n]);
    stripe.misbehave(({ key }) =>
      chargesOf(placed).length === 0 && key.endsWith(placed.orderId) ? "drop" : undefined,
    );
    await reached(here.grpc, shopId, placed, OrderState.PAID);
    expect(chargesOf(placed)).toHaveLength(1);
    await auditShop({ ...stores.urls, shopId });
  });

  test("that costs nothing is paid without asking the gateway", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 5 } });
    await here.grpc.inventory.putProduct({ shopId, sku: "ps5", title: "free", priceMinor: 0n });
    const placed = await place(here.grpc, shopId);
    await reached(here.grpc, shopId, placed, OrderState.PAID);
    expect(requestsFor(placed)).toBe(0);
  });

  test("of a name that another shop used too is charged for itself", async () => {
    const [first, second] = await Promise.all([
      createShop(here.grpc, { stock: { ps5: 5 } }),
      createShop(here.grpc, { stock: { ps5: 5 } }),
    ]);
    const orderId = uniqueId("o");
    const orders = await Promise.all([place(here.grpc, first, { orderId }), place(here.grpc, second, { orderId })]);
    await reached(here.grpc, first, orders[0], OrderState.PAID);
    await reached(here.grpc, second, orders[1], OrderState.PAID);
    expect(
      chargesOf(orders[0])
        .map(({ metadata }) => metadata.shop_id)
        .sort(),
    ).toEqual([first, second].sort());
  });
});

describe("a refund of a GATEWAY order", () => {
  test("is made at the gateway and settled, each once", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 5 } });
    const placed = await place(here.grpc, shopId);
    const paid = await reached(here.grpc, shopId, placed, OrderState.PAID);
    stripe.misbehave(({ attempt }) => (attempt === 1 ? "drop" : undefined));
    const { orderId } = placed;
    await here.grpc.orders.refundOrder({ shopId, orderId, amountMinor: 50n, reason: "late" });
    // A caller may use whatever request id it likes: the worker's own is none of them.
    await here.grpc.orders.refundOrder({ shopId, orderId, requestId: `${orderId}.refund.1` });
    await expect
      .poll(async () => (await history(shopId, placed)).filter(([, kind]) => kind === "refund_settled").length, {
        timeout: 20_000,
        interval: 10,
      })
      .toBe(2);
    const refunds = stripe.refunds.filter(({ charge }) => charge === paid?.chargeId);
    expect(refunds.map(({ key, amount }) => [key, amount])).toEqual([
      [`${shopId}/${orderId}.refund.1`, 50],
      [`${shopId}/${orderId}.refund.2`, 150],
    ]);
    const { rows } = await postgres.query("select * from refunds where shop_id = $1 order by refund_number", [shopId]);
    expect(rows.map(({ settled, refund_id: id }) => [settled, id])).toEqual(refunds.map(({ id }) => [true, id]));
    await auditShop({ ...stores.urls, shopId });
  });
});

describe("what somebody has to look at", () => {
  let other: Holdfast | undefined;
  let offsetMs = 0;
  beforeAll(() => here.stop());
  afterAll(async () => {
    await other?.stop();
    here = await startHoldfast({ ...stores.urls, settings: settings() });
  });

  test("a request that the gateway refuses leaves the order pending and is logged", async () => {
    other = await startHoldfast({ ...stores.urls, settings: settings({ STRIPE_API_KEY: "sk_test_wrong" }) });
    const shopId = await createShop(other.grpc, { stock: { ps5: 5 } });
    const placed = await place(other.grpc, shopId);
    await expect.poll(() => other?.faults.length, { timeout: 20_000, interval: 10 }).toBeGreaterThan(0);
    expect(JSON.parse(other.faults[0] ?? "")).toMatchObject({ shop: shopId, order: placed.orderId });
    expect(await read(other.grpc, shopId, placed)).toMatchObject({ state: OrderState.PENDING_PAYMENT });
    expect(await levels(other.grpc, shopId)).toEqual([3n, 2n, 0n]);
    await other.stop();
    // With the right key, what was left is charged.
    other = await startHoldfast({ ...stores.urls, settings: settings() });
    await reached(other.grpc, shopId, placed, OrderState.PAID);
    await other.stop();
    other = undefined;
  });

  test("orders that are pending for 23 hours keep their units, and are logged once; after 26 hours they are looked for", async () => {
    const clock = () => Date.now() + offsetMs;
    other = await startHoldfast({ ...stores.urls, settings: settings(), clock });
    const shopId = await createShop(other.grpc, { stock: { ps5: 6 } });
    const [chargedId, lostId] = [uniqueId("o"), uniqueId("o")];
    const faults = new Map<string, Fault>([
      [`${shopId}/${chargedId}`, "drop"],
      [`${shopId}/${lostId}`, "unavailable"],
    ]);
    stripe.misbehave(({ key }) => faults.get(key));
    const charged = await place(other.grpc, shopId, { orderId: chargedId });
    const lost = await place(other.grpc, shopId, { orderId: lostId });
    await expect.poll(() => chargesOf(charged), { timeout: 20_000, interval: 10 }).toHaveLength(1);
    await expect.poll(() => requestsFor(lost), { timeout: 20_000, interval: 10 }).toBeGreaterThan(0);
    offsetMs = 23 * 3_600_000 + 1000;
    await expect.poll(() => other?.faults.length, { timeout: 20_000, interval: 10 }).toBe(2);
    const younger = await place(other.grpc, shopId);
    await reached(other.grpc, shopId, younger, OrderState.PAID);
    expect(other.faults.map((line) => JSON.parse(line).order).sort()).toEqual([chargedId, lostId].sort());
    expect(await levels(other.grpc, shopId)).toEqual([0n, 4n, 2n]);
    offsetMs = 26 * 3_600_000 + 1000;
    const paid = await reached(other.grpc, shopId, charged, OrderState.PAID);
    expect(chargesOf(charged)).toMatchObject([{ id: paid?.chargeId }]);
    await reached(other.grpc, shopId, lost, OrderState.CANCELLED);
    expect(chargesOf(lost)).toEqual([]);
    expect(await levels(other.grpc, shopId)).toEqual([2n, 0n, 4n]);
    expect(other.faults).toHaveLength(2);
  });
});

test("a refund that is unsettled when the gateway has forgotten its key is looked for before it is made", async () => {
  let offsetMs = 0;
  await here.stop();
  here = await startHoldfast({ ...stores.urls, settings: settings(), clock: () => Date.now() + offsetMs });
  const shopId = await createShop(here.grpc, { stock: { ps5: 5 } });
  const placed = await place(here.grpc, shopId);
  const paid = await reached(here.grpc, shopId, placed, OrderState.PAID);
  let isLost = true;
  stripe.misbehave(({ path }) => (path === "/v1/refunds" && isLost ? "drop" : undefined));
  const booked = () => stripe.refunds.filter(({ charge }) => charge === paid?.chargeId);
  await here.grpc.orders.refundOrder({ shopId, orderId: placed.orderId, amountMinor: 50n });
  await expect.poll(() => booked().length, { timeout: 20_000, interval: 10 }).toBe(1);
  await here.stop();
  isLost = false;
  offsetMs = 24 * 3_600_000;
  stripe.forgetKeys();
  here = await startHoldfast({ ...stores.urls, settings: settings(), clock: () => Date.now() + offsetMs });
  const settled = "select settled from refunds where shop_id = $1";
  await expect
    .poll(async () => (await postgres.query(settled, [shopId])).rows, { timeout: 20_000, interval: 10 })
    .toEqual([{ settled: true }]);
  expect(booked()).toHaveLength(1);
  await here.stop();
  here = await startHoldfast({ ...stores.urls, settings: settings() });
});

/** Who has the payment workers' lock. */
const ofLock =
  "from pg_locks where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())";
const leaders = async () => (await postgres.query(`select pid ${ofLock}`)).rows.length;

describe("of several processes", () => {
  test("one works, and another goes on when it is gone", async () => {
    const others = await Promise.all([1, 2].map(() => startHoldfast({ ...stores.urls, settings: settings() })));
    const [first, second] = others as [Holdfast, Holdfast];
    const shopId = await createShop(here.grpc, { stock: { ps5: 50 } });
    for (const stopped of [here, first]) {
      await expect.poll(leaders, { timeout: 20_000, interval: 10 }).toBe(1);
      const orders = await Promise.all([first, second].map((each) => place(each.grpc, shopId)));
      for (const order of orders) await reached(second.grpc, shopId, order, OrderState.PAID);
      await stopped.stop();
    }
    const last = await place(second.grpc, shopId);
    await reached(second.grpc, shopId, last, OrderState.PAID);
    expect(stripe.charges.filter(({ metadata }) => metadata.shop_id === shopId)).toHaveLength(5);
    await second.stop();
    here = await startHoldfast({ ...stores.urls, settings: settings() });
  });

  test("one whose session is lost leads again with another", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 50 } });
    await expect.poll(leaders, { timeout: 20_000, interval: 10 }).toBe(1);
    await postgres.query(`select pg_terminate_backend(pid) ${ofLock}`);
    await reached(here.grpc, shopId, await place(here.grpc, shopId), OrderState.PAID);
    expect(await leaders()).toBe(1);
  });

  test("one that stops lets a charge under way come to its end", async () => {
    await here.stop();
    const patient = settings({ HOLDFAST_PAYMENT_ATTEMPT_TIMEOUT_MS: "10000" });
    const leaving = await startHoldfast({ ...stores.urls, settings: patient });
    const shopId = await createShop(leaving.grpc, { stock: { ps5: 50 } });
    stripe.misbehave(() => "delay");
    const placed = await place(leaving.grpc, shopId);
    await expect.poll(() => requestsFor(placed), { timeout: 20_000, interval: 5 }).toBe(1);
    await leaving.stop();
    const { rows } = await postgres.query("select state from orders where order_id = $1", [placed.orderId]);
    expect(rows).toEqual([{ state: OrderState.PAID }]);
    here = await startHoldfast({ ...stores.urls, settings: settings() });
  });
});

test("a worker is woken by what its process made durable, and need not look for it", async () => {
  const shopId = await createShop(here.grpc, { stock: { ps5: 5 } });
  await here.stop();
  const { databaseUrl } = stores.urls;
  const store = await openStore({ ...loadConfig({}), ...stores.urls, logger: pino({ level: "silent" }) });
  const worker = startPaymentWorker({
    gateway: createSimulatedGateway(),
    shops: store.shops,
    connection: openFlushConnection({ url: databaseUrl, onError: () => {} }),
    logger: pino({ level: "silent" }),
    retryMs: 1000,
    pollMs: 3_600_000,
  });
  await expect.poll(leaders, { timeout: 20_000, interval: 10 }).toBe(1);
  const orderId = uniqueId("o");
  await store.shops.get(shopId).mutate({
    rpc: "PlaceOrder",
    script: store.shops.scripts.placeOrder,
    request: { desc: PlaceOrderRequestSchema, message: create(PlaceOrderRequestSchema, { orderId }) },
    requestId: "",
    principal: "",
    args: [orderId, "", PaymentMethod.GATEWAY, "", 600_000, "ps5", 1, ""],
    caller: patientCaller,
  });
  const stateOf = "select state from orders where order_id = $1";
  await expect
    .poll(async () => (await postgres.query(stateOf, [orderId])).rows, { timeout: 20_000, interval: 10 })
    .toEqual([{ state: OrderState.PAID }]);
  await worker.stop();
  await store.close();
  here = await startHoldfast({ ...stores.urls, settings: settings() });
});

test("a refund does not wait until there is nothing to charge", async () => {
  const shopId = await createShop(here.grpc, { stock: { ps5: 1000 } });
  const paid = await place(here.grpc, shopId);
  await reached(here.grpc, shopId, paid, OrderState.PAID);
  stripe.misbehave(() => "unavailable");
  await here.grpc.orders.refundOrder({ shopId, orderId: paid.orderId });
  await Promise.all(Array.from({ length: 300 }, () => place(here.grpc, shopId)));
  await here.stop();
  const asked: string[] = [];
  const gateway: PaymentGateway = {
    charge: async ({ orderId }) => ({ outcome: "charged", chargeId: `ch_${asked.push(orderId)}` }),
    refund: async () => `re_${asked.push("the refund")}`,
  };
  const store = await openStore({ ...loadConfig({}), ...stores.urls, logger: pino({ level: "silent" }) });
  const worker = startPaymentWorker({
    gateway,
    shops: store.shops,
    connection: openFlushConnection({ url: stores.database.url, onError: () => {} }),
    logger: pino({ level: "silent" }),
    retryMs: 1000,
  });
  await expect.poll(() => new Set(asked).size, { timeout: 20_000, interval: 10 }).toBe(301);
  expect(asked.indexOf("the refund")).toBeLessThan(200);
  await worker.stop();
  await store.close();
  here = await startHoldfast({ ...stores.urls, settings: settings() });
});

test("nothing of all this is a fault of ours", () => {
  expect(here.faults).toEqual([]);
});
