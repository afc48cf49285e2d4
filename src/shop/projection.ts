import type {
  EventJson,
  HoldJson,
  OrderJson,
  PrivateJson,
  ProductJson,
  StockJson,
  SubscriptionJson,
  TierJson,
  TierStepJson,
  UserJson,
} from "./event-json.ts";
import type { LogEntry } from "./log-entry.ts";

/**
 * What a batch of commits means for Postgres: the rows as they are after its last commit, and what it adds to the shop's
 * counters. A pure function of the log, so the same entries give the same rows in a flush, in healing and in a rebuild.
 */
export interface Projection {
  readonly commits: LogEntry[];
  readonly products: Map<string, ProductRow>;
  readonly stock: Map<string, StockJson>;
  readonly holds: Map<string, HoldJson>;
  readonly orders: Map<string, OrderJson>;
  readonly newUsers: Map<string, NewUser>;
  readonly users: Map<string, UserChange>;
  readonly ledger: LedgerEntry[];
  readonly tiers: Map<string, TierJson & { position: number }>;
  readonly subscriptions: Map<string, SubscriptionJson>;
  readonly tierChanges: TierChange[];
  readonly refunds: Map<string, Refund>;
  /** What paid orders add to a product's sales, by SKU. */
  readonly sales: Map<string, Sales>;
  readonly counters: Counters;
}

/** What a batch adds to a shop's row; the names are the row's columns. */
export interface Counters {
  product_count: number;
  user_count: number;
  open_hold_count: number;
  open_order_count: number;
  order_count: number;
  item_count: number;
  revenue_minor: number;
  refunded_minor: number;
  upgrade_credits: number;
  downgrade_credits: number;
}

/** What paid orders add to a product's sales. */
export interface Sales {
  sku: string;
  order_count: number;
  unit_count: number;
  revenue_minor: number;
}

/** A product's row. */
export interface ProductRow extends ProductJson {
  /** Whether one of the commits gave it a limit, which a later one may have taken away. */
  readonly limit_tracked: boolean;
}

/** A change of a user's tier, for the history. */
export interface TierChange extends TierStepJson {
  user_id: string;
  position: number;
  commit_time: number;
}

/** A refund that the gateway has to make or has made. */
export interface Refund {
  order_id: string;
  refund_number: number;
  amount_minor: number;
  settled: boolean;
  refund_id: string;
  create_position: number;
}

/** The row of a user made in this batch, with what later commits of the batch changed. */
export type NewUser = UserJson & PrivateJson & { create_position: number };

/** What a batch changed of an older user; absent = unchanged. */
export interface UserChange extends Partial<PrivateJson> {
  user_id: string;
  balance_minor?: number;
  credits?: number;
  order_count?: number;
  lifetime_value_minor?: number;
  referral_count?: number;
  tier?: string;
  update_time: number;
  position: number;
}

/** One side of a wallet movement. */
export interface LedgerEntry {
  position: number;
  index: number;
  account: string;
  kind: number;
  delta: number;
  balance_after: number | null;
  cause: string;
  order_id: string;
  reference: string;
  reason: string;
}

type EventName = keyof EventJson;
type Payload<Name extends EventName> = NonNullable<EventJson[Name]>;

const money = 1;
const credits = 2;

/** Values of OrderState and PaymentMethod. */
const pending = 1;
const none = 3;
const gateway = 4;

/** Who pays an order, by its PaymentMethod. NONE moves no money. */
const payers: Readonly<Record<number, (order: OrderJson) => string>> = {
  1: (order) => `user:${order.user_id}`,
  2: () => "external",
  4: () => "gateway",
};

/** Credits of every new user; what a user is created with beyond them came by a referral. */
const signupCredits = 100;

/** The tiers a shop is born with. */
export const firstTiers: readonly TierJson[] = [
  { tier: "free", price_credits: 0, limits: { max_projects: 3, max_storage_mb: 1024, max_api_calls: 1000 } },
  { tier: "pro", price_credits: 2900, limits: { max_projects: 100, max_storage_mb: 102_400, max_api_calls: 100_000 } },
  {
    tier: "enterprise",
    price_credits: 9900,
    limits: { max_projects: 999, max_storage_mb: 1_048_576, max_api_calls: 999_999_999 },
  },
];

/** How each event changes the rows. An event without an entry does not compile. */
const projections: { [Name in EventName]-?: (into: Projection, payload: Payload<Name>, entry: LogEntry) => void } = {
  shop_created: (into, _, { position }) => {
    for (const tier of firstTiers) {
      into.tiers.set(tier.tier, { ...tier, position });
    }
  },
  product_put: (into, { product, created }) => {
    const limit_tracked = product.max_per_user > 0 || into.products.get(product.sku)?.limit_tracked === true;
    into.products.set(product.sku, { ...product, limit_tracked });
    if (created) {
      into.counters.product_count += 1;
      into.stock.set(product.sku, { sku: product.sku, available_count: 0, held_count: 0, sold_count: 0 });
    }
  },
  stock_adjusted: (into, { stock }) => setStock(into, [stock]),
  stock_held: (into, { hold, stocks }) => {
    setStock(into, stocks);
    into.holds.set(hold.hold_id, hold);
    into.counters.open_hold_count += 1;
  },
  hold_extended: (into, { hold }) => {
    into.holds.set(hold.hold_id, hold);
  },
  hold_released: (into, { hold, stocks }) => {
    setStock(into, stocks);
    endHold(into, hold);
  },
  hold_expired: (into, { hold, stocks }) => {
    setStock(into, stocks);
    endHold(into, hold);
  },
  hold_committed: (into, { hold }) => endHold(into, hold),
  order_placed: (into, placed, entry) => {
    const { order } = placed;
    setStock(into, placed.stocks);
    into.orders.set(order.order_id, order);
    changeBuyer(into, order, placed, entry);
    if (order.state === pending) {
      into.counters.open_order_count += 1;
    } else {
      countSale(into, order);
      pay(into, entry, order, order.amount_minor, placed.balance_minor, { cause: "ORDER" });
    }
  },
  order_confirmed: (into, confirmed, entry) => {
    const { order } = confirmed;
    setStock(into, confirmed.stocks);
    into.orders.set(order.order_id, order);
    into.counters.open_order_count -= 1;
    changeBuyer(into, order, confirmed, entry);
    countSale(into, order);
    pay(into, entry, order, order.amount_minor, undefined, { cause: "ORDER" });
  },
  order_cancelled: (into, { order, stocks }) => {
    setStock(into, stocks);
    into.orders.set(order.order_id, order);
    into.counters.open_order_count -= 1;
  },
  order_refunded: (into, refunded, entry) => {
    const { order, amount_minor, refund_number, reason } = refunded;
    setStock(into, refunded.stocks);
    into.orders.set(order.order_id, order);
    if (order.payment_method === none) {
      return;
    }
    into.counters.refunded_minor += amount_minor;
    changeBuyer(into, order, refunded, entry);
    pay(into, entry, order, -amount_minor, refunded.balance_minor, { cause: "REFUND", reason });
    if (order.payment_method === gateway) {
      setRefund(into, {
        order_id: order.order_id,
        refund_number,
        amount_minor,
        settled: false,
        refund_id: "",
        create_position: entry.position,
      });
    }
  },
  refund_settled: (into, { order, amount_minor, refund_number, refund_id }, entry) => {
    into.orders.set(order.order_id, order);
    setRefund(into, {
      order_id: order.order_id,
      refund_number,
      amount_minor,
      settled: true,
      refund_id,
      create_position: entry.position,
    });
  },
  order_fulfilled: (into, { order }) => {
    into.orders.set(order.order_id, order);
  },
  user_created: (into, { user }, entry) => {
    const secret = entry.private === "" ? { email: "", email_key: "", display_name: "" } : JSON.parse(entry.private);
    into.newUsers.set(user.user_id, { ...user, ...(secret as PrivateJson), create_position: entry.position });
    into.counters.user_count += 1;
    const account = `user:${user.user_id}`;
    move(into, entry, credits, account, signupCredits, signupCredits, "credits", { cause: "SIGNUP" });
    move(into, entry, credits, account, user.credits - signupCredits, user.credits, "credits", { cause: "REFERRAL" });
  },
  referral_rewarded: (into, { user, credits: reward }, entry) => {
    changeUser(into, {
      user_id: user.user_id,
      credits: user.credits,
      ...(user.referral_count === undefined ? {} : { referral_count: user.referral_count }),
      update_time: user.update_time,
      position: user.position,
    });
    move(into, entry, credits, `user:${user.user_id}`, reward, user.credits, "credits", { cause: "REFERRAL" });
  },
  user_updated: (into, { user }, entry) => {
    const secret = entry.private === "" ? {} : (JSON.parse(entry.private) as Partial<PrivateJson>);
    changeUser(into, { ...secret, user_id: user.user_id, update_time: user.update_time, position: user.position });
  },
  funds_deposited: (into, { user, amount_minor, reference }, entry) =>
    fund(into, entry, user, amount_minor, { cause: "DEPOSIT", reference }),
  funds_withdrawn: (into, { user, amount_minor, reference }, entry) =>
    fund(into, entry, user, -amount_minor, { cause: "WITHDRAWAL", reference }),
  credits_granted: (into, { user, credits: granted, reason }, entry) => {
    changeUser(into, {
      user_id: user.user_id,
      credits: user.credits,
      update_time: user.update_time,
      position: user.position,
    });
    move(into, entry, credits, `user:${user.user_id}`, granted, user.credits, "credits", { cause: "GRANT", reason });
  },
  tier_put: (into, { tier }, { position }) => {
    into.tiers.set(tier.tier, { ...tier, position });
  },
  tier_changed: (into, changed, entry) => {
    const { subscription, charged_credits, credited_credits } = changed;
    const { user_id } = subscription;
    into.subscriptions.set(user_id, subscription);
    into.tierChanges.push({ ...changed, user_id, position: entry.position, commit_time: entry.timeMs });
    into.counters.upgrade_credits += charged_credits;
    into.counters.downgrade_credits += credited_credits;
    changeUser(into, {
      user_id,
      tier: subscription.tier,
      credits: changed.credits,
      update_time: entry.timeMs,
      position: entry.position,
    });
    move(into, entry, credits, `user:${user_id}`, credited_credits - charged_credits, changed.credits, "credits", {
      cause: "TIER_CHANGE",
    });
  },
  tier_change_scheduled: (into, { subscription }) => {
    into.subscriptions.set(subscription.user_id, subscription);
  },
  tier_change_cancelled: (into, { subscription }) => {
    into.subscriptions.set(subscription.user_id, subscription);
  },
  subscription_renewed: (into, { subscription, charged_credits, credits: left }, entry) => {
    const { user_id } = subscription;
    into.subscriptions.set(user_id, subscription);
    changeUser(into, { user_id, credits: left, update_time: entry.timeMs, position: entry.position });
    move(into, entry, credits, `user:${user_id}`, -charged_credits, left, "credits", { cause: "RENEWAL" });
  },
};

/** Computes what a batch of consecutive commits writes. `eventsOf` spares parsing what was parsed before. */
export function project(
  entries: readonly LogEntry[],
  eventsOf: (commitId: string) => readonly object[] | undefined = () => undefined,
): Projection {
  const into: Projection = {
    commits: [...entries],
    products: new Map(),
    stock: new Map(),
    holds: new Map(),
    orders: new Map(),
    newUsers: new Map(),
    users: new Map(),
    ledger: [],
    tiers: new Map(),
    subscriptions: new Map(),
    tierChanges: [],
    refunds: new Map(),
    sales: new Map(),
    counters: {
      product_count: 0,
      user_count: 0,
      open_hold_count: 0,
      open_order_count: 0,
      order_count: 0,
      item_count: 0,
      revenue_minor: 0,
      refunded_minor: 0,
      upgrade_credits: 0,
      downgrade_credits: 0,
    },
  };
  for (const entry of entries) {
    const events = eventsOf(entry.commitId) ?? JSON.parse(entry.events);
    for (const event of events as Record<string, unknown>[]) {
      for (const name in event) {
        const apply = projections[name as EventName] as ((...args: unknown[]) => void) | undefined;
        if (apply === undefined) {
          throw new Error(
            `commit ${entry.position} has an event "${name}" that this version of Holdfast does not know`,
          );
        }
        apply(into, event[name], entry);
      }
    }
  }
  return into;
}

function setStock(into: Projection, stocks: readonly StockJson[]): void {
  for (const stock of stocks) {
    into.stock.set(stock.sku, stock);
  }
}

function endHold(into: Projection, hold: HoldJson): void {
  into.holds.set(hold.hold_id, hold);
  into.counters.open_hold_count -= 1;
}

function changeUser(into: Projection, change: UserChange): void {
  const made = into.newUsers.get(change.user_id);
  if (made !== undefined) {
    Object.assign(made, change);
    return;
  }
  into.users.set(change.user_id, { ...into.users.get(change.user_id), ...change });
}

/** What an order's event says of its buyer; a guest has nothing to change. */
function changeBuyer(
  into: Projection,
  order: OrderJson,
  counts: { balance_minor?: number; order_count?: number; lifetime_value_minor?: number },
  entry: LogEntry,
): void {
  if (order.user_id === "") {
    return;
  }
  const { balance_minor, order_count, lifetime_value_minor } = counts;
  changeUser(into, {
    user_id: order.user_id,
    ...(balance_minor === undefined ? {} : { balance_minor }),
    ...(order_count === undefined ? {} : { order_count }),
    ...(lifetime_value_minor === undefined ? {} : { lifetime_value_minor }),
    update_time: entry.timeMs,
    position: entry.position,
  });
}

/** Counts an order that was paid, in the shop's stats and in those of its products. */
function countSale(into: Projection, order: OrderJson): void {
  const isRevenue = order.payment_method !== none;
  into.counters.order_count += 1;
  into.counters.item_count += order.item_count;
  into.counters.revenue_minor += isRevenue ? order.amount_minor : 0;
  const counted = new Set<string>();
  for (const { sku, quantity, price_minor } of order.lines) {
    const sales = into.sales.get(sku) ?? { sku, order_count: 0, unit_count: 0, revenue_minor: 0 };
    sales.order_count += counted.has(sku) ? 0 : 1;
    sales.unit_count += quantity;
    sales.revenue_minor += isRevenue ? quantity * price_minor : 0;
    counted.add(sku);
    into.sales.set(sku, sales);
  }
}

/** Moves an order's money from who pays it to the shop's revenue; a negative amount is a refund. */
function pay(
  into: Projection,
  entry: LogEntry,
  order: OrderJson,
  amount: number,
  balanceAfter: number | undefined,
  about: { cause: string; reason?: string },
): void {
  const payer = payers[order.payment_method]?.(order);
  if (payer !== undefined) {
    move(into, entry, money, payer, -amount, balanceAfter ?? null, "revenue", { order_id: order.order_id, ...about });
  }
}

/** Moves money between a wallet and the world outside. */
function fund(
  into: Projection,
  entry: LogEntry,
  user: UserJson,
  delta: number,
  about: { cause: string; reference: string },
): void {
  const { user_id, balance_minor, update_time, position } = user;
  changeUser(into, { user_id, balance_minor, update_time, position });
  move(into, entry, money, `user:${user_id}`, delta, balance_minor, "funding", about);
}

function setRefund(into: Projection, refund: Refund): void {
  const key = `${refund.order_id} ${refund.refund_number}`;
  into.refunds.set(key, {
    ...refund,
    create_position: into.refunds.get(key)?.create_position ?? refund.create_position,
  });
}

/** Writes both sides of a movement: an account that pays or is paid, and the shop's. Nothing moved, nothing written. */
function move(
  into: Projection,
  entry: LogEntry,
  kind: number,
  account: string,
  delta: number,
  balanceAfter: number | null,
  counterAccount: string,
  about: { cause: string; order_id?: string; reference?: string; reason?: string },
): void {
  if (delta === 0) {
    return;
  }
  const last = into.ledger.at(-1);
  const index = last?.position === entry.position ? last.index + 1 : 0;
  const shared = { position: entry.position, kind, order_id: "", reference: "", reason: "", ...about };
  into.ledger.push({ ...shared, index, account, delta, balance_after: balanceAfter });
  into.ledger.push({ ...shared, index: index + 1, account: counterAccount, delta: -delta, balance_after: null });
}
