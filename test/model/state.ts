import type { Plain } from "./plain.ts";

/** The model of one shop: plain data, no I/O. Times are milliseconds, ids the keys of the maps. */
export interface Shop {
  readonly shopId: string;
  readonly currencyCode: string;
  /** Position of the last commit. */
  position: number;
  /** Time of the last commit. */
  timeMs: number;
  createTime: number;
  readonly products: Map<string, Product>;
  readonly holds: Map<string, Hold>;
  readonly orders: Map<string, Order>;
  readonly users: Map<string, User>;
  readonly tiers: Map<string, Tier>;
  readonly consumers: Map<string, Consumer>;
  /** What users had of a SKU, held, pending or sold, by `<user> <sku>`. */
  readonly had: Map<string, number>;
  /** Callers' commits by position, for replays. */
  readonly calls: Map<number, PastCall>;
  /** Position by request id. */
  readonly requestIds: Map<string, number>;
  readonly statement: Entry[];
  readonly tierChanges: TierChange[];
  readonly stats: Stats;
  /** HOLDFAST_HOLD_SECONDS, in ms: how long a hold lasts that names no duration, and an EXTERNAL order waits for its payment. */
  readonly holdMs: number;
  /** Users by e-mail address, as {@link normaliseEmail} makes it, and by referral code. */
  readonly emails: Map<string, User>;
  readonly codes: Map<string, User>;
  /** Every hold and order that may still end; who looks through them lets go of those that did. */
  readonly unfinished: Set<Hold | Order>;
}

/** The largest number a shop may hold. */
export const largest = Number.MAX_SAFE_INTEGER;

/** A period of a subscription. */
export const periodMs = 30 * 86_400_000;

export interface Product {
  readonly sku: string;
  title: string;
  price: number;
  limit: number;
  saleStart: number;
  saleEnd: number;
  withdrawn: boolean;
  readonly createTime: number;
  updateTime: number;
  position: number;
  available: number;
  held: number;
  sold: number;
  /** Sum of all adjustments. */
  adjusted: number;
  readonly sales: { orders: number; units: number; revenue: number };
}

export interface Line {
  readonly sku: string;
  readonly quantity: number;
  readonly price: number;
}

export const holdStates = { active: 1, committed: 2, released: 3, expired: 4 } as const;

export interface Hold {
  readonly id: string;
  readonly user: string;
  readonly lines: readonly Line[];
  state: number;
  readonly createTime: number;
  expireTime: number;
  orderId: string;
  position: number;
  readonly createPosition: number;
}

export const orderStates = { pending: 1, paid: 2, fulfilled: 3, cancelled: 4, refunded: 5 } as const;
export const methods = { wallet: 1, external: 2, none: 3, gateway: 4 } as const;

export interface Order {
  readonly id: string;
  readonly user: string;
  readonly lines: readonly Line[];
  readonly itemCount: number;
  readonly amount: number;
  refunded: number;
  state: number;
  readonly method: number;
  paymentReference: string;
  chargeId: string;
  fulfillReference: string;
  cancelReason: string;
  readonly holdId: string;
  /** 0 = none. */
  expireTime: number;
  readonly createTime: number;
  updateTime: number;
  position: number;
  readonly createPosition: number;
  /** The commits that confirmed and fulfilled it; 0 = none did. */
  confirmPosition: number;
  fulfillPosition: number;
  refundCount: number;
  /** Units given back so far, by SKU. */
  readonly restocked: Map<string, number>;
  /** Refunds that the gateway has yet to make: number and amount. */
  readonly unsettled: Map<number, number>;
}

export interface User {
  readonly id: string;
  email: string;
  displayName: string;
  balance: number;
  credits: number;
  readonly referralCode: string;
  readonly referredBy: string;
  referralCount: number;
  orderCount: number;
  lifetimeValue: number;
  readonly createTime: number;
  updateTime: number;
  position: number;
  readonly createPosition: number;
  subscription: Subscription;
  /** Every e-mail address and every name the user ever had: events do not carry them, so replays may answer either. */
  readonly personal: { readonly emails: Set<string>; readonly names: Set<string> };
}

export interface Subscription {
  readonly tier: string;
  readonly price: number;
  readonly periodStart: number;
  /** Empty = none. */
  readonly scheduledTier: string;
  readonly updateTime: number;
  readonly position: number;
}

export interface Tier {
  readonly tier: string;
  readonly price: number;
  readonly limits: Plain;
}

export interface Consumer {
  position: number;
}

/** A caller's commit: who repeats it is answered with it. */
export interface PastCall {
  readonly rpc: string;
  readonly requestId: string;
  /** In the form of `normalise`, without shop and request id. */
  readonly body: Plain;
  readonly response: Plain;
}

/** A wallet entry. */
export interface Entry {
  readonly position: number;
  readonly user: string;
  readonly kind: number;
  readonly delta: number;
  readonly after: number;
  readonly cause: number;
  readonly orderId: string;
  readonly reference: string;
  readonly reason: string;
  readonly time: number;
}

export const kinds = { money: 1, credits: 2 } as const;
export const causes = {
  deposit: 1,
  withdrawal: 2,
  order: 3,
  refund: 4,
  grant: 5,
  signup: 6,
  referral: 7,
  tierChange: 8,
  renewal: 9,
} as const;

export interface TierChange {
  readonly user: string;
  readonly wire: Plain;
}

export interface Stats {
  orders: number;
  items: number;
  revenue: number;
  refunded: number;
  upgradeCredits: number;
  downgradeCredits: number;
}

/** A shop as CreateShop makes it: position 1. */
export function createShopModel(shopId: string, currencyCode: string, createTime: number, holdMs = 600_000): Shop {
  const tier = (name: string, price: number, projects: number, storage: number, calls: number): [string, Tier] => [
    name,
    { tier: name, price, limits: { max_projects: projects, max_storage_mb: storage, max_api_calls: calls } },
  ];
  return {
    shopId,
    currencyCode,
    position: 1,
    timeMs: createTime,
    createTime,
    products: new Map(),
    holds: new Map(),
    orders: new Map(),
    users: new Map(),
    tiers: new Map([
      tier("free", 0, 3, 1024, 1000),
      tier("pro", 2900, 100, 102_400, 100_000),
      tier("enterprise", 9900, 999, 1_048_576, 999_999_999),
    ]),
    consumers: new Map(),
    had: new Map(),
    calls: new Map(),
    requestIds: new Map(),
    statement: [],
    tierChanges: [],
    stats: { orders: 0, items: 0, revenue: 0, refunded: 0, upgradeCredits: 0, downgradeCredits: 0 },
    holdMs,
    emails: new Map(),
    codes: new Map(),
    unfinished: new Set(),
  };
}

/** The subscription at a moment: a period that costs nothing, with nothing scheduled, rolls on by itself. */
export function currentSubscription({ subscription }: User, now: number): Subscription {
  if (isRenewed(subscription)) return subscription;
  const periods = Math.floor((now - subscription.periodStart) / periodMs);
  return { ...subscription, periodStart: subscription.periodStart + periods * periodMs };
}

/** Whether the end of the period does something. */
function isRenewed({ price, scheduledTier }: Subscription): boolean {
  return price > 0 || scheduledTier !== "";
}

/** Whether a period has ended whose end does something. */
export function isRenewalDue({ subscription }: User, now: number): boolean {
  return isRenewed(subscription) && subscription.periodStart + periodMs <= now;
}

/** When the units of a hold or a pending order come back by themselves; undefined = they do not. */
export function dueTime(item: Hold | Order): number | undefined {
  const isOpen =
    "method" in item
      ? item.state === orderStates.pending && item.method === methods.external
      : item.state === holdStates.active;
  return isOpen ? item.expireTime : undefined;
}

/** Everything that ends by itself. */
export function openItems(shop: Shop): (Hold | Order)[] {
  return unfinishedItems(shop).filter((item) => dueTime(item) !== undefined);
}

/** Holds that are open, and orders that are pending. */
export function unfinishedItems({ unfinished }: Shop): (Hold | Order)[] {
  for (const item of unfinished) {
    const isOpen = "method" in item ? item.state === orderStates.pending : item.state === holdStates.active;
    // What has ended never opens again.
    if (!isOpen) unfinished.delete(item);
  }
  return [...unfinished];
}

/** An e-mail address as it is compared. */
export function normaliseEmail(email: string): string {
  return email.trim().toLowerCase();
}

/** Gives a user an e-mail address in place of the one they had; the empty one is nobody's. */
export function giveEmail({ emails }: Shop, user: User, email: string): void {
  emails.delete(normaliseEmail(user.email));
  user.email = email;
  if (normaliseEmail(email) !== "") emails.set(normaliseEmail(email), user);
}

/** Moves a wallet's money or credits, and writes the statement; nothing moved, nothing written. */
export function move(
  shop: Shop,
  user: User,
  kind: number,
  delta: number,
  cause: number,
  about: Partial<Pick<Entry, "orderId" | "reference" | "reason">> = {},
): void {
  if (kind === kinds.money) user.balance += delta;
  else user.credits += delta;
  if (delta === 0) return;
  const after = kind === kinds.money ? user.balance : user.credits;
  const { position, timeMs: time } = shop;
  shop.statement.push({
    position,
    user: user.id,
    kind,
    delta,
    after,
    cause,
    orderId: "",
    reference: "",
    reason: "",
    time,
    ...about,
  });
}

/** The user changed with the commit that is being made. */
export function touch(shop: Shop, user: User): void {
  user.position = shop.position;
  user.updateTime = shop.timeMs;
}
