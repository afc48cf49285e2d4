import type { AnsweredOutcome } from "../../model/caller.ts";
import type { World } from "../../model/choose.ts";
import type { Call } from "../../model/decide.ts";
import type { Plain } from "../../model/plain.ts";
import { createShopModel, type Hold, type Line, type Order, type Product, type User } from "../../model/state.ts";
import type { Quote } from "../../model/subscriptions.ts";

/** How many things of a kind callers remember: the newest, so that they meet at them. */
const memoryCount = 60;

/**
 * What all callers together were told of the shop lately: enough to choose calls that mean something. It may be behind,
 * and mixes answers of different positions: nothing is checked against it.
 */
export class View implements World {
  readonly shop;
  readonly quotes = new Map<string, Quote>();
  readonly tokens = [];
  readonly hasExtremes = false;
  readonly history: Call[] = [];
  readonly #clock: () => number;
  #freshCount = 0;

  /** `clock`: the time of clocks, in ms. */
  constructor(shopId: string, clock: () => number = Date.now) {
    this.#clock = clock;
    this.shop = createShopModel(shopId, "USD", clock());
  }

  get now(): number {
    return this.#clock();
  }

  fresh(kind: string): string {
    this.#freshCount += 1;
    return `${kind}${this.#freshCount}`;
  }

  /** Remembers a call that is about to be sent. */
  sent(call: Call): void {
    this.history.push(call);
    if (this.history.length > 2 * memoryCount) this.history.splice(0, memoryCount);
    if (call.requestId !== "") remember(this.shop.requestIds, call.requestId, 0);
  }

  /** Learns from an answer. */
  answered({ rpc, request }: Call, { response }: AnsweredOutcome): void {
    const { hold, order, user, product, stock, stocks, subscription, quote } = response as Answers;
    if (hold !== undefined) this.#learnHold(hold);
    if (order !== undefined) this.#learnOrder(rpc, order);
    if (user !== undefined) this.#learnUser(user);
    if (product !== undefined)
      this.#learnProduct(product.sku as string, { price: (product.price_minor ?? 0) as number });
    for (const { sku, available_count = 0 } of [...(stocks ?? []), ...(stock === undefined ? [] : [stock])])
      this.#learnProduct(sku as string, { available: available_count as number });
    const subscriber = this.shop.users.get((request.user_id ?? "") as string);
    if (subscription !== undefined && subscriber !== undefined) {
      const { tier = "free", scheduled_tier = "" } = subscription as Readonly<Record<string, string | undefined>>;
      subscriber.subscription = { ...subscriber.subscription, tier, scheduledTier: scheduled_tier };
    }
    if (quote !== undefined) this.#learnQuote(quote);
  }

  #learnHold(hold: Plain): void {
    const { hold_id: id, user_id: user = "", state } = hold;
    remember(this.shop.holds, id as string, { id, user, state } as Hold);
  }

  #learnOrder(rpc: string, message: Plain): void {
    const {
      order_id: id,
      user_id: user = "",
      state,
      amount_minor: amount = 0,
      refunded_minor: refunded = 0,
      position,
      payment_reference: paymentReference = "",
      fulfill_reference: fulfillReference = "",
    } = message;
    const lines = ((message.lines ?? []) as Plain[]).map((line) => ({ price: 0, ...line }) as unknown as Line);
    const known = this.shop.orders.get(id as string);
    const order = {
      ...{ id, user, state, amount, refunded, position, paymentReference, fulfillReference, lines },
      confirmPosition: rpc === "ConfirmOrder" ? position : (known?.confirmPosition ?? 0),
      fulfillPosition: rpc === "FulfillOrder" ? position : (known?.fulfillPosition ?? 0),
    };
    remember(this.shop.orders, order.id as string, order as unknown as Order);
  }

  #learnUser(message: Plain): void {
    const { user_id, email = "", referral_code = "", balance_minor = 0, tier } = message;
    const subscription = this.shop.users.get(user_id as string)?.subscription ?? { tier, scheduledTier: "" };
    const user = { id: user_id, email, referralCode: referral_code, balance: balance_minor, subscription };
    remember(this.shop.users, user_id as string, user as User);
  }

  #learnProduct(sku: string, told: Partial<Product>): void {
    const known = this.shop.products.get(sku) ?? ({ sku, price: 0, available: 0 } as Product);
    this.shop.products.set(sku, { ...known, ...told });
  }

  #learnQuote(quote: Plain): void {
    const { quote_token, user_id: user, to_tier: tier, proration, timing } = quote;
    remember(this.quotes, quote_token as string, { user, tier, proration, timing } as Quote);
  }
}

type Answers = Readonly<
  Record<"hold" | "order" | "user" | "product" | "stock" | "subscription" | "quote", Plain | undefined>
> & { readonly stocks: readonly Plain[] | undefined };

/** Keeps the newest things; what is told of again is the newest. */
function remember<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > memoryCount && oldest !== undefined) map.delete(oldest);
}
