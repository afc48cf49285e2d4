import { describe, expect, test } from "vitest";
import type { Discrepancy } from "../../src/verify/discrepancy.ts";
import { fold } from "../../src/verify/fold.ts";
import { createModel, type LedgerRow, type Model } from "../../src/verify/model.ts";

/** When position 1 is; every position is a second later. */
const startMs = 1_700_000_000_000;

const timeOf = (position: number) => startMs + position * 1000;

type Event = Readonly<Record<string, object>>;

/** A history under test: the model, what each commit left, and what was wrong. */
class History {
  readonly model: Model = createModel("shop");
  readonly ledger: LedgerRow[] = [];
  readonly discrepancies: Discrepancy[] = [];

  /** Folds in the next commit; `entry` overrides what a good one has. */
  commit(events: readonly Event[] | string, entry: { position?: number; timeMs?: number; epoch?: number } = {}): this {
    const position = this.model.position + 1;
    const folded = fold(this.model, {
      position,
      commitId: `c${position}`,
      epoch: 1,
      timeMs: timeOf(position),
      call: "{}",
      events: typeof events === "string" ? events : JSON.stringify(events),
      private: "",
      ...entry,
    });
    this.ledger.push(...folded.ledger);
    this.discrepancies.push(...folded.discrepancies);
    return this;
  }

  /** What the commits contradicted, as `<kind> <subject>@<position>: <expected> | <found>`. */
  get told(): string[] {
    return this.discrepancies.map(
      ({ kind, subject, position, expected, found }) => `${kind} ${subject}@${position}: ${expected} | ${found}`,
    );
  }
}

const stock = (sku: string, available: number, held: number, sold: number) => ({
  sku,
  available_count: available,
  held_count: held,
  sold_count: sold,
  price_minor: 100,
});

const line = (sku: string, quantity: number) => ({ sku, quantity, price_minor: 100 });

/** The next position's `create_time`, `update_time` and `position`. */
const made = (position: number) => ({ create_time: timeOf(position), update_time: timeOf(position), position });

const user = (position: number, fields: object = {}) => ({
  user_id: "ann",
  balance_minor: 0,
  credits: 100,
  tier: "free",
  referral_code: "ANN",
  referred_by: "",
  referral_count: 0,
  order_count: 0,
  lifetime_value_minor: 0,
  ...made(5),
  update_time: timeOf(position),
  position,
  ...fields,
});

const hold = (position: number, fields: object = {}) => ({
  hold_id: "h1",
  user_id: "ann",
  lines: [line("a", 2)],
  state: 1,
  create_time: timeOf(7),
  expire_time: timeOf(7) + 60_000,
  order_id: "",
  create_position: 7,
  position,
  ...fields,
});

const order = (position: number, fields: object = {}) => ({
  order_id: "o1",
  user_id: "ann",
  lines: [line("a", 2)],
  item_count: 2,
  amount_minor: 200,
  refunded_minor: 0,
  state: 2,
  payment_method: 1,
  hold_id: "",
  create_time: timeOf(7),
  update_time: timeOf(position),
  create_position: 7,
  position,
  ...fields,
});

const created = { shop_created: { shop_id: "shop", currency_code: "USD" } };
const put = (sku: string, position: number, fields: object = {}) => ({
  product_put: {
    product: { sku, title: "T", price_minor: 100, max_per_user: 0, withdrawn: false, ...made(position), ...fields },
    created: true,
  },
});

/** A shop with 10 units of `a` and one of `b`, and the user `ann` with 1,000: six good commits. */
function openShop(): History {
  return new History()
    .commit([created])
    .commit([put("a", 2)])
    .commit([put("b", 3)])
    .commit([{ stock_adjusted: { stock: stock("a", 10, 0, 0), delta_count: 10, reason: 1, reference: "" } }])
    .commit([{ user_created: { user: user(5), referral_applied: false } }])
    .commit([{ funds_deposited: { user: user(6, { balance_minor: 1000 }), amount_minor: 1000, reference: "d" } }]);
}

const held = { stock_held: { hold: hold(7), stocks: [stock("a", 8, 2, 0)] } };
const placed = {
  order_placed: {
    order: order(7),
    stocks: [stock("a", 8, 0, 2)],
    balance_minor: 800,
    order_count: 1,
    lifetime_value_minor: 200,
  },
};
/** An order that waits for a payment of the given kind. */
const pending = (method: number, fields: object = {}) => ({
  order_placed: {
    order: order(7, {
      state: 1,
      payment_method: method,
      ...(method === 2 ? { expire_time: timeOf(60) } : {}),
      ...fields,
    }),
    stocks: [stock("a", 8, 2, 0)],
    order_count: 1,
    lifetime_value_minor: 0,
  },
});
const external = { payment_method: 2, expire_time: timeOf(60) };

describe("a good history", () => {
  test("of a hold that is extended and released", () => {
    const history = openShop()
      .commit([held])
      .commit([{ hold_extended: { hold: hold(8, { expire_time: timeOf(200) }) } }])
      .commit([
        { hold_released: { hold: hold(9, { state: 3, expire_time: timeOf(200) }), stocks: [stock("a", 10, 0, 0)] } },
      ]);
    expect(history.told).toEqual([]);
    expect(history.model.skus.get("a")).toMatchObject({ available: 10, held: 0, sold: 0, users: new Map() });
    expect(history.model.holds.get("h1")).toMatchObject({ state: 3, createPosition: 7, position: 9, open: undefined });
    expect(history.model.openHolds.size).toBe(0);
  });

  test("of a hold that becomes an order, which is refunded in parts and restocked", () => {
    const paid = { refunded_minor: 0, hold_id: "h1", create_time: timeOf(8), create_position: 8 };
    const refund = (position: number, fields: object, payload: object) => ({
      order_refunded: { order: order(position, { ...paid, ...fields }), reason: "r", ...payload },
    });
    const history = openShop()
      .commit([held])
      .commit([
        { hold_committed: { hold: hold(8, { state: 2, order_id: "o1" }) } },
        {
          order_placed: {
            order: order(8, paid),
            stocks: [stock("a", 8, 0, 2)],
            balance_minor: 800,
            order_count: 1,
            lifetime_value_minor: 200,
          },
        },
      ])
      .commit([
        refund(
          9,
          { refunded_minor: 50, refund_count: 1, restocked: [{ sku: "a", quantity: 1 }] },
          {
            stocks: [stock("a", 9, 0, 1)],
            balance_minor: 850,
            amount_minor: 50,
            restock_lines: [{ sku: "a", quantity: 1 }],
            refund_number: 1,
            lifetime_value_minor: 150,
          },
        ),
      ])
      .commit([
        refund(
          10,
          { refunded_minor: 200, refund_count: 2, state: 5, restocked: [{ sku: "a", quantity: 1 }] },
          { stocks: [], balance_minor: 1000, amount_minor: 150, refund_number: 2, lifetime_value_minor: 0 },
        ),
      ]);
    expect(history.told).toEqual([]);
    expect(history.model.skus.get("a")).toMatchObject({
      available: 9,
      held: 0,
      sold: 1,
      orders: 1,
      units: 2,
      revenue: 200,
    });
    expect(history.model.skus.get("a")?.users).toEqual(new Map([["ann", 1]]));
    expect(history.model.users.get("ann")).toMatchObject({ balance: 1000, orders: 1, lifetime: 0 });
    expect(history.model.stats).toMatchObject({ orders: 1, items: 2, revenue: 200, refunded: 200 });
    expect(history.ledger.slice(-4)).toMatchObject([
      { position: 9, index: 0, account: "user:ann", delta: 50, balance_after: 850, cause: "REFUND", reason: "r" },
      { position: 9, index: 1, account: "revenue", delta: -50, balance_after: null, order_id: "o1" },
      { position: 10, index: 0, account: "user:ann", delta: 150, balance_after: 1000 },
      { position: 10, index: 1, account: "revenue", delta: -150 },
    ]);
  });

  test.each([
    [2, "external"],
    [4, "gateway"],
  ])("of an order of payment method %i that is confirmed and fulfilled", (method, account) => {
    const fields = method === 2 ? external : { payment_method: method };
    const fulfilled = { state: 3, fulfill_reference: "f", confirm_position: 8, fulfill_position: 9 };
    const history = openShop()
      .commit([pending(method)])
      .commit([
        {
          order_confirmed: {
            order: order(8, { ...fields, payment_reference: "p", confirm_position: 8 }),
            stocks: [stock("a", 8, 0, 2)],
            lifetime_value_minor: 200,
          },
        },
      ])
      .commit([{ order_fulfilled: { order: order(9, { ...fields, ...fulfilled }) } }]);
    expect(history.told).toEqual([]);
    expect(history.model.users.get("ann")).toMatchObject({ balance: 1000, lifetime: 200, position: 8 });
    expect(history.model.stats).toMatchObject({ orders: 1, items: 2, revenue: 200 });
    expect(history.ledger.filter(({ position }) => position >= 7)).toMatchObject([
      { position: 8, account, delta: -200, balance_after: null, cause: "ORDER", order_id: "o1" },
      { position: 8, account: "revenue", delta: 200 },
    ]);
    expect(history.model.openOrders.size).toBe(0);
  });

  test("of an order that is cancelled: nobody paid, nobody has it", () => {
    const cancelled = order(8, { ...external, state: 4, cancel_reason: "EXPIRED" });
    const history = openShop()
      .commit([pending(2)])
      .commit([{ order_cancelled: { order: cancelled, stocks: [stock("a", 10, 0, 0)] } }]);
    expect(history.told).toEqual([]);
    expect(history.model.stats).toMatchObject({ orders: 0, revenue: 0 });
    expect(history.model.skus.get("a")?.users.size).toBe(0);
    expect(history.model.users.get("ann")).toMatchObject({ orders: 1, lifetime: 0 });
  });

  test("of a refund at the gateway that is settled later", () => {
    const fields = { payment_method: 4, refunded_minor: 200, refund_count: 1, state: 5, confirm_position: 8 };
    const refunded = {
      order: order(9, fields),
      stocks: [],
      amount_minor: 200,
      refund_number: 1,
      lifetime_value_minor: 0,
    };
    const settled = { order: order(9, fields), amount_minor: 200, refund_number: 1, refund_id: "re_1" };
    const confirmed = {
      order: order(8, { payment_method: 4, confirm_position: 8 }),
      stocks: [stock("a", 8, 0, 2)],
      lifetime_value_minor: 200,
    };
    const history = openShop()
      .commit([pending(4)])
      .commit([{ order_confirmed: confirmed }])
      .commit([{ order_refunded: refunded }])
      .commit([{ refund_settled: settled }]);
    expect(history.told).toEqual([]);
    expect(history.model.refunds.get("o1 1")).toMatchObject({ amount: 200, settled: true, refundId: "re_1" });
    history.commit([{ refund_settled: settled }]);
    expect(history.told).toEqual(["EVENT order:o1@11: settled=false | settled=true"]);
    history.commit([{ refund_settled: { ...settled, order: order(12, fields) } }]);
    expect(history.told.slice(1)).toEqual([
      expect.stringMatching(/^EVENT order:o1@12: digest=\d+ \| digest=\d+$/),
      "EVENT order:o1@12: settled=false | settled=true",
    ]);
  });

  test("of a referral", () => {
    const bob = { user_id: "bob", referral_code: "BOB", referred_by: "ann", credits: 300, ...made(7) };
    const history = openShop().commit([
      { user_created: { user: user(7, bob), referral_applied: true } },
      {
        referral_rewarded: {
          user: user(7, { balance_minor: 1000, credits: 600, referral_count: 1 }),
          credits: 500,
          referred_user_id: "bob",
        },
      },
    ]);
    expect(history.told).toEqual([]);
    expect(history.model.codes).toEqual(
      new Map([
        ["ANN", "ann"],
        ["BOB", "bob"],
      ]),
    );
    expect(history.ledger.filter(({ position }) => position === 7)).toMatchObject([
      { index: 0, account: "user:bob", delta: 100, balance_after: 100, cause: "SIGNUP" },
      { index: 1, account: "credits", delta: -100 },
      { index: 2, account: "user:bob", delta: 200, balance_after: 300, cause: "REFERRAL" },
      { index: 3, account: "credits", delta: -200 },
      { index: 4, account: "user:ann", delta: 500, balance_after: 600, cause: "REFERRAL" },
      { index: 5, account: "credits", delta: -500 },
    ]);
  });

  test("of a subscription: upgrade, renewal, scheduled downgrade", () => {
    const periodMs = 2_592_000_000;
    const start = timeOf(5);
    const subscription = (position: number, fields: object) => ({
      user_id: "ann",
      tier: "pro",
      price_credits: 2900,
      period_start_time: start,
      period_end_time: start + periodMs,
      update_time: timeOf(position),
      position,
      ...fields,
    });
    const second = { period_start_time: start + periodMs, period_end_time: start + 2 * periodMs };
    const third = { period_start_time: start + 2 * periodMs, period_end_time: start + 3 * periodMs };
    const at = (position: number, ms: number) => ({ update_time: ms, position });
    const history = openShop()
      .commit([
        {
          credits_granted: {
            user: user(7, { balance_minor: 1000, credits: 10_000 }),
            credits: 9900,
            reason: "gift",
          },
        },
      ])
      .commit([
        {
          tier_changed: {
            subscription: subscription(8, {}),
            from_tier: "free",
            to_tier: "pro",
            proration: 1,
            cause: 1,
            charged_credits: 2900,
            credited_credits: 0,
            credits: 7100,
          },
        },
      ])
      .commit(
        [
          {
            subscription_renewed: {
              subscription: subscription(9, { ...second, ...at(9, start + periodMs) }),
              charged_credits: 2900,
              credits: 4200,
            },
          },
        ],
        { timeMs: start + periodMs },
      )
      .commit(
        [
          {
            tier_change_scheduled: {
              subscription: subscription(10, { ...second, scheduled_tier: "free", ...at(10, start + periodMs + 1) }),
              from_tier: "pro",
              to_tier: "free",
            },
          },
        ],
        { timeMs: start + periodMs + 1 },
      )
      .commit(
        [
          {
            tier_changed: {
              subscription: subscription(11, {
                ...third,
                tier: "free",
                price_credits: 0,
                ...at(11, start + 2 * periodMs),
              }),
              from_tier: "pro",
              to_tier: "free",
              proration: 0,
              cause: 2,
              charged_credits: 0,
              credited_credits: 0,
              credits: 4200,
            },
          },
        ],
        { timeMs: start + 2 * periodMs },
      );
    expect(history.told).toEqual([]);
    expect(history.model.users.get("ann")).toMatchObject({ credits: 4200, tier: "free" });
    expect(history.model.stats).toMatchObject({ upgradeCredits: 2900, downgradeCredits: 0 });
    expect(Object.fromEntries(history.model.stats.tiers)).toEqual({ free: 1, pro: 0 });
    expect([...history.model.tierChanges.keys()]).toEqual(["ann 8", "ann 11"]);
  });

  test("every entry of the ledger has its other side", () => {
    const { ledger } = openShop().commit([placed]);
    const sums = new Map<string, number>();
    for (const { position, kind, delta } of ledger) {
      sums.set(`${position} ${kind}`, (sums.get(`${position} ${kind}`) ?? 0) + delta);
    }
    expect(ledger).toHaveLength(6);
    expect([...sums.values()]).toEqual([0, 0, 0]);
  });
});

describe("a history that contradicts itself", () => {
  const bad: Readonly<Record<string, [(history: History) => History, string[]]>> = {
    "a gap": [(history) => history.commit([], { position: 9 }), ["LOG commit:9@9: position=7 | position=9"]],
    "a time that goes back": [
      (history) => history.commit([], { timeMs: timeOf(6) - 1 }),
      [`LOG commit:7@7: time=${timeOf(6)} | time=${timeOf(6) - 1}`],
    ],
    "an epoch that goes back": [(history) => history.commit([], { epoch: 0 }), ["LOG commit:7@7: epoch=1 | epoch=0"]],
    "events that are no list": [(history) => history.commit("{"), ["EVENT commit:7@7: a list of events | {"]],
    "an event nobody knows": [
      (history) => history.commit([{ unicorn_sold: {} }]),
      ["EVENT commit:7@7: an event of the contract | unicorn_sold"],
    ],
    "levels that do not follow, told once": [
      (history) =>
        history
          .commit([{ stock_adjusted: { stock: stock("a", 12, 0, 0), delta_count: 1 } }])
          .commit([{ stock_adjusted: { stock: stock("a", 13, 0, 0), delta_count: 1 } }]),
      ["EVENT sku:a@7: available=11 | available=12"],
    ],
    "a level below zero": [
      (history) => history.commit([{ stock_adjusted: { stock: stock("a", -1, 0, 0), delta_count: -11 } }]),
      ["EVENT sku:a@7: no negative level | available=-1 held=0 sold=0 price=100"],
    ],
    "levels that are not told": [
      (history) => history.commit([{ stock_held: { hold: hold(7), stocks: [] } }]),
      ["EVENT sku:a@7: available=8 held=2 sold=0 price=100 | "],
    ],
    "levels of a product that nothing touched": [
      (history) =>
        history.commit([{ stock_held: { hold: hold(7), stocks: [stock("a", 8, 2, 0), stock("b", 0, 0, 0)] } }]),
      ["EVENT sku:b@7:  | levels"],
    ],
    "units of a product that was never put": [
      (history) => history.commit([{ stock_adjusted: { stock: stock("c", 1, 0, 0), delta_count: 1 } }]),
      ["EVENT sku:c@7: a product that was put before | ", "EVENT sku:c@7: price=0 | price=100"],
    ],
    "a product made twice": [
      (history) => history.commit([put("a", 7)]),
      [`EVENT sku:a@7: created=false create_time=${timeOf(2)} | created=true create_time=${timeOf(7)}`],
    ],
    "a hold that ends twice": [
      (history) =>
        history
          .commit([held])
          .commit([{ hold_released: { hold: hold(8, { state: 3 }), stocks: [stock("a", 10, 0, 0)] } }])
          .commit([{ hold_released: { hold: hold(9, { state: 3 }), stocks: [stock("a", 12, -2, 0)] } }]),
      ["EVENT hold:h1@9: was=1 | was=3", "EVENT sku:a@9: no negative level | available=12 held=-2 sold=0 price=100"],
    ],
    "a hold id used twice": [
      (history) =>
        history.commit([held]).commit([
          {
            stock_held: {
              hold: hold(8, { create_time: timeOf(8), create_position: 8 }),
              stocks: [stock("a", 6, 4, 0)],
            },
          },
        ]),
      ["EVENT hold:h1@8: used_before=false | used_before=true"],
    ],
    "a hold that expires before it is due": [
      (history) =>
        history
          .commit([held])
          .commit([{ hold_expired: { hold: hold(8, { state: 4 }), stocks: [stock("a", 10, 0, 0)] } }]),
      ["EVENT hold:h1@8: due=true | due=false"],
    ],
    "a hold that is committed to no order": [
      (history) => history.commit([held]).commit([{ hold_committed: { hold: hold(8, { state: 2, order_id: "o1" }) } }]),
      ["EVENT hold:h1@8: order_placed of o1 | "],
    ],
    "a hold with another price": [
      (history) =>
        history.commit([
          {
            stock_held: {
              hold: hold(7, { lines: [{ ...line("a", 2), price_minor: 99 }] }),
              stocks: [stock("a", 8, 2, 0)],
            },
          },
        ]),
      ["EVENT hold:h1@7: prices=100 | prices=99"],
    ],
    "an order with another amount": [
      (history) =>
        history.commit([{ order_placed: { ...placed.order_placed, order: order(7, { amount_minor: 199 }) } }]),
      [
        "EVENT order:o1@7: amount_minor=200 | amount_minor=199",
        "EVENT user:ann@7: balance=801 lifetime=199 | balance=800 lifetime=200",
      ],
    ],
    "an order that is charged twice": [
      (history) => history.commit([{ order_placed: { ...placed.order_placed, balance_minor: 600 } }]),
      ["EVENT user:ann@7: balance=800 | balance=600"],
    ],
    "an order id used twice": [
      (history) =>
        history.commit([placed]).commit([
          {
            order_placed: {
              order: order(8, { create_time: timeOf(8), create_position: 8 }),
              stocks: [stock("a", 6, 0, 4)],
              balance_minor: 600,
              order_count: 2,
              lifetime_value_minor: 400,
            },
          },
        ]),
      ["EVENT order:o1@8: used_before=false | used_before=true"],
    ],
    "an order that was paid is confirmed": [
      (history) =>
        history.commit([placed]).commit([
          {
            order_confirmed: {
              order: order(8, { confirm_position: 8 }),
              stocks: [stock("a", 8, -2, 4)],
              lifetime_value_minor: 400,
            },
          },
        ]),
      [
        "EVENT order:o1@8: was_right=true | was_right=false",
        "EVENT sku:a@8: no negative level | available=8 held=-2 sold=4 price=100",
        "EVENT user:ann@8: balance=600 | balance=untold",
      ],
    ],
    "an order that forgets which commits confirmed and fulfilled it": [
      (history) => {
        const confirmed = order(8, { ...external, expire_time: undefined, confirm_position: 7 });
        return history
          .commit([pending(2)])
          .commit([{ order_confirmed: { order: confirmed, stocks: [stock("a", 8, 0, 2)], lifetime_value_minor: 200 } }])
          .commit([{ order_fulfilled: { order: order(9, { ...external, state: 3, confirm_position: 7 }) } }]);
      },
      [
        "EVENT order:o1@8: confirm_position=8 | confirm_position=7",
        "EVENT order:o1@9: fulfill_position=9 | fulfill_position=0",
      ],
    ],
    "an order that changes what it sold": [
      (history) =>
        history.commit([pending(2)]).commit([
          {
            order_cancelled: {
              order: order(8, { ...external, state: 4, lines: [line("a", 1)] }),
              stocks: [stock("a", 9, 1, 0)],
            },
          },
        ]),
      [expect.stringMatching(/^EVENT order:o1@8: identity=\d+ \| identity=\d+$/) as unknown as string],
    ],
    "more refunded than paid": [
      (history) =>
        history.commit([placed]).commit([
          {
            order_refunded: {
              order: order(8, { refunded_minor: 201, refund_count: 1 }),
              stocks: [],
              balance_minor: 1001,
              amount_minor: 201,
              refund_number: 1,
              lifetime_value_minor: -1,
            },
          },
        ]),
      ["EVENT order:o1@8: over_paid=false | over_paid=true"],
    ],
    "more restocked than sold": [
      (history) =>
        history.commit([placed]).commit([
          {
            order_refunded: {
              order: order(8, {
                refunded_minor: 200,
                refund_count: 1,
                state: 5,
                restocked: [{ sku: "a", quantity: 3 }],
              }),
              stocks: [stock("a", 11, 0, -1)],
              balance_minor: 1000,
              amount_minor: 200,
              restock_lines: [{ sku: "a", quantity: 3 }],
              refund_number: 1,
              lifetime_value_minor: 0,
            },
          },
        ]),
      [
        "EVENT order:o1@8: over_sold=false | over_sold=true",
        "EVENT sku:a@8: no negative level | available=11 held=0 sold=-1 price=100",
      ],
    ],
    "a wallet that does not follow": [
      (history) =>
        history.commit([
          { funds_withdrawn: { user: user(7, { balance_minor: 999 }), amount_minor: 2, reference: "" } },
        ]),
      ["EVENT user:ann@7: balance=998 | balance=999"],
    ],
    "a wallet below zero": [
      (history) => history.commit([{ funds_withdrawn: { user: user(7, { balance_minor: -1 }), amount_minor: 1001 } }]),
      ["EVENT user:ann@7: no negative balance | balance=-1 credits=100"],
    ],
    "a user made twice": [
      (history) => history.commit([{ user_created: { user: user(7, made(7)), referral_applied: false } }]),
      ["EVENT user:ann@7: used_before=false code_owner= | used_before=true code_owner=ann"],
    ],
    "an order of a user nobody made": [
      (history) =>
        history.commit([
          { order_placed: { order: order(7, { user_id: "eve", payment_method: 3 }), stocks: [stock("a", 8, 0, 2)] } },
        ]),
      ["EVENT user:eve@7: a user who was created before | "],
    ],
    "a subscription of a user nobody made": [
      (history) => history.commit([{ tier_change_cancelled: { subscription: { user_id: "eve" } } }]),
      ["EVENT commit:7@7: a whole tier_change_cancelled | user eve was never created"],
    ],
    "a renewal that charges another price": [
      (history) =>
        history.commit([
          {
            subscription_renewed: {
              subscription: {
                user_id: "ann",
                tier: "free",
                price_credits: 0,
                period_start_time: timeOf(5) + 2_592_000_000,
                period_end_time: timeOf(5) + 2 * 2_592_000_000,
                update_time: timeOf(7),
                position: 7,
              },
              charged_credits: 7,
              credits: 93,
            },
          },
        ]),
      ["EVENT user:ann@7: charged_credits=0 credits=100 | charged_credits=7 credits=93"],
    ],
  };
  test.each(Object.entries(bad))("%s", (_, [commit, expected]) => {
    const before = openShop();
    expect(before.told).toEqual([]);
    expect(commit(before).told).toEqual(expected);
  });
});
