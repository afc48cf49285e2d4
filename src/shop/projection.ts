import type { LogEntry } from "./log-entry.ts";

/**
 * What a batch of commits means for Postgres: the rows as they are after its last commit, and what it adds to the shop's
 * counters. A pure function of the log, so the same entries give the same rows in a flush, in healing and in a rebuild.
 */
export interface Projection {
  readonly commits: LogEntry[];
  readonly products: Map<string, ProductJson>;
  readonly stock: Map<string, StockJson>;
  readonly holds: Map<string, HoldJson>;
  readonly orders: Map<string, OrderJson>;
  readonly newUsers: Map<string, NewUser>;
  readonly users: Map<string, UserChange>;
  readonly ledger: LedgerEntry[];
  readonly counters: Counters;
}

/** What a batch adds to a shop's row. */
export interface Counters {
  products: number;
  users: number;
  openHolds: number;
  openOrders: number;
}

/** A Product in an event. Times are milliseconds, here and below. */
export interface ProductJson {
  sku: string;
  title: string;
  price_minor: number;
  max_per_user: number;
  sale_start_time?: number;
  sale_end_time?: number;
  withdrawn: boolean;
  create_time: number;
  update_time: number;
  position: number;
}

/** A StockLevel in an event. */
export interface StockJson {
  sku: string;
  available_count: number;
  held_count: number;
  sold_count: number;
}

/** A line of a hold or an order in an event. */
export interface LineJson {
  sku: string;
  quantity: number;
  price_minor: number;
}

/** A Hold in an event. */
export interface HoldJson {
  hold_id: string;
  user_id: string;
  lines: LineJson[];
  state: number;
  create_time: number;
  expire_time: number;
  order_id: string;
  create_position: number;
  position: number;
}

/** An Order in an event. */
export interface OrderJson {
  order_id: string;
  user_id: string;
  lines: LineJson[];
  item_count: number;
  amount_minor: number;
  refunded_minor: number;
  state: number;
  payment_method: number;
  hold_id: string;
  create_time: number;
  update_time: number;
  position: number;
}

/** A User in an event. */
export interface UserJson {
  user_id: string;
  balance_minor: number;
  credits: number;
  order_count: number;
  lifetime_value_minor: number;
  create_time: number;
  update_time: number;
  position: number;
}

/** What belongs in Postgres but not in events: the `private` field of a `user_created` commit. */
export interface PrivateJson {
  email: string;
  email_key: string;
  display_name: string;
}

/** The row of a user made in this batch, with what later commits of the batch changed. */
export type NewUser = UserJson & PrivateJson & { create_position: number };

/** What a batch changed of an older user; absent = unchanged. */
export interface UserChange {
  user_id: string;
  balance_minor?: number;
  credits?: number;
  order_count?: number;
  lifetime_value_minor?: number;
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
}

/**
 * The events of the log, by name. Some carry more than the contract's events: `order_placed` the buyer's counts,
 * `product_put` whether the product is new, a hold the position of its creation.
 */
export interface EventJson {
  shop_created?: { shop_id: string; currency_code: string };
  product_put?: { product: ProductJson; created: boolean };
  stock_adjusted?: { stock: StockJson; delta_count: number; reason: number; reference: string };
  stock_held?: { hold: HoldJson; stocks: StockJson[] };
  hold_extended?: { hold: HoldJson };
  hold_released?: { hold: HoldJson; stocks: StockJson[] };
  hold_expired?: { hold: HoldJson; stocks: StockJson[] };
  hold_committed?: { hold: HoldJson };
  order_placed?: {
    order: OrderJson;
    stocks: StockJson[];
    balance_minor?: number;
    order_count?: number;
    lifetime_value_minor?: number;
  };
  user_created?: { user: UserJson };
  funds_deposited?: { user: UserJson; amount_minor: number; reference: string };
}

type EventName = keyof EventJson;
type Payload<Name extends EventName> = NonNullable<EventJson[Name]>;

const money = 1;
const credits = 2;
const wallet = 1;

/** How each event changes the rows. An event without an entry does not compile. */
const projections: { [Name in EventName]-?: (into: Projection, payload: Payload<Name>, entry: LogEntry) => void } = {
  shop_created: () => {},
  product_put: (into, { product, created }) => {
    into.products.set(product.sku, product);
    if (created) {
      into.counters.products += 1;
      into.stock.set(product.sku, { sku: product.sku, available_count: 0, held_count: 0, sold_count: 0 });
    }
  },
  stock_adjusted: (into, { stock }) => setStock(into, [stock]),
  stock_held: (into, { hold, stocks }) => {
    setStock(into, stocks);
    into.holds.set(hold.hold_id, hold);
    into.counters.openHolds += 1;
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
    if (order.user_id !== "") {
      changeUser(into, {
        user_id: order.user_id,
        ...(placed.balance_minor === undefined ? {} : { balance_minor: placed.balance_minor }),
        order_count: placed.order_count ?? 0,
        lifetime_value_minor: placed.lifetime_value_minor ?? 0,
        update_time: entry.timeMs,
        position: entry.position,
      });
    }
    if (order.payment_method === wallet) {
      move(into, entry, money, `user:${order.user_id}`, -order.amount_minor, placed.balance_minor ?? 0, "revenue", {
        cause: "ORDER",
        order_id: order.order_id,
      });
    }
  },
  user_created: (into, { user }, entry) => {
    const secret = entry.private === "" ? { email: "", email_key: "", display_name: "" } : JSON.parse(entry.private);
    into.newUsers.set(user.user_id, { ...user, ...(secret as PrivateJson), create_position: entry.position });
    into.counters.users += 1;
    move(into, entry, credits, `user:${user.user_id}`, user.credits, user.credits, "credits", { cause: "SIGNUP" });
  },
  funds_deposited: (into, { user, amount_minor, reference }, entry) => {
    changeUser(into, {
      user_id: user.user_id,
      balance_minor: user.balance_minor,
      update_time: user.update_time,
      position: user.position,
    });
    move(into, entry, money, `user:${user.user_id}`, amount_minor, user.balance_minor, "funding", {
      cause: "DEPOSIT",
      reference,
    });
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
    counters: { products: 0, users: 0, openHolds: 0, openOrders: 0 },
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
  into.counters.openHolds -= 1;
}

function changeUser(into: Projection, change: UserChange): void {
  const made = into.newUsers.get(change.user_id);
  if (made !== undefined) {
    Object.assign(made, change);
    return;
  }
  into.users.set(change.user_id, { ...into.users.get(change.user_id), ...change });
}

/** Writes both sides of a movement: the user's account and the shop's. */
function move(
  into: Projection,
  entry: LogEntry,
  kind: number,
  account: string,
  delta: number,
  balanceAfter: number,
  counterAccount: string,
  about: { cause: string; order_id?: string; reference?: string },
): void {
  const last = into.ledger.at(-1);
  const index = last?.position === entry.position ? last.index + 1 : 0;
  const shared = { position: entry.position, kind, order_id: "", reference: "", ...about };
  into.ledger.push({ ...shared, index, account, delta, balance_after: balanceAfter });
  into.ledger.push({ ...shared, index: index + 1, account: counterAccount, delta: -delta, balance_after: null });
}
