import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { AdjustReason, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Clients, type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { commitOf } from "../helpers/load.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { readRefusal, refusalOf } from "../helpers/refusals.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const settings = { HOLDFAST_MAX_CALLS_IN_FLIGHT: "8", HOLDFAST_MAX_CALLS_WAITING: "6" };
const stores = useStores();
let postgres: TcpProxy;
let holdfast: Holdfast;
let hot: string;
/** A shop whose flushes go over the other connection. */
let calm: string;

beforeAll(async () => {
  postgres = await startProxy(stores.database.url);
  holdfast = await startHoldfast({ redisUrl: stores.redis.url, databaseUrl: postgres.url, settings });
  hot = await createShop(holdfast.grpc, { stock: { ps5: 100 } });
  calm = await createShop(holdfast.grpc, { stock: { ps5: 100 } });
});
afterEach(() => {
  postgres.release();
  postgres.accept();
});
afterAll(async () => {
  await holdfast?.stop();
  await postgres?.stop();
});

/** One unit more in a shop: a call like any other. */
function adjust(shopId: string, { inventory }: Clients = holdfast.grpc, requestId = uniqueId("r")) {
  return inventory.adjustStock({ shopId, requestId, sku: "ps5", deltaCount: 1n, reason: AdjustReason.RESTOCK });
}

async function countsAre(inFlightCount: number, waitingCount: number): Promise<void> {
  const { admission } = holdfast.server.store.shops;
  const counts = () => [admission.inFlightCount, admission.waitingCount];
  await expect.poll(counts, { interval: 5 }).toEqual([inFlightCount, waitingCount]);
}

/** Has the hot shop's flush stand still, with as many calls in flight and in line as may be; resolves with their answers. */
async function fillHot() {
  const requestId = uniqueId("r-held");
  const held = postgres.hold((request) => request.includes(requestId));
  const first = adjust(hot, holdfast.grpc, requestId);
  await held;
  const others = [1, 2, 3, 4, 5].map(() => adjust(hot));
  await countsAre(6, 0);
  const inLine = [0, 1, 2, 3, 4, 5].map((index) => adjust(hot, index % 2 === 0 ? holdfast.grpc : holdfast.http));
  await countsAre(6, 6);
  for (const call of inLine) call.catch(() => {}); // looked at one after the other
  return { inFlight: [first, ...others], inLine };
}

test("who is one too many hears so at once, and when to come back; who was let in or waits is answered", async () => {
  const { inFlight, inLine } = await fillHot();
  for (const clients of [holdfast.grpc, holdfast.http]) {
    const calls = [
      adjust(hot, clients),
      clients.orders.placeOrder({
        shopId: hot,
        lines: [{ sku: "ps5", quantity: 1 }],
        paymentMethod: PaymentMethod.NONE,
      }),
      clients.inventory.getStock({ shopId: hot, sku: "ps5" }),
    ];
    for (const call of calls) {
      const error = await call.catch(ConnectError.from);
      const { code, reason, retryMs } = readRefusal(error);
      expect([code, reason]).toEqual([Code.ResourceExhausted, "OVERLOADED"]);
      expect(retryMs).toBeGreaterThan(0);
      expect((error as ConnectError).metadata.get("grpc-retry-pushback-ms")).toBe(String(retryMs));
    }
  }
  postgres.release();
  const answers = await Promise.all([...inFlight, ...inLine]);
  await countsAre(0, 0);
  await auditShop({ ...stores.urls, shopId: hot }, answers.map(commitOf));
});

test("a calm shop is served while a hot one has all it may have", async () => {
  const { inFlight, inLine } = await fillHot();
  for (const clients of [holdfast.grpc, holdfast.http]) {
    expect((await adjust(calm, clients)).commit?.durable).toBe(true);
    expect((await clients.inventory.getStock({ shopId: calm, sku: "ps5" })).stock?.heldCount).toBe(0n);
  }
  await countsAre(6, 6);
  postgres.release();
  await Promise.all([...inFlight, ...inLine]);
});

test("later steps of purchases go before calls that came first, and are taken when those are refused", async () => {
  const { orders, inventory } = holdfast.grpc;
  const lines = [{ sku: "ps5", quantity: 1 }];
  const place = async (paymentMethod: PaymentMethod) =>
    (await orders.placeOrder({ shopId: hot, lines, paymentMethod })).order?.orderId ?? "";
  const unpaid = [await place(PaymentMethod.EXTERNAL), await place(PaymentMethod.EXTERNAL)] as const;
  const paid = [await place(PaymentMethod.NONE), await place(PaymentMethod.NONE)] as const;
  const hold = async () => (await inventory.holdStock({ shopId: hot, lines })).hold?.holdId ?? "";
  const holds = [await hold(), await hold()] as const;
  const { inFlight, inLine } = await fillHot();
  expect((await refusalOf(inventory.holdStock({ shopId: hot, lines }))).reason).toBe("OVERLOADED");
  const later = [
    orders.confirmOrder({ shopId: hot, orderId: unpaid[0], paymentReference: "card" }),
    orders.cancelOrder({ shopId: hot, orderId: unpaid[1], reason: "changed my mind" }),
    inventory.releaseHold({ shopId: hot, holdId: holds[0] }),
    orders.placeOrder({ shopId: hot, holdId: holds[1], paymentMethod: PaymentMethod.NONE }),
  ];
  await countsAre(6, 10);
  // These read from Postgres before their scripts run, and may be overtaken there.
  const refunded = orders.refundOrder({ shopId: hot, orderId: paid[0], reason: "broken", restock: true });
  const fulfilled = orders.fulfillOrder({ shopId: hot, orderId: paid[1], reference: "parcel" });
  await countsAre(6, 12);
  postgres.release();
  await Promise.all([...inFlight, refunded, fulfilled]);
  const positions = async (calls: readonly Promise<{ commit?: { position: bigint } | undefined }>[]) =>
    (await Promise.all(calls)).map(({ commit }) => Number(commit?.position));
  expect(Math.max(...(await positions(later)))).toBeLessThan(Math.min(...(await positions(inLine))));
  await auditShop({ ...stores.urls, shopId: hot });
});

test("who is in line when Postgres goes away is told so, not left waiting", async () => {
  const { inFlight, inLine } = await fillHot();
  postgres.refuse();
  for (const call of inLine) {
    expect((await refusalOf(call)).reason).toBe("SHOP_UNAVAILABLE");
  }
  postgres.accept();
  // What was decided stays decided: it waits for Postgres, or for its deadline.
  for (const call of inFlight) {
    const answer = await call.catch(ConnectError.from);
    if (answer instanceof ConnectError) expect(answer.code).toBe(Code.DeadlineExceeded);
  }
  await expect.poll(() => adjust(hot).catch(() => {}), { timeout: 10_000, interval: 50 }).toBeDefined();
  await countsAre(0, 0);
  await auditShop({ ...stores.urls, shopId: hot });
}, 30_000);

test("nothing of all this is a fault of ours", () => {
  expect(holdfast.faults).toEqual([]);
});
