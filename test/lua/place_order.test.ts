import { describe, expect, test } from "vitest";
import { badCarts, cartRefusals, givenCart } from "./cart-refusals.ts";
import {
  describeBadArguments,
  describeExpiry,
  describeMutation,
  describeOwnExpiry,
  describeRefusals,
  expectNoChange,
  type GoodCall,
  notPositive,
  type RefusalRow,
} from "./decision-tables.ts";
import {
  cart,
  dueSkus,
  endedFields,
  expectCommit,
  holdJson,
  type LuaShop,
  largest,
  level,
  readEntries,
  threeLines,
  threeLinesJson,
  useShops,
  type Value,
} from "./fixture.ts";
import { holdRefusals } from "./hold-refusals.ts";

const shops = useShops();
const [wallet, external, none, gateway] = [1, 2, 3, 4];
const fromLines: GoodCall = {
  script: "placeOrder",
  given: givenCart,
  args: { order_id: "o1", user_id: "u1", payment_method: wallet },
  tail: cart(["ps5", 2], ["tv", 1, 100], ["ps5", 1]),
};
const fromHold: GoodCall = {
  script: "placeOrder",
  given: async (shop) => {
    await givenCart(shop);
    await shop.user("u2", 1000);
    await shop.commit("holdStock", { hold_id: "h1", user_id: "u1" }, threeLines);
    await shop.commit("holdStock", { hold_id: "guest", hold_ms: 700_000 }, cart(["tv", 1]));
  },
  args: { order_id: "o1", user_id: "u1", payment_method: wallet, hold_id: "h1" },
};

const noUser = (user_id: string, row: Partial<RefusalRow>): RefusalRow => ({
  title: `user "${user_id}"`,
  reason: "USER_NOT_FOUND",
  metadata: { user_id },
  ...row,
});
/** A huge amount the way JavaScript and Lua both round it. */
const digits = (amount: number) => BigInt(amount).toString();
const insufficient = (user_id: string, required: number, balance: number) => ({
  reason: "INSUFFICIENT_FUNDS",
  metadata: { user_id, required_minor: digits(required), balance_minor: String(balance) },
});
const overflow = (amount: number) => ({ reason: "BALANCE_LIMIT", metadata: { amount_minor: digits(amount) } });
const gold = (shop: LuaShop) => shop.product("gold", { count: 1_000_000, priceMinor: largest });

const setStat = (field: string, value: number) => (shop: LuaShop) =>
  shop.redis.hset(shop.keys.stats as string, field, String(value));

/** The refusals of paying, for an order from lines. */
const moneyRefusals: RefusalRow[] = [
  noUser("", { title: "a guest has no wallet", args: { user_id: "" } }),
  noUser("", { title: "a guest has no wallet, for one line", args: { user_id: "" }, tail: cart(["ps5", 1]) }),
  {
    title: "one minor unit is missing",
    given: (shop) => shop.commit("putProduct", { sku: "tv", price_minor: 1_000_001 }),
    tail: cart(["tv", 1]),
    ...insufficient("u1", 1_000_001, 1_000_000),
  },
  {
    title: "before a sum past 2^53-1",
    given: gold,
    tail: cart(["gold", 2]),
    ...insufficient("u1", largest * 2, 1_000_000),
  },
  {
    title: "an amount past 2^63",
    given: gold,
    tail: cart(["gold", 1_000_000]),
    ...insufficient("u1", largest * 1_000_000, 1_000_000),
  },
  {
    title: "an amount past 2^53-1",
    given: gold,
    args: { payment_method: none },
    tail: cart(["gold", 2]),
    ...overflow(largest * 2),
  },
  {
    title: "an amount past 2^63",
    given: gold,
    args: { payment_method: none },
    tail: cart(["gold", 1_000_000]),
    ...overflow(largest * 1_000_000),
  },
  {
    title: "a lifetime's value past 2^53-1",
    given: async (shop) => {
      await gold(shop);
      await shop.user("rich", largest);
      await shop.commit("placeOrder", { order_id: "all", user_id: "rich", payment_method: wallet }, cart(["gold", 1]));
      await shop.commit("depositFunds", { user_id: "rich", amount_minor: 100 });
    },
    args: { user_id: "rich" },
    tail: cart(["tv", 1]),
    ...overflow(100),
  },
  { title: "the shop's revenue past 2^53-1", given: setStat("revenue", largest - 399), ...overflow(400) },
  { title: "the shop's items past 2^53-1", given: setStat("items", largest - 3), ...overflow(400) },
  {
    title: "the shop's items past 2^53-1, for nothing",
    given: setStat("items", largest - 3),
    args: { payment_method: none },
    ...overflow(400),
  },
  { title: "revenue past 2^53-1 with what waits", given: setStat("pending", largest - 399), ...overflow(400) },
  {
    title: "a payment that could not be booked once it is made",
    given: setStat("revenue", largest - 399),
    args: { payment_method: gateway },
    ...overflow(400),
  },
  {
    title: "an amount past 2^53-1 that waits for its payment",
    given: gold,
    args: { payment_method: gateway },
    tail: cart(["gold", 2]),
    ...overflow(largest * 2),
  },
];

/** The paid order `o1` of a cart of three lines, made by the last run. */
const orderJson = (shop: LuaShop, fields: object) => ({
  order_id: "o1",
  user_id: "u1",
  lines: threeLinesJson,
  item_count: 4,
  amount_minor: 400,
  refunded_minor: 0,
  state: 2,
  payment_method: wallet,
  hold_id: "",
  create_time: shop.nowMs,
  update_time: shop.nowMs,
  create_position: 8,
  position: 8,
  ...fields,
});

describe("PlaceOrder from lines", () => {
  describeMutation(shops, fromLines);
  describeBadArguments(
    shops,
    fromLines,
    { order_id: [""], payment_method: ["", "0", "5", "x", "01"], hold_id: ["h1"] },
    [[], ...badCarts],
  );
  describeBadArguments(
    shops,
    { ...fromLines, args: { ...fromLines.args, payment_method: external } },
    { pending_ms: [...notPositive, "86400001"] },
  );
  describeRefusals(shops, fromLines, [
    ...cartRefusals,
    ...moneyRefusals,
    ...holdRefusals.map((row) => ({ ...row, tail: [] })),
  ]);
  describeExpiry(shops, fromLines, { touched: "ps5", refused: { tail: cart(["ps5", 999]), reason: "SOLD_OUT" } });

  const stocks = [level("ps5", [2, 0, 3], 100), level("tv", [4, 0, 1], 100)];
  const levels = { "ps5:available": "2", "ps5:sold": "3", "tv:available": "4", "tv:sold": "1" };
  const stock = { ...levels, "ps5:sales": "1 3 300", "tv:sales": "1 1 100" };
  const freeStock = { ...levels, "ps5:sales": "1 3 0", "tv:sales": "1 1 0" };
  const stats = { orders: "1", items: "4", revenue: "400" };
  const freeStats = { ...stats, revenue: "0" };
  const recent_0 = { "order:o1": "8" };

  test("sells a cart and charges the wallet", async () => {
    const shop = await shops.open();
    await givenCart(shop);
    const observed = await shop.observe("placeOrder", fromLines.args, fromLines.tail);
    const buyer = { balance_minor: 999_600, order_count: 1, lifetime_value_minor: 400 };
    expectCommit(shop, observed, [{ order_placed: { order: orderJson(shop, {}), stocks, ...buyer } }], {
      stock,
      stats,
      recent_0,
      users: { "u1:balance": "999600", "u1:purchases": "1 400" },
    });
  });

  test("sells to a user without charging", async () => {
    const shop = await shops.open();
    await givenCart(shop);
    const observed = await shop.observe("placeOrder", { ...fromLines.args, payment_method: none }, fromLines.tail);
    const placed = {
      order: orderJson(shop, { payment_method: none }),
      stocks,
      order_count: 1,
      lifetime_value_minor: 0,
    };
    expectCommit(shop, observed, [{ order_placed: placed }], {
      stock: freeStock,
      stats: freeStats,
      recent_0,
      users: { "u1:purchases": "1 0" },
    });
  });

  test("sells to a guest without charging", async () => {
    const shop = await shops.open();
    await givenCart(shop);
    const observed = await shop.observe("placeOrder", { order_id: "o1", payment_method: none }, fromLines.tail);
    const placed = { order: orderJson(shop, { payment_method: none, user_id: "" }), stocks };
    expectCommit(shop, observed, [{ order_placed: placed }], {
      stock: freeStock,
      stats: freeStats,
      recent_0,
    });
  });

  test.each([0, 1, 1e14 + 1, largest])("charges %d to the last minor unit", async (amount) => {
    const shop = await shops.open();
    await shop.user("u1", amount);
    await shop.product("gold", { count: 1, priceMinor: amount });
    const { reply, changes } = await shop.observe("placeOrder", fromLines.args, cart(["gold", 1, amount]));
    expect(changes.users).toEqual({ "u1:purchases": `1 ${amount}`, "u1:balance": "0" });
    const [event] = JSON.parse((reply as { payload: string }).payload);
    expect(event.order_placed).toMatchObject({
      order: { amount_minor: amount, lines: [{ price_minor: amount }] },
      balance_minor: 0,
      lifetime_value_minor: amount,
    });
  });

  test.each<[string, Record<string, Value>, Value[]]>([
    ["other lines", {}, cart(["nope", 1])],
    ["another user", { user_id: "nobody" }, cart(["ps5", 1])],
    ["a hold", { hold_id: "nope" }, []],
  ])("answers an order id in use with its order: %s", async (_, args, tail) => {
    const shop = await shops.open();
    await givenCart(shop);
    const at = await shop.commit("placeOrder", fromLines.args, fromLines.tail);
    const { commitId } = shop;
    const reply = await expectNoChange(shop, () => shop.run("placeOrder", { ...fromLines.args, ...args }, tail));
    expect(reply).toMatchObject({ kind: "EXISTS", position: at, at, fields: expect.arrayContaining([commitId]) });
    await shop.forgetLog(at);
    expect(await shop.run("placeOrder", fromLines.args, fromLines.tail)).toMatchObject({
      kind: "EXISTS",
      at,
      fields: undefined,
    });
  });
});

describe("PlaceOrder from a hold", () => {
  describeMutation(shops, fromHold);
  describeOwnExpiry(
    shops,
    { ...fromHold, given: givenCart, args: { ...fromHold.args, user_id: "", payment_method: none } },
    "h1",
    "ps5",
  );
  describeExpiry(shops, fromHold, {
    touched: "ps5",
    refused: { args: { user_id: "nobody" }, reason: "USER_NOT_FOUND" },
  });

  const anothers = { reason: "HOLD_NOT_FOUND", metadata: { hold_id: "h1" } };
  const rows: RefusalRow[] = [
    noUser("nobody", { title: "before anything about the hold", args: { user_id: "nobody", hold_id: "nope" } }),
    noUser("", { title: "a guest's hold has no wallet to pay from", args: { user_id: "", hold_id: "guest" } }),
    { title: "another user's hold", args: { user_id: "u2" }, ...anothers },
    ...holdRefusals,
    {
      title: "the price it was held at",
      given: async (shop) => {
        await shop.commit("putProduct", { sku: "ps5", price_minor: 1 });
        await shop.commit("placeOrder", { order_id: "most", user_id: "u1", payment_method: wallet }, cart(["ps5", 1]));
        await shop.commit("putProduct", { sku: "dear", price_minor: 999_600 });
        await shop.commit("adjustStock", { sku: "dear", delta_count: 1 });
        await shop.commit("placeOrder", { order_id: "rest", user_id: "u1", payment_method: wallet }, cart(["dear", 1]));
      },
      ...insufficient("u1", 400, 399),
    },
  ];
  test.each(rows)("refuses $reason: $title", async ({ given, args, reason, metadata }) => {
    const shop = await shops.open();
    await fromHold.given(shop);
    await given?.(shop);
    const reply = await expectNoChange(shop, () => shop.run("placeOrder", { ...fromHold.args, ...args }));
    expect(reply).toMatchObject({ kind: "REFUSED", reason, metadata, retryMs: undefined, violations: [] });
  });

  test.each(["u1", ""])("sells the whole of it at the price it was held at, when asked by user %j", async (user_id) => {
    const shop = await shops.open();
    await fromHold.given(shop);
    const [createdMs, expireMs] = [shop.nowMs - 1, shop.nowMs - 1 + 600_000];
    await shop.commit("putProduct", { sku: "ps5", price_minor: 7, withdrawn: 1 });
    const observed = await shop.observe("placeOrder", { ...fromHold.args, user_id });
    const times = { create_time: createdMs, expire_time: expireMs, create_position: 10, position: 13 };
    const hold = holdJson({ state: 2, order_id: "o1", ...times });
    const order = orderJson(shop, { hold_id: "h1", create_position: 13, position: 13 });
    const stocks = [level("ps5", [2, 0, 3], 7), level("tv", [3, 1, 1], 100)];
    const buyer = { balance_minor: 999_600, order_count: 1, lifetime_value_minor: 400 };
    expectCommit(shop, observed, [{ hold_committed: { hold } }, { order_placed: { order, stocks, ...buyer } }], {
      stock: {
        "ps5:held": "0",
        "ps5:sold": "3",
        "ps5:sales": "1 3 300",
        "tv:held": "1",
        "tv:sold": "1",
        "tv:sales": "1 1 100",
      },
      stats: { orders: "1", items: "4", revenue: "400" },
      users: { "u1:balance": "999600", "u1:purchases": "1 400" },
      holds: endedFields("h1"),
      due: { h1: null },
      due_skus: dueSkus(expireMs, null),
      recent_0: { "order:o1": "13", "hold:h1": "10 13 COMMITTED" },
    });
  });

  test("sells a guest's hold to the user who brings its id", async () => {
    const shop = await shops.open();
    await fromHold.given(shop);
    const { reply, changes } = await shop.observe("placeOrder", { ...fromHold.args, hold_id: "guest" });
    expect(changes).toMatchObject({ users: { "u1:balance": "999900" }, stock: { "tv:held": "1", "tv:sold": "1" } });
    const [committed, placed] = JSON.parse((reply as { payload: string }).payload);
    expect(committed.hold_committed.hold).toMatchObject({ user_id: "", order_id: "o1" });
    expect(placed.order_placed.order).toMatchObject({ user_id: "u1", hold_id: "guest" });
  });
});

describe("PlaceOrder that waits for its payment", () => {
  const open = async (given: GoodCall) => {
    const shop = await shops.open();
    await given.given(shop);
    return shop;
  };
  const pending_ms = 1000;
  const waits = (shop: LuaShop, fields: object) =>
    orderJson(shop, { state: 1, payment_method: external, expire_time: shop.nowMs + pending_ms, ...fields });

  test.each(["u1", ""])("holds the units of its lines until it is due, for user %j", async (user_id) => {
    const shop = await open(fromLines);
    const args = { ...fromLines.args, user_id, payment_method: external, pending_ms };
    const observed = await shop.observe("placeOrder", args, fromLines.tail);
    const [createdMs, expireMs] = [shop.nowMs, shop.nowMs + pending_ms];
    const stocks = [level("ps5", [2, 3, 0], 100), level("tv", [4, 1, 0], 100)];
    const buyer = user_id === "" ? {} : { order_count: 1, lifetime_value_minor: 0 };
    expectCommit(shop, observed, [{ order_placed: { order: waits(shop, { user_id }), stocks, ...buyer } }], {
      stock: { "ps5:available": "2", "ps5:held": "3", "tv:available": "4", "tv:held": "1" },
      ...(user_id === "" ? {} : { users: { "u1:purchases": "1 0" } }),
      stats: { pending: "400" },
      orders: {
        "o1:user": user_id,
        "o1:expire": String(expireMs),
        "o1:created": `8 ${createdMs}`,
        "o1:lines": "ps5 2 100,tv 1 100,ps5 1 100",
        "o1:terms": "2 ",
      },
      due: { "order/o1": String(expireMs) },
      due_skus: { [`ps5:000${expireMs}:order/o1`]: "0", [`tv:000${expireMs}:order/o1`]: "0" },
      recent_0: { "order:o1": "8" },
    });
  });

  test("keeps the units of a hold held, at the hold's prices", async () => {
    const shop = await open(fromHold);
    await shop.commit("putProduct", { sku: "ps5", price_minor: 7 });
    const { due } = await shop.dump();
    const args = { ...fromHold.args, payment_method: external, pending_ms };
    const observed = await shop.observe("placeOrder", args);
    const [createdMs, expireMs] = [shop.nowMs, shop.nowMs + pending_ms];
    const heldUntil = Number(due?.h1);
    const times = { create_time: heldUntil - 600_000, expire_time: heldUntil, create_position: 10, position: 13 };
    const hold = holdJson({ state: 2, order_id: "o1", ...times });
    const order = waits(shop, { hold_id: "h1", create_position: 13, position: 13 });
    const stocks = [level("ps5", [2, 3, 0], 7), level("tv", [3, 2, 0], 100)];
    const buyer = { order_count: 1, lifetime_value_minor: 0 };
    expectCommit(shop, observed, [{ hold_committed: { hold } }, { order_placed: { order, stocks, ...buyer } }], {
      users: { "u1:purchases": "1 0" },
      stats: { pending: "400" },
      holds: endedFields("h1"),
      orders: {
        "o1:user": "u1",
        "o1:expire": String(expireMs),
        "o1:created": `13 ${createdMs}`,
        "o1:lines": "ps5 2 100,tv 1 100,ps5 1 100",
        "o1:terms": "2 h1",
      },
      due: { h1: null, "order/o1": String(expireMs) },
      due_skus: {
        ...dueSkus(heldUntil, null),
        [`ps5:000${expireMs}:order/o1`]: "0",
        [`tv:000${expireMs}:order/o1`]: "0",
      },
      recent_0: { "order:o1": "13", "hold:h1": "10 13 COMMITTED" },
    });
  });

  test("is never due where the payment worker asks the gateway", async () => {
    const shop = await open(fromLines);
    const args = { ...fromLines.args, payment_method: gateway };
    const { reply, changes } = await shop.observe("placeOrder", args, fromLines.tail);
    const [event] = JSON.parse((reply as { payload: string }).payload);
    expect(event.order_placed.order).toEqual(orderJson(shop, { state: 1, payment_method: gateway }));
    expect(changes).toMatchObject({ orders: { "o1:expire": "", "o1:terms": "4 " }, stock: { "ps5:held": "3" } });
    expect(changes).not.toHaveProperty("due");
    expect(changes).not.toHaveProperty("due_skus");
    expect(changes.stats).toEqual({ pending: "400" });
  });

  test("is cancelled when it is due, before its units are sold to the next", async () => {
    const shop = await open(fromLines);
    const args = { ...fromLines.args, payment_method: external, pending_ms };
    const at = await shop.commit("placeOrder", args, cart(["ps5", 5]));
    const dueMs = shop.nowMs + pending_ms;
    const next = { order_id: "o2", clock_ms: dueMs - 1 };
    expect(await shop.run("placeOrder", next, cart(["ps5", 5]))).toMatchObject({ reason: "HELD_OUT", retryMs: 1000 });
    await shop.commit("placeOrder", { ...next, clock_ms: dueMs }, cart(["ps5", 5]));
    const [, expiry, order] = await readEntries(shop, at);
    expect(expiry?.events).toMatchObject([
      { order_cancelled: { order: { order_id: "o1", state: 4, cancel_reason: "EXPIRED" } } },
    ]);
    expect(order?.events).toMatchObject([{ order_placed: { order: { order_id: "o2" } } }]);
  });

  test("counts towards a limit, and refuses more", async () => {
    const shop = await shops.open();
    await shop.user("u1");
    await shop.product("few", { count: 10, maxPerUser: 2 });
    const order = { user_id: "u1", payment_method: external };
    await shop.commit("placeOrder", { ...order, order_id: "o1" }, cart(["few", 2]));
    expect((await shop.dump()).limits).toEqual({ "u1:few": "2" });
    const more = await shop.run("placeOrder", { ...order, order_id: "o2" }, cart(["few", 1]));
    expect(more).toMatchObject({ reason: "PER_USER_LIMIT", metadata: { had_count: "2" } });
  });

  test("adds to what was sold before", async () => {
    const shop = await open(fromLines);
    for (const order_id of ["o1", "o2"]) {
      await shop.commit("placeOrder", { ...fromLines.args, order_id }, cart(["ps5", 2], ["tv", 1]));
    }
    const { stock, stats } = await shop.dump();
    expect(stock).toMatchObject({ "ps5:sales": "2 4 400", "tv:sales": "2 2 200" });
    expect(stats).toMatchObject({ orders: "2", items: "6", revenue: "600" });
  });
});

describe("A per-user limit", () => {
  const open = async () => {
    const shop = await shops.open();
    await shop.user("u1");
    await shop.product("few", { count: 10, maxPerUser: 4 });
    return shop;
  };
  const had = async (shop: LuaShop) => (await shop.dump()).limits ?? {};
  const hold = (shop: LuaShop, hold_id: string, quantity: number) =>
    shop.hold(hold_id, "few", quantity, { user_id: "u1" });

  test("counts a unit once, from its hold to its order", async () => {
    const shop = await open();
    await hold(shop, "h1", 2);
    expect(await had(shop)).toEqual({ "u1:few": "2" });
    await shop.commit("placeOrder", { order_id: "o1", hold_id: "h1" });
    expect(await had(shop)).toEqual({ "u1:few": "2" });
    await shop.commit("placeOrder", { order_id: "o2", user_id: "u1" }, cart(["few", 1], ["few", 1]));
    expect(await had(shop)).toEqual({ "u1:few": "4" });
    expect(await shop.run("holdStock", { hold_id: "h2", user_id: "u1" }, cart(["few", 1]))).toMatchObject({
      reason: "PER_USER_LIMIT",
    });
  });

  test("counts a released and an expired unit no more", async () => {
    const shop = await open();
    await hold(shop, "h1", 1);
    await hold(shop, "h2", 3);
    await shop.commit("releaseHold", { hold_id: "h1" });
    expect(await had(shop)).toEqual({ "u1:few": "3" });
    await shop.commit("holdStock", { hold_id: "h3", user_id: "u1", clock_ms: shop.nowMs + 600_000 }, cart(["few", 4]));
    expect(await had(shop)).toEqual({ "u1:few": "4" });
    await shop.commit("releaseHold", { hold_id: "h3" });
    expect(await had(shop)).toEqual({});
  });

  test("counts a guest's units for whoever buys them", async () => {
    const shop = await open();
    await shop.commit("putProduct", { sku: "few", max_per_user: 0 });
    await shop.hold("guest", "few", 2);
    await shop.commit("putProduct", { sku: "few", max_per_user: 4 });
    expect(await had(shop)).toEqual({});
    await shop.commit("placeOrder", { order_id: "o1", user_id: "u1", hold_id: "guest" });
    expect(await had(shop)).toEqual({ "u1:few": "2" });
  });
});
