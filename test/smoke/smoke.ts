import { createClient, type Transport } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { AdjustReason, OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { createHoldfastClient, type HoldfastClient, refusalOf } from "../../src/client/index.ts";
import { makeId } from "../../src/shop/ids.ts";

/** What is looked at, and how. */
export interface SmokeOptions {
  /** To the gRPC door. */
  readonly grpc: Transport;
  /** The HTTP door: its origin, and a transport to it. Undefined: it is left out. */
  readonly http?: { readonly url: string; readonly transport: Transport } | undefined;
  /** The shop in which one unit is sold and taken back; created when it is not there. */
  readonly shopId: string;
  /** How long a call may take with all its attempts, in milliseconds. */
  readonly timeoutMs: number;
  /** Hears of every step that went well. */
  readonly onStep: (name: string, durationMs: number) => void;
}

const sku = "smoke";
const userId = "smoke";
const priceMinor = 100n;

/**
 * Sells one unit through the doors of a server and takes it back. Throws at the first thing that is not as it should be. Leaves
 * a hold, an order and its refund behind; at the first time also a shop, a product with one unit, and a user with its price.
 */
export async function smoke({ grpc, http, shopId, timeoutMs, onStep }: SmokeOptions): Promise<void> {
  const client = createHoldfastClient({ transport: grpc, timeoutMs });
  const step = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const beganMs = performance.now();
    const result = await work().catch((error: Error) => {
      throw new Error(`${name}: ${error.message}`, { cause: error });
    });
    onStep(name, performance.now() - beganMs);
    return result;
  };
  await step("gRPC health says SERVING", () => expectServing(grpc, timeoutMs));
  if (http !== undefined) await step("/readyz says 200", () => expectReady(http.url, timeoutMs));
  await step("shop, product and user are there", () => prepare(client, shopId));
  const order = { shopId, requestId: makeId(), orderId: makeId(), userId, paymentMethod: PaymentMethod.WALLET };
  const holdId = await step("one unit is held", () => hold(client, shopId));
  const position = await step("it is bought from the wallet, durably", async () => {
    const { commit } = await client.orders.placeOrder({ ...order, holdId });
    expect(commit?.durable === true && !commit.replayed, "the commit is not new and durable");
    return commit?.position ?? 0n;
  });
  const otherDoor = http === undefined ? client : createHoldfastClient({ transport: http.transport, timeoutMs });
  await step("the same request is answered as a replay", async () => {
    const { commit } = await otherDoor.orders.placeOrder({ ...order, holdId });
    expect(commit?.replayed === true, "it was taken for a new one");
  });
  await step("more than there is is refused", () => expectSoldOut(otherDoor, shopId));
  await step("it is taken back, and paid back", async () => {
    const refund = { shopId, orderId: order.orderId, reason: "smoke test", restock: true };
    const refunded = (await otherDoor.orders.refundOrder(refund)).order;
    expect(refunded?.state === OrderState.REFUNDED, "the order is not refunded");
  });
  await step("a watch shows both", () => expectEvents(client, shopId, position - 1n, order.orderId, timeoutMs));
}

function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

async function expectServing(transport: Transport, timeoutMs: number): Promise<void> {
  const { status } = await createClient(Health, transport).check({}, { timeoutMs });
  expect(status === Status.SERVING, `it says ${Status[status]}`);
}

async function expectReady(url: string, timeoutMs: number): Promise<void> {
  const { status } = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(timeoutMs) });
  expect(status === 200, `it says ${status}`);
}

/** The same every time, so that nothing piles up. A shop that is there needs no `holdfast.admin`. */
async function prepare({ admin, inventory, users }: HoldfastClient, shopId: string): Promise<void> {
  const stock = await inventory.getStock({ shopId, sku }).catch(async (error) => {
    const reason = refusalOf(error)?.reason;
    if (reason === "SHOP_NOT_FOUND") await admin.createShop({ shopId, currencyCode: "USD" });
    else if (reason !== "PRODUCT_NOT_FOUND") throw error;
    await inventory.putProduct({ shopId, sku, title: "Smoke test", priceMinor });
    return inventory.getStock({ shopId, sku });
  });
  if (stock.stock?.availableCount === 0n)
    await inventory.adjustStock({ shopId, sku, deltaCount: 1n, reason: AdjustReason.INITIAL });
  const user = await users.getUser({ shopId, userId }).catch((error) => {
    if (refusalOf(error)?.reason !== "USER_NOT_FOUND") throw error;
    return users.createUser({ shopId, userId, email: "smoke@test.example" });
  });
  if ((user.user?.balanceMinor ?? 0n) < priceMinor) {
    await users.depositFunds({ shopId, userId, amountMinor: priceMinor, reference: "smoke test" });
  }
}

async function hold({ inventory }: HoldfastClient, shopId: string): Promise<string> {
  const request = { shopId, userId, lines: [{ sku, quantity: 1 }], holdDuration: { seconds: 60n } };
  return (await inventory.holdStock(request)).hold?.holdId ?? "";
}

async function expectSoldOut({ orders }: HoldfastClient, shopId: string): Promise<void> {
  const all = { shopId, userId, lines: [{ sku, quantity: 1_000_000 }], paymentMethod: PaymentMethod.NONE };
  const reason = await orders.placeOrder(all).then(
    () => "it was sold",
    (error) => refusalOf(error)?.reason ?? String(error),
  );
  expect(reason === "SOLD_OUT", reason);
}

async function expectEvents(
  client: HoldfastClient,
  shopId: string,
  after: bigint,
  orderId: string,
  timeoutMs: number,
): Promise<void> {
  const wanted = new Set(["orderPlaced", "orderRefunded"]);
  const request = { shopId, subjects: [`order:${orderId}`], start: { case: "afterPosition", value: after } as const };
  const signal = AbortSignal.timeout(timeoutMs);
  for await (const { case: kind, value } of client.watch(request, { signal })) {
    if (kind !== "batch") continue;
    for (const { payload } of value.events) wanted.delete(payload.case ?? "");
    if (wanted.size === 0) return;
  }
}
