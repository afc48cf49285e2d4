import { setTimeout as sleep } from "node:timers/promises";
import { ChangeTiming, PaymentMethod, ProrationMode } from "../../gen/holdfast/v1/resources_pb.js";
import type { Clients } from "../helpers/holdfast.ts";
import { persist } from "../helpers/load.ts";
import { createUser, stockProduct, uniqueId } from "../helpers/shop.ts";

/** A shop that sells in the background until it is told to stop. */
export interface Selling {
  readonly shopId: string;
  /** Ends the load; throws what went wrong in it. Resolves with how many calls were answered. */
  stop(): Promise<number>;
}

/** What the load touches: two SKUs, of which one has a limit, and some users. */
const buyers = ["u0", "u1", "u2", "u3"];

/** How long a caller rests after each turn, in milliseconds: every verification reads all that was sold since the shop began. */
const restMs = 25;

/** Has two callers buy, hold, let expire, release, deposit and sign up, all at once. */
export async function startSelling(clients: Clients, shopId: string, callerCount = 2): Promise<Selling> {
  await stockProduct(clients, shopId, "hot", 100_000);
  await clients.inventory.putProduct({ shopId, sku: "limited", title: "L", priceMinor: 10n, maxPerUser: 100_000 });
  await clients.inventory.adjustStock({ shopId, sku: "limited", deltaCount: 100_000n, reason: 5 });
  await Promise.all(buyers.map((userId) => createUser(clients, shopId, userId, 1_000_000_000)));
  const charged: string[] = [];
  let isStopped = false;
  let answeredCount = 0;
  const seller = async (caller: number): Promise<void> => {
    for (let turn = 0; !isStopped; turn += 1) {
      const userId = buyers[(caller + turn) % buyers.length] as string;
      await persist(() => act(clients, shopId, userId, caller + turn, charged));
      answeredCount += 1;
      await sleep(restMs);
    }
  };
  const sellers = Promise.all(Array.from({ length: callerCount }, (_, caller) => seller(caller)));
  sellers.catch(() => undefined); // Told by `stop`.
  return {
    shopId,
    stop: async () => {
      isStopped = true;
      await sellers;
      return answeredCount;
    },
  };
}

/** One thing that happens in a shop, a different one each turn. `charged`: orders that the gateway charges. */
async function act(clients: Clients, shopId: string, userId: string, turn: number, charged: string[]): Promise<void> {
  const { inventory, orders, users, subscriptions } = clients;
  const lines = [
    { sku: "hot", quantity: 2 },
    { sku: "limited", quantity: 1 },
  ];
  const requestId = uniqueId("r");
  const orderId = uniqueId("o");
  const holdId = uniqueId("h");
  switch (turn % 10) {
    case 0:
      await orders.placeOrder({ shopId, requestId, userId, orderId, lines });
      await orders.refundOrder({ shopId, orderId, amountMinor: 50n, restockLines: [{ sku: "hot", quantity: 1 }] });
      await orders.fulfillOrder({ shopId, orderId, reference: "sent" });
      await orders.refundOrder({ shopId, orderId, reason: "late", restock: true });
      break;
    case 1:
      await inventory.holdStock({ shopId, requestId, holdId, userId, lines });
      await orders.placeOrder({ shopId, holdId, paymentMethod: PaymentMethod.NONE });
      break;
    case 2:
      await inventory.holdStock({ shopId, requestId, holdId, lines: [{ sku: "hot", quantity: 1 }] });
      await inventory.extendHold({ shopId, holdId, holdDuration: { seconds: 700n, nanos: 0 } });
      await inventory.releaseHold({ shopId, holdId });
      break;
    case 3: // Nobody ends this one: it expires.
      await inventory.holdStock({ shopId, requestId, userId, lines, holdDuration: { seconds: 0n, nanos: 20_000_000 } });
      break;
    case 4:
      await users.depositFunds({ shopId, requestId, userId, amountMinor: 7n });
      await users.withdrawFunds({ shopId, userId, amountMinor: 5n });
      break;
    case 5: {
      const newId = uniqueId("u");
      const email = `${newId}@example.com`;
      const { user } = await users.getUser({ shopId, userId });
      await users.createUser({ shopId, requestId, userId: newId, email, referralCode: user?.referralCode ?? "" });
      await users.updateUser({ shopId, userId: newId, email: `new.${email}` });
      break;
    }
    case 6:
      await inventory.holdStock({ shopId, requestId, holdId, userId, lines });
      await orders.placeOrder({ shopId, orderId, holdId, paymentMethod: PaymentMethod.EXTERNAL });
      await orders.confirmOrder({ shopId, orderId, paymentReference: "paid" });
      await orders.refundOrder({ shopId, orderId, amountMinor: 10n });
      break;
    case 7:
      await orders.placeOrder({ shopId, requestId, userId, orderId, lines, paymentMethod: PaymentMethod.EXTERNAL });
      await orders.cancelOrder({ shopId, orderId, reason: "no card" });
      break;
    case 8: // The payment worker goes on with it; a later turn asks for a part of the money back.
      await orders.placeOrder({ shopId, requestId, userId, orderId, lines, paymentMethod: PaymentMethod.GATEWAY });
      await persist(() => orders.refundOrder({ shopId, orderId: charged.at(-10) ?? orderId, amountMinor: 1n }));
      charged.push(orderId);
      break;
    default: {
      const newId = uniqueId("u");
      await users.createUser({ shopId, requestId, userId: newId });
      await users.grantCredits({ shopId, userId: newId, credits: 10_000n, reason: "gift" });
      await subscriptions.changeTier({ shopId, userId: newId, tier: "pro" });
      await subscriptions.changeTier({
        shopId,
        userId: newId,
        tier: "enterprise",
        proration: ProrationMode.TIME_BASED,
      });
      await subscriptions.changeTier({ shopId, userId: newId, tier: "free", timing: ChangeTiming.PERIOD_END });
      await subscriptions.cancelScheduledChange({ shopId, userId: newId });
    }
  }
}
