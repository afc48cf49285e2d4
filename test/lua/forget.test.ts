import { describe, expect, test } from "vitest";
import { describeBadArguments, expectNoChange, type GoodCall, notCounts } from "./decision-tables.ts";
import { changesBetween } from "./dump.ts";
import { cart, codeOf, type LuaShop, lookArguments, useShops, type Value } from "./fixture.ts";

const shops = useShops();

const withoutQuote = {
  proration: 1,
  timing: 1,
  quote_position: "",
  quote_price: "",
  quote_charged: "",
  quote_credited: "",
  quote_expire_ms: "",
};

/** A shop with two of each kind of thing, and both halves of the memory, sealed. */
async function fill(shop: LuaShop): Promise<void> {
  await shop.product("a", { count: 50, maxPerUser: 9 });
  await shop.product("b", { count: 50 });
  for (const user_id of ["u1", "u2"]) {
    await shop.commit("createUser", { user_id, email_key: `${user_id}@example.com` });
    await shop.commit("grantCredits", { user_id, granted_credits: 9000 });
    await shop.commit("depositFunds", { user_id, amount_minor: 100 });
  }
  await shop.commit("putTier", {
    tier: "free",
    price_credits: 0,
    max_projects: 1,
    max_storage_mb: 1,
    max_api_calls: 1,
  });
  await shop.commit("putTier", { tier: "pro", price_credits: 9, max_projects: 1, max_storage_mb: 1, max_api_calls: 1 });
  await shop.commit("changeTier", { user_id: "u1", tier: "pro", ...withoutQuote });
  for (const id of ["1", "2"]) {
    await shop.commit("holdStock", { hold_id: `h${id}`, user_id: `u${id}` }, cart(["a", 1], ["b", 2], ["a", 1]));
    await shop.commit("placeOrder", { order_id: `o${id}`, user_id: `u${id}`, payment_method: 2 }, cart(["a", 1]));
  }
  await shop.commit("placeOrder", { order_id: "o3", payment_method: 4 }, cart(["b", 1]));
  await shop.commit("holdStock", { hold_id: "h3" }, cart(["b", 1]));
  await shop.commit("releaseHold", { hold_id: "h3" });
  await shop.redis.hset(shop.keys.recent_1 as string, { "request:old": 1, "order:o1": 1, "hold:h3": "1 1 EXPIRED" });
  await shop.raw("look", { ...lookArguments, force: 1 });
}

const call: GoodCall = {
  script: "forget",
  given: fill,
  args: { token: "token", step_number: 0, kind: "skus" },
  tail: ["a"],
};

const forget = (shop: LuaShop, kind: string, ids: readonly Value[], step_number: Value = 0, token = "token") =>
  shop.raw("forget", { token, step_number, kind }, ids);

/** What a step leaves of the fields and members that name something. */
async function changesOf(shop: LuaShop, kind: string, ids: readonly Value[]): Promise<Record<string, object>> {
  const before = await shop.dump();
  expect(await forget(shop, kind, ids)).toBe(1);
  const { meta, ...changes } = changesBetween(before, await shop.dump()) as Record<string, object>;
  expect(meta).toEqual({ loaded: "1" });
  return changes;
}

const gone = (...fields: string[]) => Object.fromEntries(fields.map((field) => [field, null]));
const ofThing = (id: string, ...endings: string[]) => gone(...endings.map((ending) => `${id}:${ending}`));

describe("Forget", () => {
  describeBadArguments(shops, call, { step_number: notCounts, kind: ["", "meta", "log"] });

  async function open(): Promise<LuaShop> {
    const shop = await shops.open();
    await fill(shop);
    return shop;
  }

  test("takes out products", async () => {
    const shop = await open();
    await shop.redis.hset(shop.keys.stock as string, { "a:loading": "id", "a:sales": "1 1 1" });
    const endings = ["available", "held", "sold", "price", "terms", "created", "sales", "loading"];
    expect(await changesOf(shop, "skus", ["a", "none"])).toEqual({ stock: ofThing("a", ...endings) });
  });

  test("takes out open holds, with when they are due, and the record of ended ones", async () => {
    const shop = await open();
    const expire = await shop.redis.hget(shop.keys.holds as string, "h1:expire");
    const due = (sku: string) => `${sku}:${expire?.padStart(16, "0")}:h1`;
    expect(await changesOf(shop, "holds", ["h1", "h3", "none"])).toEqual({
      holds: ofThing("h1", "user", "expire", "created", "lines"),
      due: gone("h1"),
      due_skus: gone(due("a"), due("b")),
      recent_0: gone("hold:h3"),
      recent_1: gone("hold:h3"),
    });
  });

  test("takes out orders that wait, with when they are due, and the record of all", async () => {
    const shop = await open();
    const expire = await shop.redis.hget(shop.keys.orders as string, "o1:expire");
    const endings = ["user", "expire", "created", "lines", "terms"];
    expect(await changesOf(shop, "orders", ["o1", "o3", "none"])).toEqual({
      orders: { ...ofThing("o1", ...endings), ...ofThing("o3", ...endings) },
      due: gone("order/o1"),
      due_skus: gone(`a:${expire?.padStart(16, "0")}:order/o1`),
      recent_0: gone("order:o1", "order:o3"),
      recent_1: gone("order:o1"),
    });
  });

  const userEndings = ["balance", "credits", "purchases", "profile", "email"];

  test("takes out users, with what points to them and one less of their tier", async () => {
    const shop = await open();
    expect(await changesOf(shop, "users", ["u1", "none"])).toEqual({
      users: ofThing("u1", ...userEndings, "sub"),
      emails: gone("u1@example.com"),
      codes: gone(codeOf("u1")),
      renewals: gone("u1"),
      stats: { "tier:pro": "0" },
    });
    await shop.setMeta({ loaded: 0 });
    expect(await changesOf(shop, "users", ["u2"])).toMatchObject({ stats: { "tier:free": "0" } });
  });

  test("leaves an address and a code that are another user's by now", async () => {
    const shop = await open();
    await shop.redis.hset(shop.keys.emails as string, "u2@example.com", "u1");
    await shop.redis.hset(shop.keys.codes as string, codeOf("u2"), "u1");
    expect(await changesOf(shop, "users", ["u2"])).toEqual({
      users: ofThing("u2", ...userEndings),
      stats: { "tier:free": "0" },
    });
  });

  test("takes out tiers, counts of a user's units, and request ids of both halves", async () => {
    const shop = await open();
    expect(await changesOf(shop, "tiers", ["pro", "none"])).toEqual({ tiers: gone("pro:terms") });
    await shop.setMeta({ loaded: 0 });
    expect(await changesOf(shop, "limits", ["u1:a", "u9:a"])).toEqual({ limits: gone("u1:a") });
    await shop.setMeta({ loaded: 0 });
    await shop.redis.hset(shop.keys.recent_0 as string, "request:new", 2);
    expect(await changesOf(shop, "requests", ["old", "new", "none"])).toEqual({
      recent_0: gone("request:new"),
      recent_1: gone("request:old"),
    });
  });

  test("takes out the log", async () => {
    const shop = await open();
    const entries = Object.keys((await shop.dump()).log ?? {});
    expect(await changesOf(shop, "log", [])).toEqual({ log: gone(...entries) });
  });

  test.each<[string, Value, string]>([
    ["under another token", 0, "theirs"],
    ["before its turn", 1, "token"],
  ])("takes nothing out in a step that comes %s", async (_, stepNumber, token) => {
    const shop = await open();
    const kinds = { skus: "a", holds: "h1", orders: "o1", users: "u1", tiers: "pro", limits: "u1:a", requests: "old" };
    for (const [kind, id] of Object.entries(kinds)) {
      expect(await expectNoChange(shop, () => forget(shop, kind, [id], stepNumber, token)), kind).toBe(0);
    }
    expect(await expectNoChange(shop, () => forget(shop, "log", [], stepNumber, token))).toBe(0);
    expect(await forget(shop, "skus", ["a"])).toBe(1);
    expect(await expectNoChange(shop, () => forget(shop, "skus", ["b"])), "again").toBe(0);
  });
});
