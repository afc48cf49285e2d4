import { createHash } from "node:crypto";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type FakeStripe, type Fault, type StripeRequest, startFakeStripe } from "../helpers/fake-stripe.ts";
import { type Clients, type HoldfastProcess, spawnHoldfast } from "../helpers/holdfast.ts";
import { persist, startLoad } from "../helpers/load.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
const orderCount = 1000;
let stripe: FakeStripe;
let postgres: Client;
/** Two processes serve, the older one leads the payments. `clients` are theirs, changed in place. */
const processes: HoldfastProcess[] = [];
const killed: HoldfastProcess[] = [];
const clients: Clients[] = [];

beforeAll(async () => {
  stripe = await startFakeStripe({ delayMs: 300 });
  stripe.misbehave(faultOf);
  postgres = new Client({ connectionString: stores.database.url });
  await postgres.connect();
  for (const index of [0, 1]) {
    processes.push(await spawn());
    clients[index] = (processes[index] as HoldfastProcess).grpc;
  }
});
afterAll(async () => {
  await Promise.all([...processes, ...killed].map((each) => each.kill()));
  await postgres?.end();
  await stripe?.stop();
});

function spawn(): Promise<HoldfastProcess> {
  const settings = {
    HOLDFAST_PAYMENT_GATEWAY: "stripe",
    STRIPE_API_KEY: "sk_test_holdfast",
    STRIPE_API_BASE: stripe.url,
    HOLDFAST_PAYMENT_ATTEMPT_TIMEOUT_MS: "150",
    HOLDFAST_PAYMENT_RETRY_MS: "10",
    HOLDFAST_PAYMENT_BREAK_MS: "50",
  };
  return spawnHoldfast({ ...stores.urls, settings });
}

/** SIGKILL for the one that leads; the other takes over. */
async function killLeader(): Promise<HoldfastProcess> {
  const leader = processes.shift() as HoldfastProcess;
  leader.signal("SIGKILL");
  await leader.ended;
  killed.push(leader);
  return leader;
}

/** Starts one in the place of one that was killed. */
async function replace(gone: HoldfastProcess): Promise<void> {
  const started = await spawn();
  processes.push(started);
  clients[clients.indexOf(gone.grpc)] = started.grpc;
}

/** The same number for the same text, 0 to 99. */
function lot(text: string): number {
  return createHash("sha256").update(text).digest().readUInt16BE(0) % 100;
}

const firstFaults: readonly [upTo: number, Fault][] = [
  [8, "decline"],
  [16, "drop"],
  [22, "error"],
  [26, "remembered error"],
  [30, "cut"],
  [34, "unavailable"],
  [37, "rate limit"],
  [42, "delay"],
  [44, "processing"],
];

/** What becomes of a request follows from its key and attempt: nearly every second first one meets a fault, then every tenth. */
function faultOf({ key, path, attempt }: StripeRequest): Fault | undefined {
  if (attempt > 1) {
    return lot(`${key} ${attempt}`) < 10 ? "drop" : undefined;
  }
  const [, fault] = firstFaults.find(([upTo]) => lot(key) < upTo) ?? [];
  return path === "/v1/refunds" && (fault === "decline" || fault === "processing") ? "drop" : fault;
}

async function query<Row>(text: string, values: readonly unknown[]): Promise<Row[]> {
  return (await postgres.query(text, [...values])).rows;
}

/**
 * Kills the leader whenever so many things were done at the gateway. Returns how many of them the shop did not know of at
 * those moments: kills that do not come between the gateway and the shop show nothing.
 */
async function killAt(counts: readonly number[], done: readonly { readonly id: string }[]): Promise<number> {
  let unknownCount = 0;
  for (const count of counts) {
    await expect.poll(() => done.length, { timeout: 30_000, interval: 2 }).toBeGreaterThanOrEqual(count);
    const gone = await killLeader();
    const ids = done.map(({ id }) => id);
    const known =
      "select charge_id from orders where charge_id = any($1) union select refund_id from refunds where refund_id = any($1)";
    unknownCount += ids.length - (await query(known, [ids])).length;
    await replace(gone);
  }
  return unknownCount;
}

test("1,000 orders over a faulty gateway, through kills: each is paid with one charge, or cancelled with none", async () => {
  const users = { ann: 0, bob: 0 };
  const shopId = await createShop(clients[1] as Clients, { stock: { ps5: orderCount }, users });
  const load = startLoad({
    clients,
    shopId,
    callerCount: 24,
    requestCount: orderCount,
    order: (index) => ({
      orderId: `o-${index}`,
      userId: ["ann", "bob", ""][index % 3] as string,
      lines: [{ sku: "ps5", quantity: 1 }],
      paymentMethod: PaymentMethod.GATEWAY,
    }),
  });
  const [{ acknowledged }, unknownCount] = await Promise.all([
    load.result,
    killAt([100, 300, 500, 700], stripe.charges),
  ]);
  expect(acknowledged).toHaveLength(orderCount);
  expect(unknownCount, "charges that a kill left without their confirmation").toBeGreaterThan(0);
  const pending = "select count(*)::int as count from orders where shop_id = $1 and state = 1";
  await expect
    .poll(async () => (await query<{ count: number }>(pending, [shopId]))[0]?.count, { timeout: 30_000, interval: 50 })
    .toBe(0);

  const orders = await query<{ order_id: string; state: number; charge_id: string; amount_minor: string }>(
    "select order_id, state, charge_id, amount_minor from orders where shop_id = $1",
    [shopId],
  );
  const told = orders.map((order) => ({
    order: order.order_id,
    charges: order.state === OrderState.PAID ? [[order.charge_id, Number(order.amount_minor)]] : [],
    isCancelled: order.state === OrderState.CANCELLED,
  }));
  const booked = orders.map(({ order_id: order }) => ({
    order,
    charges: stripe.charges.filter(({ metadata }) => metadata.order_id === order).map(({ id, amount }) => [id, amount]),
    isCancelled: lot(`${shopId}/${order}`) < 8,
  }));
  expect(told, "orders and the gateway's book").toEqual(booked);
  const met = new Set(stripe.requests.map((request) => faultOf(request)));
  expect(
    [...new Set(firstFaults.map(([, fault]) => fault))].filter((fault) => !met.has(fault)),
    "faults not met",
  ).toEqual([]);
  expect(stripe.charges, "and nothing else was charged").toHaveLength(
    told.filter(({ isCancelled }) => !isCancelled).length,
  );
  await auditShop({ ...stores.urls, shopId }, acknowledged);

  await refundThroughKills(shopId, told.filter(({ isCancelled }) => !isCancelled).slice(0, 100));
}, 120_000);

/** Gives money back of paid orders: a part, then the rest of every second one. */
async function refundThroughKills(shopId: string, paid: readonly { readonly order: string }[]): Promise<void> {
  const refund = async (orderId: string, amountMinor?: bigint): Promise<void> => {
    const requestId = `${orderId}-back-${amountMinor}`;
    const request = { shopId, orderId, requestId, ...(amountMinor === undefined ? {} : { amountMinor }) };
    await persist((attempt) => (clients[attempt % 2] as Clients).orders.refundOrder(request, { timeoutMs: 5000 }));
  };
  const refunding = Promise.all(
    paid.map(async ({ order }, index) => {
      await refund(order, 30n);
      if (index % 2 === 0) await refund(order);
    }),
  );
  const [unknownCount] = await Promise.all([killAt([30, 90], stripe.refunds), refunding]);
  expect(unknownCount, "refunds that a kill left unsettled").toBeGreaterThan(0);
  const unsettled = "select count(*)::int as count from refunds where shop_id = $1 and not settled";
  await expect
    .poll(async () => (await query<{ count: number }>(unsettled, [shopId]))[0]?.count, {
      timeout: 30_000,
      interval: 50,
    })
    .toBe(0);

  const expected = paid.flatMap(({ order }, index) => [`${order} 1 30`, ...(index % 2 === 0 ? [`${order} 2 70`] : [])]);
  const settled = await query<{ text: string }>(
    `select concat_ws(' ', s->'order'->>'order_id', s->>'refund_number', s->>'amount_minor') as text
     from commits c, json_array_elements(c.events) e, lateral (select e->'refund_settled') as x(s)
     where c.shop_id = $1 and s is not null`,
    [shopId],
  );
  expect(settled.map(({ text }) => text).sort(), "one refund_settled each").toEqual(expected.sort());
  const inBook = stripe.refunds.map(
    ({ key, amount }) => `${key.slice(shopId.length + 1).replace(".refund.", " ")} ${amount}`,
  );
  expect(inBook.sort(), "one refund each in the gateway's book").toEqual(expected);
  await auditShop({ ...stores.urls, shopId });
}
