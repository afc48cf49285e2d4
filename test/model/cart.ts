import { type Decision, late, type Refused, refuse } from "./decision.ts";
import { dueTime, type Hold, type Line, type Order, openItems, type Product, type Shop } from "./state.ts";

/** A line of a request. */
export interface CartLine {
  readonly sku: string;
  readonly quantity: number;
  readonly expected_price_minor?: number;
}

/** What lines ask for per SKU, in the order of first mention. */
export function demand(lines: readonly { readonly sku: string; readonly quantity: number }[]): Map<string, number> {
  const asked = new Map<string, number>();
  for (const { sku, quantity } of lines) asked.set(sku, (asked.get(sku) ?? 0) + quantity);
  return asked;
}

/** Money of all lines: may be past what a shop can hold. */
export function amountOf(lines: readonly Line[]): bigint {
  return lines.reduce((sum, { quantity, price }) => sum + BigInt(quantity) * BigInt(price), 0n);
}

/** Fails when something due of these SKUs, or one of these items, was not ended before. */
export function notLate(
  shop: Shop,
  now: number,
  skus: Iterable<string>,
  ...own: readonly (Hold | Order | undefined)[]
): Refused | undefined {
  const touched = new Set(skus);
  const isDue = (item: Hold | Order): boolean => (dueTime(item) ?? Number.POSITIVE_INFINITY) <= now;
  const found =
    own.find((item) => item !== undefined && isDue(item)) ??
    openItems(shop).find((item) => isDue(item) && item.lines.some(({ sku }) => touched.has(sku)));
  return found === undefined ? undefined : late(`hold or order ${found.id}`);
}

/** How long HELD_OUT tells to wait: until the shop's next hold is due, 1 s to 60 s. */
export function retryMs(shop: Shop, now: number): number {
  const next = Math.min(...openItems(shop).map((item) => dueTime(item) as number));
  return Math.min(Math.max((Number.isFinite(next) ? next : now) - now, 1000), 60_000);
}

/** Why one SKU of a cart cannot be served. */
interface Violation extends Refused {
  readonly rank: number;
}

function violation(rank: number, reason: string, details: Omit<Refused, "kind" | "reason">): Violation {
  return { rank, ...refuse(reason, details) };
}

export function limitViolation(shop: Shop, product: Product, quantity: number, user: string): Refused | undefined {
  const had = shop.had.get(`${user} ${product.sku}`) ?? 0;
  if (product.limit === 0 || had + quantity <= product.limit) return undefined;
  const { sku, limit } = product;
  const metadata = { sku, limit: `${limit}`, had_count: `${had}`, requested_count: `${quantity}` };
  return refuse("PER_USER_LIMIT", { metadata, violations: [`PER_USER_LIMIT sku:${sku}`] });
}

function cartViolation(
  shop: Shop,
  lines: readonly CartLine[],
  sku: string,
  quantity: number,
  user: string,
  now: number,
): Violation | undefined {
  const product = shop.products.get(sku);
  if (product === undefined) return violation(1, "PRODUCT_NOT_FOUND", { metadata: { sku } });
  const isOver = product.saleEnd > 0 && now >= product.saleEnd;
  if (product.withdrawn || now < product.saleStart || isOver) return violation(3, "NOT_ON_SALE", { metadata: { sku } });
  const wrong = lines.find(
    (line) =>
      line.sku === sku && line.expected_price_minor !== undefined && line.expected_price_minor !== product.price,
  );
  if (wrong !== undefined) {
    const expected_minor = `${wrong.expected_price_minor}`;
    return violation(4, "PRICE_CHANGED", { metadata: { sku, expected_minor, price_minor: `${product.price}` } });
  }
  const over = limitViolation(shop, product, quantity, user);
  if (over !== undefined) return { ...over, rank: 5 };
  if (product.available >= quantity) return undefined;
  const metadata = outMetadata(product, quantity);
  return quantity <= product.available + product.held
    ? violation(7, "HELD_OUT", { metadata, retryMs: retryMs(shop, now) })
    : violation(6, "SOLD_OUT", { metadata });
}

export function outMetadata({ sku, available, held }: Product, quantity: number): Record<string, string> {
  return { sku, requested_count: `${quantity}`, available_count: `${available}`, held_count: `${held}` };
}

/** Whether a cart can be served from stock. A guest will not do where `needsUser`, or where a product has a limit. */
export function checkCart(
  shop: Shop,
  lines: readonly CartLine[],
  user: string,
  needsUser: boolean,
  now: number,
): Decision | undefined {
  const asked = [...demand(lines)];
  const found = asked.flatMap(([sku, quantity]) => {
    const why = cartViolation(shop, lines, sku, quantity, user, now);
    return why === undefined ? [] : [{ ...why, sku }];
  });
  const [first] = found.toSorted((left, right) => left.rank - right.rank);
  const limited = asked.find(([sku]) => (shop.products.get(sku)?.limit ?? 0) > 0);
  const wantsUser = needsUser || user !== "" || limited !== undefined;
  if (first?.rank !== 1 && wantsUser && !shop.users.has(user)) {
    const isLimited = user === "" && limited !== undefined;
    return refuse("USER_NOT_FOUND", { metadata: { user_id: user, ...(isLimited && { sku: limited[0] }) } });
  }
  if (first === undefined) return undefined;
  const { rank: _, sku: __, ...refusal } = first;
  return { ...refusal, violations: found.map(({ reason, sku }) => `${reason} sku:${sku}`) };
}

/** Counts units that a user has, or gives back. */
export function countUnits(shop: Shop, user: string, sku: string, quantity: number): void {
  if (user === "") return;
  const key = `${user} ${sku}`;
  shop.had.set(key, (shop.had.get(key) ?? 0) + quantity);
}
