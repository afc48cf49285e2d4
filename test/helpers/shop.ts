import { randomBytes } from "node:crypto";
import { AdjustReason } from "../../gen/holdfast/v1/resources_pb.js";
import type { Clients } from "./holdfast.ts";

/** What a shop has when a test begins. */
export interface ShopContent {
  /** Units per SKU, at 100 minor units each. */
  readonly stock?: Readonly<Record<string, number>>;
  /** Money per user, in minor units. */
  readonly users?: Readonly<Record<string, number>>;
}

/** The price of a unit of what `createShop` puts on sale, in minor units. */
export const unitPriceMinor = 100;

/** A name nobody else has: shops, orders, users and requests of different tests never meet. */
export function uniqueId(kind: string): string {
  return `${kind}-${randomBytes(6).toString("hex")}`;
}

/** Creates a shop of the test's own and returns its id. */
export async function createShop(clients: Clients, { stock = {}, users = {} }: ShopContent = {}): Promise<string> {
  const shopId = uniqueId("shop");
  await clients.admin.createShop({ shopId, currencyCode: "USD" });
  await Promise.all([
    ...Object.entries(stock).map(([sku, count]) => stockProduct(clients, shopId, sku, count)),
    ...Object.entries(users).map(([userId, balance]) => createUser(clients, shopId, userId, balance)),
  ]);
  return shopId;
}

/** Puts a product on sale, with so many units. */
export async function stockProduct(clients: Clients, shopId: string, sku: string, count: number): Promise<void> {
  await clients.inventory.putProduct({ shopId, sku, title: `Title of ${sku}`, priceMinor: BigInt(unitPriceMinor) });
  if (count > 0) {
    const reason = AdjustReason.INITIAL;
    await clients.inventory.adjustStock({ shopId, sku, deltaCount: BigInt(count), reason });
  }
}

/** Creates a user with money. */
export async function createUser(clients: Clients, shopId: string, userId: string, balance: number): Promise<void> {
  await clients.users.createUser({ shopId, userId, email: `${userId}@example.com`, displayName: `Name of ${userId}` });
  if (balance > 0) await clients.users.depositFunds({ shopId, userId, amountMinor: BigInt(balance) });
}
