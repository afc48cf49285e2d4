import type { Plain } from "./plain.ts";
import type { WatchedCommit } from "./watched-log.ts";

/**
 * What can neither appear nor vanish, added up from the events alone and without the model: units per SKU, money and
 * credits per wallet. After every commit each level and balance that it tells of must be what was put in, less what was
 * taken out.
 */
export class Conservation {
  readonly #units = new Map<string, number>();
  readonly #money = new Map<string, number>();
  readonly #credits = new Map<string, number>();

  /** Adds a commit; throws when something appeared or vanished with it. */
  add({ position, events }: WatchedCommit): void {
    for (const [name, payload] of events) {
      this.#count(name, payload);
      this.#check(position, payload);
    }
  }

  #count(name: string, payload: Plain): void {
    const { stock, user, order, subscription } = payload as Readonly<Record<string, Plain | undefined>>;
    const number = (field: string): number => (payload[field] as number | undefined) ?? 0;
    const userId = (user?.user_id ?? order?.user_id ?? subscription?.user_id) as string;
    const isWallet = order?.payment_method === 1;
    if (name === "stock_adjusted") add(this.#units, stock?.sku as string, number("delta_count"));
    if (name === "funds_deposited") add(this.#money, userId, number("amount_minor"));
    if (name === "funds_withdrawn") add(this.#money, userId, -number("amount_minor"));
    if (name === "order_placed" && isWallet)
      add(this.#money, userId, -((order?.amount_minor as number | undefined) ?? 0));
    if (name === "order_refunded" && isWallet) add(this.#money, userId, number("amount_minor"));
    if (name === "user_created") add(this.#credits, userId, payload.referral_applied === true ? 300 : 100);
    if (name === "referral_rewarded" || name === "credits_granted") add(this.#credits, userId, number("credits"));
    if (name === "tier_changed" || name === "subscription_renewed") {
      add(this.#credits, userId, number("credited_credits") - number("charged_credits"));
    }
  }

  #check(position: number, payload: Plain): void {
    const {
      stock,
      stocks = [],
      user,
      order,
      subscription,
      balance_minor,
    } = payload as {
      readonly stock?: Plain;
      readonly stocks?: readonly Plain[];
      readonly user?: Plain;
      readonly order?: Plain;
      readonly subscription?: Plain;
      readonly balance_minor?: number;
    };
    for (const level of stock === undefined ? stocks : [stock]) {
      const counts = ["available_count", "held_count", "sold_count"].map((field) => (level[field] as number) ?? 0);
      const units = counts.reduce((sum, count) => sum + count, 0);
      expectEqual(`units of ${level.sku} after commit ${position}`, units, this.#units.get(level.sku as string) ?? 0);
      if (Math.min(...counts) < 0) throw new Error(`a level of ${level.sku} is negative after commit ${position}`);
    }
    if (user !== undefined) {
      this.#balance(position, this.#money, user.user_id, user.balance_minor ?? 0);
      this.#balance(position, this.#credits, user.user_id, user.credits ?? 0);
    }
    if (order !== undefined && balance_minor !== undefined) {
      this.#balance(position, this.#money, order.user_id, balance_minor);
    }
    if (subscription !== undefined && ("charged_credits" in payload || "credits" in payload)) {
      this.#balance(position, this.#credits, subscription.user_id, payload.credits ?? 0);
    }
  }

  #balance(position: number, sums: Map<string, number>, userId: unknown, told: unknown): void {
    expectEqual(`a wallet of ${userId} after commit ${position}`, told as number, sums.get(userId as string) ?? 0);
  }
}

function add(sums: Map<string, number>, key: string, delta: number): void {
  sums.set(key, (sums.get(key) ?? 0) + delta);
}

function expectEqual(what: string, told: number, sum: number): void {
  if (told !== sum) throw new Error(`${what}: ${told} was told, ${sum} was put in`);
}
