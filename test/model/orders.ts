import { amountOf, type CartLine, checkCart, countUnits, demand, limitViolation, notLate } from "./cart.ts";
import { accept, answer, type Context, type Decision, refuse, refuseField } from "./decision.ts";
import { refuseHold } from "./inventory.ts";
import { differences, type Plain } from "./plain.ts";
import {
  causes,
  type Hold,
  holdStates,
  kinds,
  type Line,
  largest,
  methods,
  move,
  type Order,
  orderStates,
  type Product,
  type Shop,
  touch,
  type User,
  unfinishedItems,
} from "./state.ts";
import { holdMessage, orderMessage, stockMessages } from "./wire.ts";

/** OrderState without prefix, as ORDER_STATE_INVALID names it. */
const stateNames = ["UNSPECIFIED", "PENDING_PAYMENT", "PAID", "FULFILLED", "CANCELLED", "REFUNDED"];

/** PaymentMethod without prefix. */
const methodNames = ["UNSPECIFIED", "WALLET", "EXTERNAL", "NONE", "GATEWAY"];

interface PlaceRequest {
  readonly user_id?: string;
  readonly lines?: readonly CartLine[];
  readonly hold_id?: string;
  readonly payment_method?: number;
}

export function placeOrder(shop: Shop, request: Plain, context: Context): Decision {
  const { lines = [], hold_id = "", payment_method = 0 } = request as PlaceRequest;
  const method = payment_method === 0 ? methods.wallet : payment_method;
  const hold = shop.holds.get(hold_id);
  const from = hold_id === "" ? undefined : hold;
  const basis =
    hold_id === "" ? basisOfCart(shop, request, method, context.now) : basisOfHold(shop, request, method, context.now);
  if ("kind" in basis) return basis;
  const { user, priced } = basis;
  const amount = amountOf(priced);
  const buyer = shop.users.get(user);
  if (method === methods.wallet && BigInt(buyer?.balance ?? 0) < amount) {
    const required = amount <= BigInt(largest) ? { required_minor: `${amount}` } : {};
    return refuse("INSUFFICIENT_FUNDS", { metadata: { ...required, balance_minor: `${buyer?.balance}` } });
  }
  if (amount > BigInt(largest)) return refuse("BALANCE_LIMIT");
  if (method !== methods.none && passesLimit(shop, Number(amount))) return refuse("BALANCE_LIMIT");
  return accept(() => {
    const isPending = method === methods.external || method === methods.gateway;
    const { position, timeMs } = shop;
    const order: Order = {
      id: context.made("order_id"),
      user,
      lines: priced,
      itemCount: priced.reduce((sum, { quantity }) => sum + quantity, 0),
      amount: Number(amount),
      refunded: 0,
      state: isPending ? orderStates.pending : orderStates.paid,
      method,
      paymentReference: "",
      chargeId: "",
      fulfillReference: "",
      cancelReason: "",
      holdId: hold_id,
      expireTime: method === methods.external ? timeMs + shop.holdMs : 0,
      createTime: timeMs,
      updateTime: timeMs,
      position,
      createPosition: position,
      confirmPosition: 0,
      fulfillPosition: 0,
      refundCount: 0,
      restocked: new Map(),
      unsettled: new Map(),
    };
    shop.orders.set(order.id, order);
    shop.unfinished.add(order);
    for (const [sku, quantity] of demand(priced)) {
      const product = shop.products.get(sku) as Product;
      if (from === undefined) product.available -= quantity;
      else product.held -= quantity;
      if (isPending) product.held += quantity;
      else product.sold += quantity;
      if (from === undefined || from.user === "") countUnits(shop, user, sku, quantity);
    }
    const events: Plain[] = [];
    if (from !== undefined) {
      from.state = holdStates.committed;
      from.orderId = order.id;
      from.position = position;
      events.push({ hold_committed: { hold: holdMessage(from) } });
    }
    if (buyer !== undefined) {
      buyer.orderCount += 1;
      touch(shop, buyer);
    }
    if (!isPending) countSale(shop, order);
    if (method === methods.wallet) {
      move(shop, buyer as User, kinds.money, -order.amount, causes.order, { orderId: order.id });
    }
    const response = {
      order: orderMessage(order),
      stocks: stockMessages(shop, lines.length > 0 ? lines : priced),
      ...(method === methods.wallet && { balance_minor: buyer?.balance }),
    };
    return { response, events: [...events, { order_placed: response }] };
  });
}

/** Whether revenue would pass the largest number, if everything that waits for its payment is paid: it must be booked then. */
function passesLimit(shop: Shop, amount: number): boolean {
  const waiting = unfinishedItems(shop).filter((item) => "method" in item);
  return waiting.reduce((sum, order) => sum + order.amount, shop.stats.revenue) + amount > largest;
}

/** Counts an order that becomes PAID. */
function countSale(shop: Shop, order: Order): void {
  const isRevenue = order.method !== methods.none;
  shop.stats.orders += 1;
  shop.stats.items += order.itemCount;
  shop.stats.revenue += isRevenue ? order.amount : 0;
  for (const sku of new Set(order.lines.map((line) => line.sku))) {
    const { sales } = shop.products.get(sku) as Product;
    const lines = order.lines.filter((line) => line.sku === sku);
    sales.orders += 1;
    sales.units += lines.reduce((sum, { quantity }) => sum + quantity, 0);
    sales.revenue += isRevenue ? Number(amountOf(lines)) : 0;
  }
  const buyer = shop.users.get(order.user);
  if (isRevenue && buyer !== undefined) buyer.lifetimeValue += order.amount;
}

/** What an order is made of, or why it is not made. */
type Basis = Decision | { readonly user: string; readonly priced: readonly Line[] };

function basisOfCart(shop: Shop, request: Plain, method: number, now: number): Basis {
  const { user_id = "", lines = [] } = request as PlaceRequest;
  const refusal =
    notLate(shop, now, demand(lines).keys()) ?? checkCart(shop, lines, user_id, method === methods.wallet, now);
  if (refusal !== undefined) return refusal;
  const priced = lines.map(({ sku, quantity }) => ({ sku, quantity, price: shop.products.get(sku)?.price as number }));
  return { user: user_id, priced };
}

function basisOfHold(shop: Shop, request: Plain, method: number, now: number): Basis {
  const { user_id = "", hold_id = "" } = request as PlaceRequest;
  const hold = shop.holds.get(hold_id);
  const lines = hold?.state === holdStates.active ? hold.lines : [];
  const tooLate = notLate(
    shop,
    now,
    lines.map(({ sku }) => sku),
    hold,
  );
  if (tooLate !== undefined) return tooLate;
  if (user_id !== "" && !shop.users.has(user_id)) return refuse("USER_NOT_FOUND");
  const refusal = refuseHold(hold);
  if (refusal !== undefined) return refusal;
  const { user: holder } = hold as Hold;
  // A hold is its user's own; a guest's can be bought by whoever brings its id.
  if (user_id !== "" && holder !== "" && holder !== user_id) return refuse("HOLD_NOT_FOUND");
  const user = user_id === "" ? holder : user_id;
  if (method === methods.wallet && user === "") return refuse("USER_NOT_FOUND");
  for (const [sku, quantity] of holder === "" && user !== "" ? demand(lines) : []) {
    const over = limitViolation(shop, shop.products.get(sku) as Product, quantity, user);
    if (over !== undefined) return over;
  }
  return { user, priced: lines };
}

/** Why an order that is not in the wanted state cannot be changed. */
function refuseState(order: Order, isOthers = false): Decision {
  const metadata = {
    order_id: order.id,
    state: stateNames[order.state] as string,
    ...(order.cancelReason !== "" && { cancel_reason: order.cancelReason }),
    ...(isOthers && { payment_method: methodNames[order.method] as string }),
  };
  return refuse("ORDER_STATE_INVALID", { metadata });
}

/** An order, after everything of a pending one that is due. */
function findOrder(shop: Shop, { order_id }: Plain, now: number): Order | Decision {
  const order = shop.orders.get(order_id as string);
  if (order === undefined) return refuse("ORDER_NOT_FOUND");
  const skus = order.state === orderStates.pending ? order.lines.map(({ sku }) => sku) : [];
  return notLate(shop, now, skus, order) ?? order;
}

/** A pending EXTERNAL order, for whoever wants to end its waiting. */
function findPending(order: Order): Order | Decision {
  const isExternal = order.method === methods.external;
  return order.state === orderStates.pending && isExternal ? order : refuseState(order, !isExternal);
}

/** What a caller wants of an order was done by a commit: that is the answer when it was the same call. */
function sameAgain(shop: Shop, order: Order, position: number, rpc: string, request: Plain): Decision {
  const past = shop.calls.get(position);
  const isSame = past?.rpc === rpc && differences(past.body, request).length === 0;
  return isSame ? { kind: "replayed", position } : refuseState(order);
}

/** An order changed with the commit that is being made. */
function change(shop: Shop, order: Order, state: number): void {
  order.state = state;
  order.position = shop.position;
  order.updateTime = shop.timeMs;
}

export function confirmOrder(shop: Shop, request: Plain, { now }: Context): Decision {
  const order = findOrder(shop, request, now);
  if ("kind" in order) return order;
  if (order.confirmPosition > 0) return sameAgain(shop, order, order.confirmPosition, "ConfirmOrder", request);
  const found = findPending(order);
  if ("kind" in found) return found;
  return accept(() => {
    found.paymentReference = (request.payment_reference as string | undefined) ?? "";
    const response = confirm(shop, found);
    return { response, events: [{ order_confirmed: response }] };
  });
}

/** Makes a pending order PAID. */
export function confirm(shop: Shop, order: Order): Plain {
  change(shop, order, orderStates.paid);
  order.confirmPosition = order.position;
  for (const [sku, quantity] of demand(order.lines)) {
    const product = shop.products.get(sku) as Product;
    product.held -= quantity;
    product.sold += quantity;
  }
  countSale(shop, order);
  const buyer = shop.users.get(order.user);
  if (buyer !== undefined) touch(shop, buyer);
  return { order: orderMessage(order), stocks: stockMessages(shop, order.lines) };
}

export function cancelOrder(shop: Shop, request: Plain, { now }: Context): Decision {
  const order = findOrder(shop, request, now);
  if ("kind" in order) return order;
  if (order.state === orderStates.cancelled) return sameAgain(shop, order, order.position, "CancelOrder", request);
  const found = findPending(order);
  if ("kind" in found) return found;
  return accept(() => {
    const response = cancel(shop, found, (request.reason as string | undefined) ?? "");
    return { response, events: [{ order_cancelled: response }] };
  });
}

/** Ends a pending order and gives its units back. */
export function cancel(shop: Shop, order: Order, reason: string): Plain {
  change(shop, order, orderStates.cancelled);
  order.cancelReason = reason;
  for (const [sku, quantity] of demand(order.lines)) {
    const product = shop.products.get(sku) as Product;
    product.available += quantity;
    product.held -= quantity;
    countUnits(shop, order.user, sku, -quantity);
  }
  return { order: orderMessage(order), stocks: stockMessages(shop, order.lines) };
}

export function fulfillOrder(shop: Shop, request: Plain, { now }: Context): Decision {
  const order = findOrder(shop, request, now);
  if ("kind" in order) return order;
  if (order.fulfillPosition > 0) return sameAgain(shop, order, order.fulfillPosition, "FulfillOrder", request);
  if (order.state !== orderStates.paid) return refuseState(order);
  return accept(() => {
    change(shop, order, orderStates.fulfilled);
    order.fulfillPosition = order.position;
    order.fulfillReference = (request.reference as string | undefined) ?? "";
    const response = { order: orderMessage(order) };
    return { response, events: [{ order_fulfilled: response }] };
  });
}

interface RefundRequest {
  readonly amount_minor?: number;
  readonly reason?: string;
  readonly restock?: boolean;
  readonly restock_lines?: readonly { readonly sku: string; readonly quantity: number }[];
}

export function refundOrder(shop: Shop, request: Plain, { now }: Context): Decision {
  const { amount_minor, reason = "", restock = false, restock_lines = [] } = request as unknown as RefundRequest;
  const order = findOrder(shop, request, now);
  if ("kind" in order) return order;
  // Who asks for everything, or made the only refund, asks again; a part of several would be one more.
  const isAgain = amount_minor === undefined || order.refundCount === 1;
  if (order.state === orderStates.refunded && isAgain)
    return sameAgain(shop, order, order.position, "RefundOrder", request);
  if (order.state !== orderStates.paid && order.state !== orderStates.fulfilled) return refuseState(order);
  const left = order.amount - order.refunded;
  const amount = amount_minor ?? left;
  const sold = demand(order.lines);
  const remaining = new Map([...sold].map(([sku, quantity]) => [sku, quantity - (order.restocked.get(sku) ?? 0)]));
  const wanted = restock ? new Map([...remaining].filter(([, quantity]) => quantity > 0)) : demand(restock_lines);
  const isLeft = ([sku, quantity]: readonly [string, number]): boolean => quantity <= (remaining.get(sku) ?? 0);
  const given = [...wanted].filter(isLeft).map(([sku]) => sku);
  const tooLate = notLate(shop, now, given);
  if (tooLate !== undefined) return tooLate;
  if (amount > left) return refuse("REFUND_EXCEEDS_PAID");
  if (restock && amount < left) return refuseField("restock");
  if (given.length < wanted.size) return refuseField("restock_lines");
  const isMoney = order.method !== methods.none;
  const buyer = shop.users.get(order.user);
  const isWallet = order.method === methods.wallet;
  if (isWallet && (buyer as User).balance + amount > largest) return refuse("BALANCE_LIMIT");
  if (isMoney && shop.stats.refunded + amount > largest) return refuse("BALANCE_LIMIT");
  return accept(() => {
    order.refunded += amount;
    order.refundCount += 1;
    change(shop, order, order.refunded === order.amount ? orderStates.refunded : order.state);
    for (const [sku, quantity] of wanted) {
      const product = shop.products.get(sku) as Product;
      product.sold -= quantity;
      product.available += quantity;
      countUnits(shop, order.user, sku, -quantity);
      order.restocked.set(sku, (order.restocked.get(sku) ?? 0) + quantity);
    }
    if (isMoney) {
      shop.stats.refunded += amount;
      if (buyer !== undefined) {
        buyer.lifetimeValue -= amount;
        touch(shop, buyer);
      }
    }
    if (isWallet) move(shop, buyer as User, kinds.money, amount, causes.refund, { orderId: order.id, reason });
    if (order.method === methods.gateway) order.unsettled.set(order.refundCount, amount);
    const response = {
      order: orderMessage(order),
      stocks: stockMessages(
        shop,
        order.lines.filter(({ sku }) => wanted.has(sku)),
      ),
      ...(isWallet && { balance_minor: buyer?.balance }),
    };
    const restocked = [...sold.keys()].filter((sku) => wanted.has(sku));
    const about = {
      amount_minor: amount,
      reason,
      restock_lines: restocked.map((sku) => ({ sku, quantity: wanted.get(sku) })),
      refund_number: order.refundCount,
    };
    return { response, events: [{ order_refunded: { ...response, ...about } }] };
  });
}

export function getOrder(shop: Shop, request: Plain, { now }: Context): Decision {
  const order = shop.orders.get(request.order_id as string);
  if (order === undefined) return refuse("ORDER_NOT_FOUND");
  return notLate(shop, now, [], order) ?? answer({ order: orderMessage(order) });
}

export function listOrders(shop: Shop, request: Plain): Plain[] {
  const { user_id = "", state = 0 } = request as { readonly user_id?: string; readonly state?: number };
  const orders = [...shop.orders.values()].filter(
    (order) => (user_id === "" || order.user === user_id) && (state === 0 || order.state === state),
  );
  return orders.sort((left, right) => right.createPosition - left.createPosition).map(orderMessage);
}
