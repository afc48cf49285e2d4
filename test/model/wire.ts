import type { Plain } from "./plain.ts";
import {
  type Entry,
  type Hold,
  type Line,
  normaliseEmail,
  type Order,
  orderStates,
  type Product,
  periodMs,
  type Shop,
  type Subscription,
  type Tier,
  type User,
} from "./state.ts";

/** The model's things as the contract's messages, in the form of `plain.ts`. */

export function productMessage(product: Product): Plain {
  return {
    sku: product.sku,
    title: product.title,
    price_minor: product.price,
    max_per_user: product.limit,
    ...(product.saleStart > 0 && { sale_start_time: product.saleStart }),
    ...(product.saleEnd > 0 && { sale_end_time: product.saleEnd }),
    withdrawn: product.withdrawn,
    create_time: product.createTime,
    update_time: product.updateTime,
    position: product.position,
  };
}

export function stockMessage({ sku, available, held, sold, price }: Product): Plain {
  return { sku, available_count: available, held_count: held, sold_count: sold, price_minor: price };
}

/** The levels of the SKUs of some lines, once each, in the order of the lines. */
export function stockMessages(shop: Shop, lines: readonly { readonly sku: string }[]): Plain[] {
  const skus = [...new Set(lines.map(({ sku }) => sku))];
  return skus.map((sku) => stockMessage(shop.products.get(sku) as Product));
}

function lineMessage({ sku, quantity, price }: Line): Plain {
  return { sku, quantity, price_minor: price };
}

export function holdMessage(hold: Hold): Plain {
  return {
    hold_id: hold.id,
    user_id: hold.user,
    lines: hold.lines.map(lineMessage),
    state: hold.state,
    create_time: hold.createTime,
    expire_time: hold.expireTime,
    order_id: hold.orderId,
    position: hold.position,
  };
}

export function orderMessage(order: Order): Plain {
  return {
    order_id: order.id,
    user_id: order.user,
    lines: order.lines.map(lineMessage),
    item_count: order.itemCount,
    amount_minor: order.amount,
    refunded_minor: order.refunded,
    state: order.state,
    payment_method: order.method,
    payment_reference: order.paymentReference,
    charge_id: order.chargeId,
    fulfill_reference: order.fulfillReference,
    cancel_reason: order.cancelReason,
    hold_id: order.holdId,
    ...(order.state === orderStates.pending && order.expireTime > 0 && { expire_time: order.expireTime }),
    create_time: order.createTime,
    update_time: order.updateTime,
    position: order.position,
  };
}

/** A user as in events: without what is personal. */
export function userEvent(user: User): Plain {
  return {
    user_id: user.id,
    balance_minor: user.balance,
    credits: user.credits,
    tier: user.subscription.tier,
    referral_code: user.referralCode,
    referred_by: user.referredBy,
    referral_count: user.referralCount,
    order_count: user.orderCount,
    lifetime_value_minor: user.lifetimeValue,
    create_time: user.createTime,
    update_time: user.updateTime,
    position: user.position,
  };
}

export function userMessage(user: User): Plain {
  return { ...userEvent(user), email: user.email, display_name: user.displayName };
}

export function tierMessage({ tier, price, limits }: Tier): Plain {
  return { tier, price_credits: price, limits };
}

/** A subscription as its last commit left it, or as it is meanwhile. */
export function subscriptionMessage(
  shop: Shop,
  { id, subscription }: User,
  current: Subscription = subscription,
): Plain {
  const end = current.periodStart + periodMs;
  return {
    user_id: id,
    tier: current.tier,
    price_credits: current.price,
    limits: shop.tiers.get(current.tier)?.limits,
    period_start_time: current.periodStart,
    period_end_time: end,
    ...(current.scheduledTier !== "" && { scheduled_tier: current.scheduledTier, scheduled_time: end }),
    update_time: current.updateTime,
    position: current.position,
  };
}

export function entryMessage(entry: Entry): Plain {
  return {
    position: entry.position,
    user_id: entry.user,
    kind: entry.kind,
    delta: entry.delta,
    balance_after: entry.after,
    cause: entry.cause,
    order_id: entry.orderId,
    reference: entry.reference,
    reason: entry.reason,
    commit_time: entry.time,
  };
}

/** The user who has an e-mail address; undefined = nobody, and nobody has the empty one. */
export function findByEmail({ emails }: Shop, email: string): User | undefined {
  return emails.get(normaliseEmail(email));
}
