import type { BuyerCounts, Events, OrderEvent } from "../events.ts";
import { digestOf, type Order, orderFields, orderIdentity, packUnits, sumUnits, unpackUnits } from "../model.ts";
import { type At, changedNow, contradict, enter, expect, type Folds, money } from "./at.ts";
import { pricesOf } from "./holds.ts";
import { countUnits, expectStocks, moveStock, skuOf, skusOf } from "./stock.ts";
import { expectNotNegative, touch } from "./users.ts";

/** Values of OrderState. */
const state = { pending: 1, paid: 2, fulfilled: 3, cancelled: 4, refunded: 5 } as const;
/** Values of PaymentMethod. */
const method = { wallet: 1, external: 2, none: 3, gateway: 4 } as const;

/** Orders, their payment and their refunds. */
export const orderFolds: Folds<
  "order_placed" | "order_confirmed" | "order_cancelled" | "order_fulfilled" | "order_refunded" | "refund_settled"
> = {
  order_placed: placeOrder,
  order_confirmed: (at, { order, stocks, ...counts }) => {
    changeOrder(at, order, [state.pending], { state: state.paid, confirmPosition: at.entry.position });
    moveStock(at, order.lines, { held: -1, sold: 1 });
    expectStocks(at, skusOf(order.lines), stocks);
    countSale(at, order);
    expectBuyer(at, order, counts, { lifetime: order.amount_minor });
    pay(at, order, order.amount_minor, { cause: "ORDER" });
  },
  order_cancelled: (at, { order, stocks }) => {
    changeOrder(at, order, [state.pending], { state: state.cancelled });
    moveStock(at, order.lines, { held: -1, available: 1 });
    countUnits(at, order.user_id, order.lines, -1);
    expectStocks(at, skusOf(order.lines), stocks);
  },
  order_fulfilled: (at, { order }) =>
    changeOrder(at, order, [state.paid], { state: state.fulfilled, fulfillPosition: at.entry.position }),
  order_refunded: refundOrder,
  refund_settled: (at, { order, amount_minor, refund_number, refund_id }) => {
    const known = at.model.orders.get(order.order_id);
    // The order itself does not change: its refund was decided before.
    const digest = digestOf(orderFields(order));
    expect(at, `order:${order.order_id}`, { digest: known?.digest ?? "an order that was placed before" }, { digest });
    if (known !== undefined) {
      Object.assign(known, { digest, position: order.position });
    }
    const refund = at.model.refunds.get(`${order.order_id} ${refund_number}`);
    expect(
      at,
      `order:${order.order_id}`,
      { refund_number, amount_minor: refund?.amount ?? "no such refund", settled: false },
      { refund_number, amount_minor, settled: refund?.settled ?? false },
    );
    if (refund !== undefined) {
      Object.assign(refund, { settled: true, refundId: refund_id, position: at.entry.position });
    }
  },
};

function placeOrder(at: At, { order, stocks, ...counts }: Events["order_placed"]): void {
  const { committed } = at;
  const isPaid = order.payment_method === method.wallet || order.payment_method === method.none;
  expectNewOrder(at, order, isPaid);
  at.committed = undefined;
  moveStock(at, order.lines, {
    ...(committed === undefined ? { available: -1 } : { held: -1 }),
    ...(isPaid ? { sold: 1 } : { held: committed === undefined ? 1 : 0 }),
  });
  countUnits(at, order.user_id, order.lines, 1);
  expectStocks(at, skusOf(order.lines), stocks);
  at.model.orders.set(order.order_id, {
    state: order.state,
    userId: at.model.users.get(order.user_id)?.id ?? order.user_id,
    method: order.payment_method,
    amount: order.amount_minor,
    refunded: 0,
    confirmPosition: 0,
    fulfillPosition: 0,
    refundCount: 0,
    restocked: "",
    createPosition: order.position,
    position: order.position,
    identity: digestOf(orderIdentity(order)),
    digest: digestOf(orderFields(order)),
    open: isPaid
      ? undefined
      : {
          lines: order.lines,
          holdId: order.hold_id ?? "",
          createMs: order.create_time,
          expireMs: order.expire_time,
        },
  });
  if (!isPaid) {
    at.model.openOrders.add(order.order_id);
  }
  expectBuyer(at, order, counts, { orders: 1, ...(isPaid ? { lifetime: order.amount_minor } : {}) });
  if (isPaid) {
    countSale(at, order);
    pay(at, order, order.amount_minor, { cause: "ORDER" });
  }
}

function expectNewOrder(at: At, order: OrderEvent, isPaid: boolean): void {
  const { committed } = at;
  const units = order.lines.reduce((sum, line) => sum + line.quantity, 0);
  const amount = order.lines.reduce((sum, line) => sum + line.quantity * line.price_minor, 0);
  const lines = committed?.lines ?? order.lines;
  const expected = {
    used_before: false,
    ...orderFields({
      order_id: order.order_id,
      user_id: order.user_id,
      lines,
      item_count: units,
      amount_minor: amount,
      state: isPaid ? state.paid : state.pending,
      payment_method: order.payment_method,
      hold_id: committed?.holdId ?? "",
      ...(order.expire_time === undefined ? {} : { expire_time: order.expire_time }),
      create_time: at.entry.timeMs,
      update_time: at.entry.timeMs,
      position: at.entry.position,
    }),
    order_id: committed?.orderId ?? order.order_id,
    prices: committed === undefined ? pricesOf(at, order.lines) : "of the hold",
    expires: order.payment_method === method.external,
  };
  expect(at, `order:${order.order_id}`, expected, {
    used_before: at.model.orders.has(order.order_id),
    ...orderFields(order),
    order_id: order.order_id,
    prices: committed === undefined ? order.lines.map((line) => line.price_minor).join(" ") : "of the hold",
    expires: (order.expire_time ?? 0) > 0,
  });
}

/** An event about an order that has to be in one of some states, and what it changes besides references and times. */
function changeOrder(
  at: At,
  order: OrderEvent,
  from: readonly number[],
  to: {
    readonly state: number;
    readonly refunded?: number;
    readonly confirmPosition?: number;
    readonly fulfillPosition?: number;
    readonly refundCount?: number;
    readonly restocked?: string;
  },
): void {
  const known = at.model.orders.get(order.order_id);
  const found = orderFields(order);
  expect(
    at,
    `order:${order.order_id}`,
    {
      was_right: true,
      identity: known?.identity ?? "an order that was placed before",
      state: to.state,
      refunded_minor: to.refunded ?? known?.refunded ?? 0,
      confirm_position: to.confirmPosition ?? known?.confirmPosition ?? 0,
      fulfill_position: to.fulfillPosition ?? known?.fulfillPosition ?? 0,
      refund_count: to.refundCount ?? known?.refundCount ?? 0,
      restocked: to.restocked ?? known?.restocked ?? "",
      ...changedNow(at),
    },
    {
      was_right: known !== undefined && from.includes(known.state),
      identity: digestOf(orderIdentity(order)),
      state: order.state,
      refunded_minor: found.refunded_minor,
      confirm_position: found.confirm_position,
      fulfill_position: found.fulfill_position,
      refund_count: found.refund_count,
      restocked: found.restocked,
      update_time: order.update_time,
      position: order.position,
    },
  );
  at.model.openOrders.delete(order.order_id);
  const next: Order = {
    userId: order.user_id,
    method: order.payment_method,
    amount: order.amount_minor,
    createPosition: found.create_position,
    identity: digestOf(orderIdentity(order)),
    ...known,
    state: order.state,
    refunded: found.refunded_minor,
    confirmPosition: found.confirm_position,
    fulfillPosition: found.fulfill_position,
    refundCount: found.refund_count,
    restocked: found.restocked,
    position: order.position,
    digest: digestOf(found),
    open: undefined,
  };
  at.model.orders.set(order.order_id, next);
}

function refundOrder(at: At, event: Events["order_refunded"]): void {
  const { order, stocks = [], amount_minor, reason = "", restock_lines = [], refund_number, ...counts } = event;
  const known = at.model.orders.get(order.order_id);
  const refunded = (known?.refunded ?? 0) + amount_minor;
  const restocked = unpackUnits(known?.restocked ?? "");
  for (const [sku, quantity] of sumUnits(restock_lines)) {
    restocked.set(sku, (restocked.get(sku) ?? 0) + quantity);
  }
  const sold = sumUnits(order.lines);
  const subject = `order:${order.order_id}`;
  expect(
    at,
    subject,
    { refund_number: (known?.refundCount ?? 0) + 1, over_paid: false, over_sold: false },
    {
      refund_number,
      over_paid: refunded > order.amount_minor || amount_minor < 0,
      over_sold: [...restocked].some(([sku, quantity]) => quantity > (sold.get(sku) ?? 0)),
    },
  );
  changeOrder(at, order, [state.paid, state.fulfilled], {
    state: refunded === order.amount_minor ? state.refunded : (known?.state ?? order.state),
    refunded,
    refundCount: refund_number,
    restocked: packUnits([...restocked].map(([sku, quantity]) => ({ sku, quantity }))),
  });
  moveStock(at, restock_lines, { sold: -1, available: 1 });
  countUnits(at, order.user_id, restock_lines, -1);
  expectStocks(at, skusOf(restock_lines), stocks);
  if (order.payment_method === method.none) {
    return;
  }
  at.model.stats.refunded += amount_minor;
  expectBuyer(at, order, counts, { lifetime: -amount_minor, refund: amount_minor });
  pay(at, order, -amount_minor, { cause: "REFUND", reason });
  if (order.payment_method === method.gateway) {
    at.model.refunds.set(`${order.order_id} ${refund_number}`, {
      orderId: order.order_id,
      number: refund_number,
      amount: amount_minor,
      settled: false,
      refundId: "",
      createPosition: at.entry.position,
      position: at.entry.position,
    });
  }
}

/** What an order that is paid adds to the figures of the shop and of its products. */
function countSale(at: At, order: OrderEvent): void {
  const isRevenue = order.payment_method !== method.none;
  const { stats } = at.model;
  stats.orders += 1;
  stats.items += order.item_count;
  stats.revenue += isRevenue ? order.amount_minor : 0;
  for (const sku of skusOf(order.lines)) {
    skuOf(at, sku).orders += 1;
  }
  for (const { sku, quantity, price_minor } of order.lines) {
    const known = skuOf(at, sku);
    known.units += quantity;
    known.revenue += isRevenue ? quantity * price_minor : 0;
  }
}

/** What an order's event says of its buyer, and what it has to say. A guest has nothing that changes. */
function expectBuyer(
  at: At,
  order: OrderEvent,
  counts: BuyerCounts,
  by: { readonly orders?: number; readonly lifetime?: number; readonly refund?: number },
): void {
  if (order.user_id === "") {
    return;
  }
  const known = at.model.users.get(order.user_id);
  if (known === undefined) {
    contradict(at, `user:${order.user_id}`, "a user who was created before", "");
    return;
  }
  const isWallet = order.payment_method === method.wallet;
  const paid = isWallet ? (by.refund ?? -order.amount_minor) : 0;
  known.balance += paid;
  known.orders += by.orders ?? 0;
  known.lifetime += order.payment_method === method.none ? 0 : (by.lifetime ?? 0);
  touch(at, known);
  const found = {
    balance: isWallet ? (counts.balance_minor ?? "untold") : known.balance,
    orders: by.orders === undefined ? known.orders : (counts.order_count ?? "untold"),
    lifetime: counts.lifetime_value_minor ?? (by.orders === undefined ? "untold" : 0),
  };
  expect(at, `user:${known.id}`, { balance: known.balance, orders: known.orders, lifetime: known.lifetime }, found);
  known.balance = Number(found.balance === "untold" ? known.balance : found.balance);
  known.orders = Number(found.orders === "untold" ? known.orders : found.orders);
  known.lifetime = Number(found.lifetime === "untold" ? known.lifetime : found.lifetime);
  expectNotNegative(at, known);
}

/** Moves an order's money to the shop's revenue; a negative amount back. NONE moves nothing. */
function pay(at: At, order: OrderEvent, amount: number, about: { cause: string; reason?: string }): void {
  const payers: Readonly<Record<number, string>> = {
    [method.wallet]: `user:${order.user_id}`,
    [method.external]: "external",
    [method.gateway]: "gateway",
  };
  const payer = payers[order.payment_method];
  if (payer !== undefined) {
    const isWallet = order.payment_method === method.wallet;
    const balance = isWallet ? (at.model.users.get(order.user_id)?.balance ?? null) : null;
    enter(at, money, payer, -amount, balance, "revenue", { order_id: order.order_id, ...about });
  }
}
