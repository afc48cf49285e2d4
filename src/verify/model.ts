import { hash } from "node:crypto";
import type { HoldEvent, Line, OrderEvent, TierEvent, Units } from "./events.ts";

/**
 * What a shop is after some commits, computed from its event log alone. Whatever can still change is held in full; of an
 * ended hold and an order only counts, positions and a digest of its row, because a shop has many of them.
 */
export interface Model {
  readonly shopId: string;
  /** The last commit that was folded in; 0 = none. */
  position: number;
  commitId: string;
  timeMs: number;
  epoch: number;
  currencyCode: string;
  readonly skus: Map<string, Sku>;
  readonly holds: Map<string, Hold>;
  readonly orders: Map<string, Order>;
  /** By `<order id> <refund number>`: refunds that the gateway has to make or has made. */
  readonly refunds: Map<string, Refund>;
  readonly users: Map<string, User>;
  /** Owners of referral codes. */
  readonly codes: Map<string, string>;
  readonly tiers: Map<string, Tier>;
  /** By `<user id> <position>`: the history of tiers. */
  readonly tierChanges: Map<string, TierChangeRow>;
  readonly stats: Stats;
  /** The ids of open holds and of orders that wait for their payment. */
  readonly openHolds: Set<string>;
  readonly openOrders: Set<string>;
}

/** A product with its levels and sales. */
export interface Sku {
  readonly sku: string;
  title: string;
  price: number;
  limit: number;
  /** Whether there ever was a limit. */
  tracked: boolean;
  saleStart: number;
  saleEnd: number;
  withdrawn: boolean;
  createMs: number;
  updateMs: number;
  /** Of the last change of the product. */
  position: number;
  available: number;
  held: number;
  sold: number;
  /** Of the last change of the levels. */
  levelsPosition: number;
  orders: number;
  units: number;
  revenue: number;
  /** Units held, pending and sold per user, over the whole history. */
  readonly users: Map<string, number>;
}

/** A hold. */
export interface Hold {
  state: number;
  readonly createPosition: number;
  /** Of the last change. */
  position: number;
  /** Of its row. */
  digest: number;
  /** Only while it is open. */
  open: OpenHold | undefined;
}

/** What matters of a hold as long as it is open. */
export interface OpenHold {
  readonly userId: string;
  readonly lines: readonly Line[];
  readonly createMs: number;
  expireMs: number;
}

/** An order. */
export interface Order {
  state: number;
  readonly userId: string;
  readonly method: number;
  readonly amount: number;
  refunded: number;
  /** The commits that confirmed and fulfilled it; 0 = none did. */
  confirmPosition: number;
  fulfillPosition: number;
  refundCount: number;
  /** `<sku> <quantity>,...` given back so far; empty = nothing. */
  restocked: string;
  readonly createPosition: number;
  position: number;
  /** Of what never changes. */
  readonly identity: number;
  /** Of its row. */
  digest: number;
  /** Only while it waits for its payment. */
  open: OpenOrder | undefined;
}

/** What matters of an order as long as it waits for its payment. */
export interface OpenOrder {
  readonly lines: readonly Line[];
  readonly holdId: string;
  readonly createMs: number;
  /** Undefined: it waits for as long as it takes. */
  readonly expireMs: number | undefined;
}

/** A refund of an order that the gateway charged. */
export interface Refund {
  readonly orderId: string;
  readonly number: number;
  readonly amount: number;
  settled: boolean;
  refundId: string;
  readonly createPosition: number;
  position: number;
}

/** A user. */
export interface User {
  readonly id: string;
  balance: number;
  credits: number;
  tier: string;
  code: string;
  referredBy: string;
  referralCount: number;
  orders: number;
  lifetime: number;
  readonly createMs: number;
  updateMs: number;
  readonly createPosition: number;
  position: number;
  /** Of the last change of e-mail or name. */
  profilePosition: number;
  /** Undefined: on free since creation. */
  subscription: Subscription | undefined;
}

/** The subscription of a user who ever changed the tier. */
export interface Subscription {
  readonly tier: string;
  readonly price: number;
  readonly startMs: number;
  readonly endMs: number;
  /** Empty: nothing is scheduled. */
  readonly scheduled: string;
  readonly position: number;
  readonly updateMs: number;
}

/** A tier. */
export interface Tier {
  readonly price: number;
  readonly projects: number;
  readonly storageMb: number;
  readonly apiCalls: number;
  readonly position: number;
}

/** What GetShopStats tells. */
export interface Stats {
  orders: number;
  items: number;
  revenue: number;
  refunded: number;
  upgradeCredits: number;
  downgradeCredits: number;
  readonly tiers: Map<string, number>;
}

/** A row of the ledger that an event has to leave. */
export interface LedgerRow {
  readonly position: number;
  readonly index: number;
  readonly account: string;
  readonly kind: number;
  readonly delta: number;
  readonly balance_after: number | null;
  readonly cause: string;
  readonly order_id: string;
  readonly reference: string;
  readonly reason: string;
}

/** A row of the history of tiers that an event has to leave. */
export interface TierChangeRow {
  readonly user_id: string;
  readonly position: number;
  readonly from_tier: string;
  readonly to_tier: string;
  readonly proration: number;
  readonly cause: number;
  readonly charged_credits: number;
  readonly credited_credits: number;
  readonly commit_time: number;
}

/** A shop before its first commit. */
export function createModel(shopId: string): Model {
  return {
    shopId,
    position: 0,
    commitId: "",
    timeMs: 0,
    epoch: 0,
    currencyCode: "",
    skus: new Map(),
    holds: new Map(),
    orders: new Map(),
    refunds: new Map(),
    users: new Map(),
    codes: new Map(),
    tiers: new Map(),
    tierChanges: new Map(),
    stats: { orders: 0, items: 0, revenue: 0, refunded: 0, upgradeCredits: 0, downgradeCredits: 0, tiers: new Map() },
    openHolds: new Set(),
    openOrders: new Set(),
  };
}

/** Lines as Redis keeps them: `<sku> <quantity> <price>,...`. */
export function packLines(lines: readonly Line[]): string {
  return lines.map(({ sku, quantity, price_minor }) => `${sku} ${quantity} ${price_minor}`).join(",");
}

/** Units of SKUs: `<sku> <quantity>,...`, by SKU. */
export function packUnits(units: readonly Units[] | null | undefined): string {
  return [...sumUnits(units ?? [])]
    .map(([sku, quantity]) => `${sku} ${quantity}`)
    .sort()
    .join(",");
}

/** What {@link packUnits} packed. */
export function unpackUnits(packed: string): Map<string, number> {
  return new Map(
    packed === ""
      ? []
      : packed.split(",").map((each): [string, number] => {
          const [sku = "", quantity] = each.split(" ");
          return [sku, Number(quantity)];
        }),
  );
}

/** Units per SKU of some lines, in the order in which the SKUs first appear. */
export function sumUnits(lines: readonly Units[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { sku, quantity } of lines) {
    sums.set(sku, (sums.get(sku) ?? 0) + quantity);
  }
  return sums;
}

/** 48 bits of a text's hash: two rows that differ have one digest once in 10^14. */
export function digestOf(fields: object): number {
  return Number.parseInt(hash("sha1", JSON.stringify(Object.values(fields)), "hex").slice(0, 12), 16);
}

/** The fields of a hold's row, from the event that wrote it. */
export function holdFields(hold: HoldEvent) {
  return {
    user_id: hold.user_id,
    lines: packLines(hold.lines),
    state: hold.state,
    create_time: hold.create_time,
    expire_time: hold.expire_time,
    order_id: hold.order_id ?? "",
    create_position: hold.create_position,
    position: hold.position,
  };
}

/** The fields of an order's row, from the event that wrote it. */
export function orderFields(order: OrderEvent) {
  return {
    ...orderIdentity(order),
    refunded_minor: order.refunded_minor ?? 0,
    state: order.state,
    payment_reference: order.payment_reference ?? "",
    charge_id: order.charge_id ?? "",
    fulfill_reference: order.fulfill_reference ?? "",
    cancel_reason: order.cancel_reason ?? "",
    expire_time: order.expire_time ?? 0,
    confirm_position: order.confirm_position ?? 0,
    fulfill_position: order.fulfill_position ?? 0,
    refund_count: order.refund_count ?? 0,
    restocked: packUnits(order.restocked),
    update_time: order.update_time,
    position: order.position,
  };
}

/** What never changes of an order. */
export function orderIdentity(order: OrderEvent) {
  return {
    user_id: order.user_id,
    lines: packLines(order.lines),
    item_count: order.item_count,
    amount_minor: order.amount_minor,
    payment_method: order.payment_method,
    hold_id: order.hold_id ?? "",
    create_time: order.create_time,
    create_position: order.create_position ?? order.position,
  };
}

/** A tier of an event. */
export function tierOf({ price_credits, limits }: TierEvent, position: number): Tier {
  return {
    price: price_credits,
    projects: limits.max_projects,
    storageMb: limits.max_storage_mb,
    apiCalls: limits.max_api_calls,
    position,
  };
}
