/** The Redis keys of a shop, by the names that scripts use. All carry the hash tag `{shop_id}`, so they share a slot. */
export type ShopKeys = Readonly<Record<string, string>>;

const keyNames = [
  "meta",
  "log",
  "stock",
  "holds",
  "due",
  "due_skus",
  "users",
  "emails",
  "limits",
  "orders",
  "codes",
  "tiers",
  "renewals",
  "stats",
  "recent_0",
  "recent_1",
] as const;

/** Names the keys of one shop: `{default}:stock` for `stock`. */
export function shopKeys(shopId: string): ShopKeys {
  return Object.fromEntries(keyNames.map((name) => [name, `{${shopId}}:${name}`]));
}

/** The pub/sub channel on which the processes of one Redis database tell each other that a shop's durable head moved. */
export function hintChannel(database: number): string {
  return `holdfast:durable:${database}`;
}

/** The pub/sub channel on which the processes of one Redis database tell each other that a watch took a consumer. */
export function consumerChannel(database: number): string {
  return `holdfast:consumers:${database}`;
}
