/** The shop that every contestant sells from: the same products, prices, stock and buyers for all. */

/** The shop's id. */
export const shopId = "bench";

/** What everybody wants. */
export const hotSku = "console";

/** What was sold out before the run. */
export const goneSku = "gone";

/** Of which a few units are supplied, and no more, to see who sells more than there are. */
export const lastSku = "last";

const count = 1000;

/** A catalogue of 1,000. */
export const catalogueSkus: readonly string[] = Array.from({ length: count }, (_, index) => `sku-${index + 1000}`);

/** Every product of the shop. */
export const allSkus: readonly string[] = [hotSku, goneSku, lastSku, ...catalogueSkus];

/** 1,000 buyers with a wallet. */
export const userIds: readonly string[] = Array.from({ length: count }, (_, index) => `user-${index + 1000}`);

/** What each unit costs. */
export const priceMinor = 49_900;

/** What each wallet holds: never empty in a run. */
export const balanceMinor = 1_000_000_000_000;

/** Units of a product that is never sold out. */
export const plentyCount = 1_000_000_000;

/** Units of a product at the start. */
export function firstStockOf(sku: string): number {
  return sku === goneSku || sku === lastSku ? 0 : plentyCount;
}
