import type { RefusalRow, Violation } from "./decision-tables.ts";
import { cart, type LuaShop, startMs, type Value } from "./fixture.ts";

/** What a good cart call has: a user, and two products that cost 100. */
export async function givenCart(shop: LuaShop): Promise<void> {
  await shop.user("u1", 1_000_000);
  await shop.product("ps5", { count: 5 });
  await shop.product("tv", { count: 5 });
}

const found = (reason: string, metadata: Record<string, string>): Violation => ({ reason, metadata });

/** A refusal of one SKU, which is also its only violation. */
const single = (title: string, violation: Violation, row: Omit<RefusalRow, "title" | keyof Violation>): RefusalRow => ({
  title,
  ...violation,
  violations: [violation],
  ...row,
});

const missing = (sku: string) => found("PRODUCT_NOT_FOUND", { sku });

const tooFew = (reason: string, requested: number, available: number, held: number, sku = "ps5") =>
  found(reason, {
    sku,
    requested_count: String(requested),
    available_count: String(available),
    held_count: String(held),
  });

const overLimit = (had: number, requested: number) =>
  found("PER_USER_LIMIT", { sku: "few", limit: "2", had_count: String(had), requested_count: String(requested) });

const limited = (shop: LuaShop) => shop.product("few", { count: 5, maxPerUser: 2 });
const put = (args: Record<string, Value>) => (shop: LuaShop) => shop.commit("putProduct", { sku: "ps5", ...args });
const heldAt = startMs + 1000;

const unknown: RefusalRow[] = [
  {
    title: "two of three SKUs",
    tail: cart(["nope", 1], ["ps5", 1], ["nada", 1]),
    ...missing("nope"),
    violations: [missing("nope"), missing("nada")],
  },
  single("before an unknown user", missing("nope"), { args: { user_id: "nobody" }, tail: cart(["nope", 1]) }),
  { title: "no such user", args: { user_id: "nobody" }, reason: "USER_NOT_FOUND", metadata: { user_id: "nobody" } },
  {
    title: "no such user, for one line",
    args: { user_id: "nobody" },
    tail: cart(["ps5", 1]),
    reason: "USER_NOT_FOUND",
    metadata: { user_id: "nobody" },
  },
  {
    title: "a guest who wants what is limited, before the limit",
    given: limited,
    args: { user_id: "" },
    tail: cart(["ps5", 1], ["few", 3]),
    reason: "USER_NOT_FOUND",
    metadata: { user_id: "", sku: "few" },
  },
  {
    title: "no such user, before what is withdrawn",
    given: put({ withdrawn: 1 }),
    args: { user_id: "nobody" },
    reason: "USER_NOT_FOUND",
    metadata: { user_id: "nobody" },
  },
];

const notOnSale = (name: string, value: Value) => found("NOT_ON_SALE", { sku: "ps5", [name]: String(value) });
const closed: RefusalRow[] = [
  single("withdrawn", notOnSale("withdrawn", "true"), { given: put({ withdrawn: 1 }) }),
  single("a millisecond before the sale", notOnSale("sale_start_ms", heldAt + 1), {
    given: put({ sale_start_ms: heldAt + 1 }),
    args: { clock_ms: heldAt },
    retryMs: 1,
  }),
  single("at the millisecond the sale ends", notOnSale("sale_end_ms", heldAt), {
    given: put({ sale_end_ms: heldAt }),
    args: { clock_ms: heldAt },
  }),
  single(
    "one line of a SKU expects another price",
    found("PRICE_CHANGED", { sku: "ps5", expected_minor: "99", price_minor: "100" }),
    { tail: cart(["ps5", 1, 100], ["tv", 1], ["ps5", 1, 99]) },
  ),
  single(
    "the only line expects another price",
    found("PRICE_CHANGED", { sku: "ps5", expected_minor: "101", price_minor: "100" }),
    { tail: cart(["ps5", 1, 101]) },
  ),
];

const limits: RefusalRow[] = [
  single("two lines of one SKU together", overLimit(0, 3), {
    given: limited,
    tail: cart(["few", 2], ["tv", 1], ["few", 1]),
  }),
  single("with what is held", overLimit(1, 2), {
    given: (shop) => limited(shop).then(() => shop.hold("mine", "few", 1, { user_id: "u1" })),
    tail: cart(["few", 2]),
  }),
  single("with what was sold", overLimit(2, 1), {
    given: (shop) =>
      limited(shop).then(() => shop.commit("placeOrder", { order_id: "mine", user_id: "u1" }, cart(["few", 2]))),
    tail: cart(["few", 1]),
  }),
];

const heldOut = (title: string, holdMs: number, clock_ms: number, retryMs: number): RefusalRow =>
  single(title, tooFew("HELD_OUT", 4, 3, 2), {
    given: (shop) => shop.hold("theirs", "ps5", 2, { clock_ms: heldAt, hold_ms: holdMs }),
    args: { clock_ms },
    tail: cart(["ps5", 4]),
    retryMs,
  });

const levels: RefusalRow[] = [
  single("two lines of one SKU together", tooFew("SOLD_OUT", 6, 5, 0), {
    tail: cart(["ps5", 3], ["tv", 1], ["ps5", 3]),
  }),
  single("the largest cart", tooFew("SOLD_OUT", 100_000_000, 5, 0), {
    tail: cart(...Array.from({ length: 100 }, () => ["ps5", 1_000_000] as const)),
  }),
  single("more than available and held", tooFew("SOLD_OUT", 6, 3, 2), {
    given: (shop) => shop.hold("theirs", "ps5", 2),
    tail: cart(["ps5", 6]),
  }),
  heldOut("for the time until the hold is due", 30_000, heldAt, 30_000),
  heldOut("for a second at least", 30_000, heldAt + 29_999, 1000),
  heldOut("for a minute at most", 600_000, heldAt, 60_000),
];

/** One failing SKU per reason that a cart can have, in order of precedence, and the cart line that fails. */
const failing: readonly (readonly [violation: Violation, line: readonly [string, number, number?]])[] = [
  [missing("nope"), ["nope", 1]],
  [found("NOT_ON_SALE", { sku: "closed", withdrawn: "true" }), ["closed", 9, 99]],
  [found("PRICE_CHANGED", { sku: "dear", expected_minor: "99", price_minor: "100" }), ["dear", 9, 99]],
  [overLimit(0, 9), ["few", 9]],
  [tooFew("SOLD_OUT", 9, 1, 0, "gone"), ["gone", 9]],
  [tooFew("HELD_OUT", 2, 1, 1, "held"), ["held", 2]],
];

async function givenFailing(shop: LuaShop): Promise<void> {
  await limited(shop);
  await shop.product("dear", { count: 1 });
  await shop.product("gone", { count: 1 });
  await shop.product("held", { count: 2 });
  await shop.hold("theirs", "held");
  await shop.product("closed", { count: 1 });
  await shop.commit("putProduct", { sku: "closed", withdrawn: 1 });
}

/** Every pair of failing SKUs, the lesser reason on the first line: the earlier reason wins, both SKUs are named. */
const precedence: RefusalRow[] = failing.flatMap(([lesser, lesserLine], index) =>
  failing.slice(0, index).map(([greater, greaterLine]) => ({
    title: `before ${lesser.reason} on an earlier line`,
    given: givenFailing,
    tail: cart(lesserLine, greaterLine),
    ...greater,
    violations: [lesser, greater],
  })),
);

/** The decision table of `check_cart`, for a call with the user `u1` and the cart in its tail, on top of `givenCart`. */
export const cartRefusals: readonly RefusalRow[] = [...unknown, ...closed, ...limits, ...levels, ...precedence];

/** Rests of ARGV that are no cart. */
export const badCarts: readonly (readonly Value[])[] = [
  ["ps5"],
  ["ps5", 1],
  ["ps5", 1, "", "tv"],
  cart(["", 1]),
  cart(["ps5", 1], ["tv", 0]),
  ...["", "x", "-1", "1.5", "1e3", "1000001", "9007199254740992"].map((quantity) => cart(["ps5", quantity])),
  ...["x", "-1", "1.5", "1e15", "9007199254740992"].map((price) => cart(["ps5", 1, price])),
  cart(...Array.from({ length: 101 }, () => ["ps5", 1] as const)),
];
