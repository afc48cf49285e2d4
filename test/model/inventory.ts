import { type CartLine, checkCart, countUnits, demand, notLate, outMetadata, retryMs } from "./cart.ts";
import { accept, answer, type Context, type Decision, refuse, refuseField } from "./decision.ts";
import type { Plain } from "./plain.ts";
import { type Hold, holdStates, largest, type Product, type Shop } from "./state.ts";
import { holdMessage, productMessage, stockMessage, stockMessages } from "./wire.ts";

const dayMs = 86_400_000;

export function putProduct(shop: Shop, request: Plain): Decision {
  const {
    sku,
    title = "",
    price_minor,
    max_per_user,
    sale_start_time,
    sale_end_time,
    withdrawn,
  } = request as {
    readonly sku: string;
    readonly title?: string;
    readonly price_minor?: number;
    readonly max_per_user?: number;
    readonly sale_start_time?: number;
    readonly sale_end_time?: number;
    readonly withdrawn?: boolean;
  };
  const found = shop.products.get(sku);
  if (found === undefined && price_minor === undefined) return refuseField("price_minor");
  const saleStart = sale_start_time ?? found?.saleStart ?? 0;
  const saleEnd = sale_end_time ?? found?.saleEnd ?? 0;
  if (saleEnd > 0 && saleEnd <= saleStart) return refuseField("sale_end_time");
  return accept(() => {
    const product: Product = {
      ...(found ?? {
        sku,
        price: 0,
        limit: 0,
        withdrawn: false,
        createTime: shop.timeMs,
        available: 0,
        held: 0,
        sold: 0,
        adjusted: 0,
        sales: { orders: 0, units: 0, revenue: 0 },
      }),
      title,
      saleStart,
      saleEnd,
      updateTime: shop.timeMs,
      position: shop.position,
    };
    product.price = price_minor ?? product.price;
    product.limit = max_per_user ?? product.limit;
    product.withdrawn = withdrawn ?? product.withdrawn;
    shop.products.set(sku, product);
    const response = { product: productMessage(product) };
    return { response, events: [{ product_put: response }] };
  });
}

export function adjustStock(shop: Shop, request: Plain, { now }: Context): Decision {
  const {
    sku,
    delta_count,
    reason,
    reference = "",
    expected_available_count,
  } = request as {
    readonly sku: string;
    readonly delta_count: number;
    readonly reason: number;
    readonly reference?: string;
    readonly expected_available_count?: number;
  };
  const tooLate = notLate(shop, now, [sku]);
  if (tooLate !== undefined) return tooLate;
  const product = shop.products.get(sku);
  if (product === undefined) return refuse("PRODUCT_NOT_FOUND", { metadata: { sku } });
  const { available, held, sold } = product;
  if (expected_available_count !== undefined && expected_available_count !== available) {
    return refuse("STOCK_CHANGED");
  }
  if (available + delta_count < 0) {
    const metadata = { ...outMetadata(product, -delta_count), delta_count: `${delta_count}` };
    return available + held + delta_count >= 0
      ? refuse("HELD_OUT", { metadata, retryMs: retryMs(shop, now) })
      : refuse("SOLD_OUT", { metadata });
  }
  if (available + held + sold + delta_count > largest) return refuse("BALANCE_LIMIT");
  return accept(() => {
    product.available += delta_count;
    product.adjusted += delta_count;
    const response = { stock: stockMessage(product) };
    return { response, events: [{ stock_adjusted: { ...response, delta_count, reason, reference } }] };
  });
}

export function holdStock(shop: Shop, request: Plain, { now, made }: Context): Decision {
  const {
    user_id = "",
    lines,
    hold_duration,
  } = request as {
    readonly user_id?: string;
    readonly lines: readonly CartLine[];
    readonly hold_duration?: number;
  };
  const asked = demand(lines);
  const refusal = notLate(shop, now, asked.keys()) ?? checkCart(shop, lines, user_id, false, now);
  if (refusal !== undefined) return refusal;
  return accept(() => {
    const { position, timeMs } = shop;
    const hold: Hold = {
      id: made("hold_id"),
      user: user_id,
      lines: lines.map(({ sku, quantity }) => ({ sku, quantity, price: shop.products.get(sku)?.price as number })),
      state: holdStates.active,
      createTime: timeMs,
      expireTime: timeMs + (hold_duration ?? shop.holdMs),
      orderId: "",
      position,
      createPosition: position,
    };
    shop.holds.set(hold.id, hold);
    shop.unfinished.add(hold);
    for (const [sku, quantity] of asked) {
      const product = shop.products.get(sku) as Product;
      product.available -= quantity;
      product.held += quantity;
      countUnits(shop, user_id, sku, quantity);
    }
    const response = { hold: holdMessage(hold), stocks: stockMessages(shop, lines) };
    return { response, events: [{ stock_held: response }] };
  });
}

/** What a hold that is not open answers to who wants to use it. */
export function refuseHold(hold: Hold | undefined): Decision | undefined {
  if (hold === undefined) return refuse("HOLD_NOT_FOUND");
  const reasons: Readonly<Record<number, string>> = {
    [holdStates.committed]: "HOLD_COMMITTED",
    [holdStates.released]: "HOLD_RELEASED",
    [holdStates.expired]: "HOLD_EXPIRED",
  };
  const reason = reasons[hold.state];
  return reason === undefined ? undefined : refuse(reason);
}

export function extendHold(shop: Shop, request: Plain, { now }: Context): Decision {
  const { hold_id, hold_duration } = request as { readonly hold_id: string; readonly hold_duration?: number };
  const hold = shop.holds.get(hold_id);
  const refusal = notLate(shop, now, [], hold) ?? refuseHold(hold);
  if (hold === undefined || refusal !== undefined) return refusal as Decision;
  const expireTime = Math.max(hold.expireTime, now + (hold_duration ?? shop.holdMs));
  if (expireTime > hold.createTime + dayMs) return refuse("HOLD_LIMIT_REACHED");
  return accept(() => {
    hold.expireTime = expireTime;
    hold.position = shop.position;
    const response = { hold: holdMessage(hold) };
    return { response, events: [{ hold_extended: response }] };
  });
}

/** Ends an open hold by giving its units back. */
export function endHold(shop: Shop, hold: Hold, state: number): Plain {
  hold.state = state;
  hold.position = shop.position;
  for (const [sku, quantity] of demand(hold.lines)) {
    const product = shop.products.get(sku) as Product;
    product.available += quantity;
    product.held -= quantity;
    countUnits(shop, hold.user, sku, -quantity);
  }
  return { hold: holdMessage(hold), stocks: stockMessages(shop, hold.lines) };
}

export function releaseHold(shop: Shop, request: Plain, { now }: Context): Decision {
  const hold = shop.holds.get(request.hold_id as string);
  // A released hold is answered with its release: nothing but this RPC releases one.
  if (hold?.state === holdStates.released) return { kind: "replayed", position: hold.position };
  const skus = hold?.state === holdStates.active ? hold.lines.map(({ sku }) => sku) : [];
  const refusal = notLate(shop, now, skus, hold) ?? refuseHold(hold);
  if (hold === undefined || refusal !== undefined) return refusal as Decision;
  return accept(() => {
    const response = endHold(shop, hold, holdStates.released);
    return { response, events: [{ hold_released: response }] };
  });
}

export function getProduct(shop: Shop, request: Plain): Decision {
  const sku = request.sku as string;
  const product = shop.products.get(sku);
  return product === undefined
    ? refuse("PRODUCT_NOT_FOUND", { metadata: { sku } })
    : answer({ product: productMessage(product) });
}

function readStocks(shop: Shop, skus: readonly string[], now: number): Decision | readonly Plain[] {
  const missing = skus.find((sku) => !shop.products.has(sku));
  if (missing !== undefined) return refuse("PRODUCT_NOT_FOUND", { metadata: { sku: missing } });
  return notLate(shop, now, skus) ?? skus.map((sku) => stockMessage(shop.products.get(sku) as Product));
}

export function getStock(shop: Shop, request: Plain, { now }: Context): Decision {
  const read = readStocks(shop, [request.sku as string], now);
  return Array.isArray(read) ? answer({ stock: read[0] }) : (read as Decision);
}

export function batchGetStock(shop: Shop, request: Plain, { now }: Context): Decision {
  const read = readStocks(shop, request.skus as readonly string[], now);
  return Array.isArray(read) ? answer({ stocks: read }) : (read as Decision);
}

export function getHold(shop: Shop, request: Plain, { now }: Context): Decision {
  const hold = shop.holds.get(request.hold_id as string);
  if (hold === undefined) return refuse("HOLD_NOT_FOUND");
  return notLate(shop, now, [], hold) ?? answer({ hold: holdMessage(hold) });
}

export function listProducts(shop: Shop): Plain[] {
  return [...shop.products.values()].sort(byName(({ sku }) => sku)).map(productMessage);
}

export function listHolds(shop: Shop, request: Plain): Plain[] {
  const holds = [...shop.holds.values()].filter(
    ({ user }) => (request.user_id ?? "") === "" || user === request.user_id,
  );
  return holds.sort((left, right) => right.createPosition - left.createPosition).map(holdMessage);
}

/** Compares by a name, in byte order. */
export function byName<Item>(name: (item: Item) => string): (left: Item, right: Item) => number {
  return (left, right) => (name(left) < name(right) ? -1 : name(left) > name(right) ? 1 : 0);
}
