import type { LogEntry } from "./log-entry.ts";
import { type Projection, project } from "./projection.ts";

/** What some commits may have changed in a shop: ids by kind. */
export interface Touched {
  readonly skus: readonly string[];
  readonly holds: readonly string[];
  readonly orders: readonly string[];
  readonly users: readonly string[];
  readonly tiers: readonly string[];
  /** Fields of `limits`, `<user_id>:<sku>`: whose holds and orders had what. */
  readonly limits: readonly string[];
  /** The SKUs in `limits`. */
  readonly limitedSkus: readonly string[];
  /** The users in `limits`. */
  readonly buyers: readonly string[];
  readonly requests: readonly string[];
}

/**
 * What the commits of several histories touched, in any of them. Each history is projected by itself: the same id may name
 * different things in two of them. Throws when there is an event that this version does not know.
 */
export function touchedBy(histories: readonly (readonly LogEntry[])[]): Touched {
  const projections = histories.map((entries) => project(entries));
  const all = (idsOf: (each: Projection) => Iterable<string>): string[] => [
    ...new Set(projections.flatMap((each) => [...idsOf(each)])),
  ];
  const carts = projections.flatMap(({ holds, orders }) => [...holds.values(), ...orders.values()]);
  const named = carts.filter(({ user_id }) => user_id !== "");
  const requestIds = histories.flat().map(({ call }) => (JSON.parse(call) as { request_id: string }).request_id);
  return {
    skus: all(({ products, stock }) => [...products.keys(), ...stock.keys()]),
    holds: all(({ holds }) => holds.keys()),
    orders: all(({ orders }) => orders.keys()),
    users: all(({ newUsers, users, subscriptions }) => [...newUsers.keys(), ...users.keys(), ...subscriptions.keys()]),
    tiers: all(({ tiers }) => tiers.keys()),
    limits: [...new Set(named.flatMap(({ user_id, lines }) => lines.map(({ sku }) => `${user_id}:${sku}`)))],
    limitedSkus: [...new Set(named.flatMap(({ lines }) => lines.map(({ sku }) => sku)))],
    buyers: [...new Set(named.map(({ user_id }) => user_id))],
    requests: [...new Set(requestIds.filter((id) => id !== ""))],
  };
}
