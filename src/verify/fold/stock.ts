import { describe } from "../discrepancy.ts";
import type { ProductEvent, StockEvent, Units } from "../events.ts";
import { type Sku, sumUnits } from "../model.ts";
import { type At, changedNow, contradict, expect, type Folds } from "./at.ts";

/** Products and their levels. */
export const stockFolds: Folds<"product_put" | "stock_adjusted"> = {
  product_put: (at, { product, created }) => {
    const known = at.model.skus.get(product.sku);
    expect(
      at,
      `sku:${product.sku}`,
      { created: known === undefined, create_time: known?.createMs ?? at.entry.timeMs, ...changedNow(at) },
      { created, create_time: product.create_time, update_time: product.update_time, position: product.position },
    );
    putProduct(known ?? addSku(at, product.sku), product);
  },
  stock_adjusted: (at, { stock, delta_count }) => {
    skuOf(at, stock.sku).available += delta_count;
    expectStocks(at, [stock.sku], [stock]);
  },
};

function addSku(at: At, sku: string): Sku {
  const made: Sku = {
    sku,
    title: "",
    price: 0,
    limit: 0,
    tracked: false,
    saleStart: 0,
    saleEnd: 0,
    withdrawn: false,
    createMs: 0,
    updateMs: 0,
    position: 0,
    available: 0,
    held: 0,
    sold: 0,
    levelsPosition: at.entry.position,
    orders: 0,
    units: 0,
    revenue: 0,
    users: new Map(),
  };
  at.model.skus.set(sku, made);
  return made;
}

/** A product; one that was never put is a contradiction. */
export function skuOf(at: At, sku: string): Sku {
  const known = at.model.skus.get(sku);
  if (known !== undefined) {
    return known;
  }
  contradict(at, `sku:${sku}`, "a product that was put before", "");
  return addSku(at, sku);
}

function putProduct(known: Sku, product: ProductEvent): void {
  known.title = product.title;
  known.price = product.price_minor;
  known.limit = product.max_per_user;
  known.tracked ||= product.max_per_user > 0;
  known.saleStart = product.sale_start_time ?? 0;
  known.saleEnd = product.sale_end_time ?? 0;
  known.withdrawn = product.withdrawn ?? false;
  known.createMs = product.create_time;
  known.updateMs = product.update_time;
  known.position = product.position;
}

/** The SKUs of some lines, each once. */
export function skusOf(lines: readonly Units[]): string[] {
  return [...sumUnits(lines).keys()];
}

/** Moves units between the levels of their SKUs: so many times their quantity each. */
export function moveStock(
  at: At,
  lines: readonly Units[],
  by: { readonly available?: number; readonly held?: number; readonly sold?: number },
): void {
  for (const [sku, quantity] of sumUnits(lines)) {
    const known = skuOf(at, sku);
    known.available += quantity * (by.available ?? 0);
    known.held += quantity * (by.held ?? 0);
    known.sold += quantity * (by.sold ?? 0);
  }
}

/** The event tells the levels of the SKUs it touched, and no others; then they are believed. */
export function expectStocks(at: At, touched: readonly string[], stocks: readonly StockEvent[]): void {
  const told = new Map(stocks.map((stock) => [stock.sku, stock]));
  for (const sku of new Set([...touched, ...told.keys()])) {
    const known = skuOf(at, sku);
    const stock = told.get(sku);
    const levels = { available: known.available, held: known.held, sold: known.sold, price: known.price };
    known.levelsPosition = at.entry.position;
    if (stock === undefined || !touched.includes(sku)) {
      contradict(at, `sku:${sku}`, touched.includes(sku) ? describe(levels) : "", stock === undefined ? "" : "levels");
    }
    if (stock === undefined) {
      continue;
    }
    const { available_count, held_count, sold_count, price_minor = known.price } = stock;
    expect(at, `sku:${sku}`, levels, {
      available: available_count,
      held: held_count,
      sold: sold_count,
      price: price_minor,
    });
    if (Math.min(available_count, held_count, sold_count) < 0) {
      contradict(at, `sku:${sku}`, "no negative level", describe(levels));
    }
    Object.assign(known, { available: available_count, held: held_count, sold: sold_count });
  }
}

/** What a user has had of SKUs; a guest has had nothing. */
export function countUnits(at: At, userId: string, lines: readonly Units[], sign: 1 | -1): void {
  if (userId === "") {
    return;
  }
  for (const [sku, quantity] of sumUnits(lines)) {
    const { users } = skuOf(at, sku);
    const count = (users.get(userId) ?? 0) + sign * quantity;
    if (count === 0) {
      users.delete(userId);
    } else {
      users.set(at.model.users.get(userId)?.id ?? userId, count);
    }
  }
}
