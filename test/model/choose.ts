import type { Call } from "./decide.ts";
import type { Plain } from "./plain.ts";
import { holdStates, largest, type Order, orderStates, type Shop } from "./state.ts";
import type { Quotes } from "./subscriptions.ts";

/** Numbers from 0 to 9,999 that choose. */
export type Picks = readonly number[];

/** What calls are bound to. */
export interface World {
  readonly shop: Shop;
  readonly now: number;
  readonly quotes: Quotes;
  /** Page tokens that lists gave out. */
  readonly tokens: readonly { readonly rpc: string; readonly token: string }[];
  /** Whether prices reach the boundaries: then the shop's revenue does, and few more orders are taken. */
  readonly hasExtremes: boolean;
  /** Calls sent so far. */
  readonly history: readonly Call[];
  /** A name that nothing has yet. */
  fresh(kind: string): string;
}

/** Reads picks one after the other. */
export class Chooser {
  readonly #picks: Picks;
  #next = 0;

  constructor(picks: Picks) {
    this.#picks = picks;
  }

  get pick(): number {
    this.#next += 1;
    const pick = this.#picks[this.#next - 1];
    // Beyond the last pick: mixed from those that there are.
    return pick ?? ((this.#picks[this.#next % this.#picks.length] as number) * 7919 + this.#next * 104_729) % 10_000;
  }

  /** True with a chance of so many percent. */
  chance(percent: number): boolean {
    return this.pick < percent * 100;
  }

  from<Item>(items: readonly Item[]): Item {
    return items[this.pick % items.length] as Item;
  }

  /** One of the list, more often a late one; undefined when it is empty. */
  recent<Item>(items: readonly Item[]): Item | undefined {
    return items[items.length - 1 - Math.floor(items.length * (this.pick / 10_000) ** 2)];
  }

  /** A number between two, both inclusive. */
  between(least: number, most: number): number {
    return least + (this.pick % (most - least + 1));
  }
}

export const boundaries = [0, 1, 1e14, largest] as const;
export const skus = ["s0", "s1", "s2", "s3", "s4"] as const;
/** Where numbers at the boundaries go, so that the others stay playable. */
export const extremeSku = "s4";
export const mainUsers = ["u0", "u1", "u2", "u3", "u4", "u5"] as const;
export const richUser = "u5";

export function chooseSku(choose: Chooser): string {
  return choose.chance(2) ? "nothing" : choose.from(["s0", "s0", "s1", "s1", "s2", "s2", "s3", "s4"]);
}

export function chooseUser(choose: Chooser, { shop }: World): string {
  if (choose.chance(2)) return "nobody";
  if (choose.chance(75)) return choose.from(mainUsers);
  return choose.recent([...shop.users.keys()]) ?? "nobody";
}

/** A user or, more seldom, a guest. */
export function chooseBuyer(choose: Chooser, world: World): string {
  return choose.chance(20) ? "" : chooseUser(choose, world);
}

function chooseQuantity(choose: Chooser): number {
  const pick = choose.pick;
  if (pick < 7500) return choose.between(1, 3);
  if (pick < 9700) return choose.between(4, 30);
  return pick < 9850 ? 1_000_000 : 1;
}

export function chooseLines(choose: Chooser, { shop }: World): Plain[] {
  const count = choose.chance(1) ? 100 : choose.from([1, 1, 1, 1, 2, 2, 3]);
  return Array.from({ length: count }, () => {
    const sku = chooseSku(choose);
    const price = shop.products.get(sku)?.price;
    const pick = choose.pick;
    const expected = pick < 1000 ? price : pick < 1150 ? 77 : undefined;
    return { sku, quantity: chooseQuantity(choose), ...(expected !== undefined && { expected_price_minor: expected }) };
  });
}

/** An id of the kind: a new one, none (the server makes one), or one that is taken. */
export function chooseId(choose: Chooser, world: World, kind: string, taken: Iterable<string>): string {
  const pick = choose.pick;
  if (pick < 8300) return world.fresh(kind);
  return pick < 9200 ? "" : (choose.recent([...taken]) ?? "");
}

export function chooseHold(choose: Chooser, { shop }: World): string {
  if (choose.chance(2)) return "no-hold";
  const all = [...shop.holds.values()];
  const open = all.filter(({ state }) => state === holdStates.active);
  return choose.recent(choose.chance(75) && open.length > 0 ? open : all)?.id ?? "no-hold";
}

export function chooseOrder(choose: Chooser, { shop }: World, isWanted: (order: Order) => boolean): string {
  if (choose.chance(2)) return "no-order";
  const all = [...shop.orders.values()];
  const wanted = all.filter(isWanted);
  return choose.recent(choose.chance(80) && wanted.length > 0 ? wanted : all)?.id ?? "no-order";
}

export const isPending = ({ state }: Order): boolean => state === orderStates.pending;
/** Whether a commit brought an order somewhere and another one has changed it since. */
export const isChangedSince =
  (reached: (order: Order) => number) =>
  (order: Order): boolean =>
    reached(order) > 0 && reached(order) < order.position;
export const isPaid = ({ state }: Order): boolean => state === orderStates.paid || state === orderStates.fulfilled;

export function chooseAmount(choose: Chooser, isExtreme: boolean): number {
  return isExtreme
    ? choose.from([1, 1e14, largest, largest])
    : choose.from([1, choose.between(1, 5000), 100_000, 10_000]);
}

export function chooseText(choose: Chooser): string {
  return choose.from(["", "why not", 'a "quoted" \\ word', "ünïcode 😀"]);
}

/** A tier for a user, mostly another one than they are on. */
export function chooseTier(choose: Chooser, { shop }: World, userId: string): string {
  if (choose.chance(6)) return "no-tier";
  const current = shop.users.get(userId)?.subscription.tier;
  const others = [...shop.tiers.keys()].filter((tier) => tier !== current || choose.chance(25));
  return choose.from(others);
}

export const tiers = ["free", "pro", "enterprise", "t0", "t1", "t2"] as const;
