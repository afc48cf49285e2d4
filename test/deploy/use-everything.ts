import { AdjustReason, ChangeTiming, OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import type { Clients } from "../helpers/holdfast.ts";
import { createUser, stockProduct } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";

const lines = [{ sku: "ps5", quantity: 1 }];

/** Makes a shop and has everything happen in it that a shop has: each kind of change at least once, watched and read back. */
export async function useEverything(clients: Clients, shopId: string): Promise<void> {
  const { admin, inventory, users, events } = clients;
  await admin.createShop({ shopId, currencyCode: "USD" });
  await stockProduct(clients, shopId, "ps5", 20);
  await createUser(clients, shopId, "ann", 100_000);
  const watched = watchFor(clients, shopId, "orderFulfilled");
  await sellHeld(clients, shopId);
  await sellUnpaid(clients, shopId);
  await inventory.putProduct({ shopId, sku: "ps5", title: "Console", maxPerUser: 10 });
  await inventory.adjustStock({ shopId, sku: "ps5", deltaCount: 1n, reason: AdjustReason.RESTOCK });
  await changeTiers(clients, shopId);
  await users.updateUser({ shopId, userId: "ann", displayName: "Ann" });
  await users.withdrawFunds({ shopId, userId: "ann", amountMinor: 5n, reference: "transfer 2" });
  const acknowledged = await watched;
  await events.ackEvents({ shopId, consumer: "mailer", position: acknowledged });
  await readBack(clients, shopId);
}

/** From a hold, extended and bought; another released, a third that expires; refunded in part, fulfilled. */
async function sellHeld({ inventory, orders }: Clients, shopId: string): Promise<void> {
  const hold = async (seconds: bigint) =>
    (await inventory.holdStock({ shopId, userId: "ann", lines, holdDuration: { seconds } })).hold?.holdId ?? "";
  const holdId = await hold(60n);
  await inventory.extendHold({ shopId, holdId, holdDuration: { seconds: 90n } });
  await inventory.releaseHold({ shopId, holdId: await hold(60n) });
  const expiring = await hold(1n);
  const bought = { shopId, userId: "ann", holdId, orderId: "bought", paymentMethod: PaymentMethod.WALLET };
  await orders.placeOrder(bought);
  await orders.refundOrder({ shopId, orderId: "bought", amountMinor: 10n, reason: "scratched" });
  await orders.fulfillOrder({ shopId, orderId: "bought", reference: "parcel 1" });
  // By the sweeper: nobody asks for the hold meanwhile.
  await until("a hold has expired", async () => {
    const { stock } = await inventory.getStock({ shopId, sku: "ps5" });
    return stock?.heldCount === 0n;
  });
  await inventory.getHold({ shopId, holdId: expiring });
}

/** Confirmed, cancelled, and charged and refunded by the payment worker. */
async function sellUnpaid({ orders }: Clients, shopId: string): Promise<void> {
  const place = (orderId: string, paymentMethod: PaymentMethod) =>
    orders.placeOrder({ shopId, orderId, userId: "ann", lines, paymentMethod });
  await place("confirmed", PaymentMethod.EXTERNAL);
  await orders.confirmOrder({ shopId, orderId: "confirmed", paymentReference: "card 1" });
  await place("cancelled", PaymentMethod.EXTERNAL);
  await orders.cancelOrder({ shopId, orderId: "cancelled" });
  await place("charged", PaymentMethod.GATEWAY);
  const order = async () => (await orders.getOrder({ shopId, orderId: "charged" })).order;
  await until("it is charged", async () => (await order())?.state === OrderState.PAID);
  await orders.refundOrder({ shopId, orderId: "charged", reason: "sent back", restock: true });
  await until("it is paid back", async () => (await order())?.refundedMinor === 100n);
}

async function changeTiers({ users, subscriptions }: Clients, shopId: string): Promise<void> {
  await subscriptions.putTier({ shopId, tier: "pro", priceCredits: 50n });
  await subscriptions.putTier({ shopId, tier: "pro", priceCredits: 60n });
  await users.grantCredits({ shopId, userId: "ann", credits: 5000n, reason: "spring offer" });
  const { quote } = await subscriptions.previewTierChange({ shopId, userId: "ann", tier: "pro" });
  await subscriptions.changeTier({ shopId, userId: "ann", quoteToken: quote?.quoteToken ?? "" });
  await subscriptions.changeTier({ shopId, userId: "ann", tier: "free", timing: ChangeTiming.PERIOD_END });
  await subscriptions.cancelScheduledChange({ shopId, userId: "ann" });
}

/** The position of the first event of a kind, as a consumer gets it. */
async function watchFor({ events }: Clients, shopId: string, kind: string): Promise<bigint> {
  for await (const { message } of events.watchEvents({ shopId, start: { case: "consumer", value: "mailer" } })) {
    if (message.case === "batch" && message.value.events.some(({ payload }) => payload.case === kind)) {
      return message.value.position;
    }
  }
  throw new Error("the watch ended");
}

/** Every list. */
async function readBack({ admin, inventory, orders, users, events, subscriptions }: Clients, shopId: string) {
  await Promise.all([
    admin.listShops({}),
    admin.getShop({ shopId }),
    admin.getShopStats({ shopId }),
    admin.listSkuStats({ shopId }),
    inventory.listProducts({ shopId }),
    inventory.batchGetStock({ shopId, skus: ["ps5"] }),
    inventory.listHolds({ shopId }),
    orders.listOrders({ shopId }),
    users.listUsers({ shopId }),
    users.lookupUser({ shopId, email: "ann@example.com" }),
    users.listWalletEntries({ shopId, userId: "ann" }),
    subscriptions.listTiers({ shopId }),
    subscriptions.getSubscription({ shopId, userId: "ann" }),
    subscriptions.listTierChanges({ shopId, userId: "ann" }),
    events.listEvents({ shopId }),
    events.listConsumers({ shopId }),
  ]);
}

/** What VerifyShop does not find as it should be. */
export async function discrepanciesOf({ admin }: Clients, shopId: string): Promise<readonly unknown[]> {
  const found: unknown[] = [];
  for await (const { discrepancies } of admin.verifyShop({ shopId })) found.push(...discrepancies);
  return found;
}

/** Loads a shop anew, as RebuildShop does. */
export async function rebuild({ admin }: Clients, shopId: string): Promise<void> {
  for await (const { done } of admin.rebuildShop({ shopId })) if (done) return;
  throw new Error("the rebuild did not end");
}
