import { endHold } from "./inventory.ts";
import { cancel, confirm } from "./orders.ts";
import type { Plain } from "./plain.ts";
import { dueTime, holdStates, isRenewalDue, methods, type Order, orderStates, type Shop } from "./state.ts";
import { endPeriod } from "./subscriptions.ts";
import { orderMessage } from "./wire.ts";

/** An event of a commit that no caller made, in the form of `plain.ts`. */
type Happened = readonly [name: string, payload: Plain];

/** Ends what time, the payment worker or a renewal ended: returns the events as they must be, or says what was not due. */
export function applyBackground(shop: Shop, happened: readonly Happened[]): Plain[] {
  return happened.map(([name, payload]) => {
    const apply = appliers[name];
    if (apply === undefined) throw new Error(`nobody asked for the commit ${shop.position} with ${name}`);
    return apply(shop, payload);
  });
}

type Apply = (shop: Shop, payload: Plain) => Plain;

const appliers: Readonly<Record<string, Apply>> = {
  hold_expired: (shop, { hold }) => {
    const { hold_id } = hold as Plain;
    const found = shop.holds.get(hold_id as string);
    if (found === undefined || (dueTime(found) ?? Number.POSITIVE_INFINITY) > shop.timeMs) {
      throw new Error(`hold ${hold_id} expired at ${shop.timeMs}, but it was not due`);
    }
    return { hold_expired: endHold(shop, found, holdStates.expired) };
  },
  order_cancelled: (shop, { order }) => {
    const { order_id, cancel_reason = "" } = order as Plain;
    const found = pendingOrder(shop, order_id as string);
    if (found.method === methods.external) {
      if ((dueTime(found) as number) > shop.timeMs) throw new Error(`order ${order_id} expired, but it was not due`);
      return { order_cancelled: cancel(shop, found, "EXPIRED") };
    }
    return { order_cancelled: cancel(shop, found, cancel_reason as string) };
  },
  order_confirmed: (shop, { order }) => {
    const { order_id, charge_id = "", payment_reference = "" } = order as Plain;
    const found = pendingOrder(shop, order_id as string);
    if (found.method !== methods.gateway) throw new Error(`nobody confirmed order ${order_id}`);
    if ((charge_id === "") !== (found.amount === 0))
      throw new Error(`order ${order_id} was confirmed without a charge`);
    found.chargeId = charge_id as string;
    found.paymentReference = payment_reference as string;
    return { order_confirmed: confirm(shop, found) };
  },
  refund_settled: (shop, { order, refund_number, refund_id }) => {
    const { order_id } = order as Plain;
    const found = shop.orders.get(order_id as string);
    const amount = found?.unsettled.get(refund_number as number);
    if (found === undefined || amount === undefined)
      throw new Error(`nobody asked for refund ${refund_number} of ${order_id}`);
    found.unsettled.delete(refund_number as number);
    return { refund_settled: { order: orderMessage(found), amount_minor: amount, refund_number, refund_id } };
  },
  tier_changed: (shop, { subscription }) => renew(shop, subscription as Plain),
  subscription_renewed: (shop, { subscription }) => renew(shop, subscription as Plain),
};

function pendingOrder(shop: Shop, orderId: string): Order {
  const found = shop.orders.get(orderId);
  if (found?.state !== orderStates.pending) throw new Error(`order ${orderId} was ended, but it was not pending`);
  return found;
}

function renew(shop: Shop, { user_id }: Plain): Plain {
  const user = shop.users.get(user_id as string);
  if (user === undefined || !isRenewalDue(user, shop.timeMs))
    throw new Error(`a period of ${user_id} ended, but was not due`);
  return endPeriod(shop, user);
}
