import { describe, expect, test } from "vitest";
import { describeBadArguments, expectNoChange, type GoodCall, notCounts } from "./decision-tables.ts";
import { changesBetween } from "./dump.ts";
import { birthFields, birthId, cart, type LuaShop, lookArguments, startMs, useShops, type Value } from "./fixture.ts";

const shops = useShops();
/** A shop with something under every key, sealed for a rebuild. */
const call: GoodCall = {
  script: "load",
  given: async (shop) => {
    await shop.commit("createUser", { user_id: "u1", email_key: "u1@example.com" });
    await shop.product("few", { count: 5, maxPerUser: 3 });
    await shop.commit("holdStock", { hold_id: "h1", user_id: "u1" }, cart(["few", 2]));
    await shop.redis.hset(shop.keys.recent_1 as string, "request:old", 1);
    await shop.raw("look", { ...lookArguments, force: 1 });
  },
  args: { token: "token", step_number: 0, rest_ms: -1, step: "clear" },
  tail: [1],
};
const load = (shop: LuaShop, step_number: Value, step: string, values: readonly Value[], token = "token") =>
  shop.raw("load", { token, step_number, rest_ms: -1, step }, values);

async function changesOf(shop: LuaShop, run: () => Promise<unknown>): Promise<object> {
  const before = await shop.dump();
  expect(await run()).toBe(1);
  return changesBetween(before, await shop.dump());
}

describe("Load", () => {
  describeBadArguments(shops, call, {
    step_number: notCounts,
    rest_ms: ["", "x", "-2", "1.5"],
    step: ["", "log2", "meta"],
  });

  test.each([
    ["log", 1],
    ["no log", 0],
  ])("clears a shop first, and keeps %s", async (_, keep) => {
    const shop = await shops.open();
    await call.given(shop);
    const before = await shop.dump();
    // Whatever the shop's calls left behind, and something in every other key.
    const { meta: _meta, log: _log, ...state } = shop.keys;
    for (const key of Object.values(state)) {
      if ((await shop.redis.exists(key)) === 0) {
        await shop.redis.hset(key, { left: "over" });
      }
    }
    expect(Object.keys(await shop.dump()).sort()).toEqual(Object.keys(shop.keys).sort());
    expect(await load(shop, 0, "clear", [keep])).toBe(1);
    const meta = { ...before.meta, loaded: "1" };
    expect(await shop.dump()).toEqual(keep === 1 ? { log: before.log, meta } : { meta });
  });

  const steps: [string, Value[], object][] = [
    ["stock", ["ps5:available", 1, "ps5:held", 2], { stock: { "ps5:available": "1", "ps5:held": "2" } }],
    ["stock", ["ps5:available\u001f1\u001fps5:held\u001f2"], { stock: { "ps5:available": "1", "ps5:held": "2" } }],
    ["holds", ["h1:user", ""], { holds: { "h1:user": "" } }],
    ["users", ["u1:balance", 1], { users: { "u1:balance": "1" } }],
    ["emails", ["a@example.com", "u1"], { emails: { "a@example.com": "u1" } }],
    ["limits", ["u1:ps5", 1], { limits: { "u1:ps5": "1" } }],
    ["orders", ["o1:user", "u1"], { orders: { "o1:user": "u1" } }],
    ["codes", ["c1", "u1"], { codes: { c1: "u1" } }],
    ["tiers", ["pro:terms", "2900 1 1 1"], { tiers: { "pro:terms": "2900 1 1 1" } }],
    ["stats", ["orders", 1], { stats: { orders: "1" } }],
    ["renewals", [startMs, "u1"], { renewals: { u1: String(startMs) } }],
    [
      "recent",
      ["request:r1", 1, "hold:h1", "1 2 EXPIRED"],
      { recent_0: { "request:r1": "1", "hold:h1": "1 2 EXPIRED" } },
    ],
    ["count", ["tier:free", 2, "tier:pro", -1], { stats: { "tier:free": "2", "tier:pro": "-1" } }],
    ["due", [startMs, "h1", 5, "h2"], { due: { h1: String(startMs), h2: "5" } }],
    ["due_skus", [0, "ps5:1:h1"], { due_skus: { "ps5:1:h1": "0" } }],
    [
      "log",
      [1, 4, "v", "1", "commit", "a", 2, 2, "v", "1"],
      { log: { "1-0": ["v", "1", "commit", "a"], "2-0": ["v", "1"] } },
    ],
  ];
  test.each(steps)("writes %s, and nothing else", async (step, values, expected) => {
    const shop = await shops.open();
    await call.given(shop);
    await load(shop, 0, "clear", [0]);
    expect(await changesOf(shop, () => load(shop, 1, step, values))).toEqual({ ...expected, meta: { loaded: "2" } });
  });

  test("ends with the head: where the shop stands, and an empty older half of the memory", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.setMeta({ bucket: 1, turn_time: 5, turn_position: 5 });
    await load(shop, 0, "clear", [0]);
    const head = ["head", [9, birthId, startMs + 1, startMs]] as const;
    await changesOf(shop, () => load(shop, 1, ...head));
    expect((await shop.dump()).meta).toEqual({
      token: "token",
      next_epoch: "3",
      loaded: "all, layout 4",
      position: "9",
      commit_id: birthId,
      time: String(startMs + 1),
      forgotten: String(startMs),
      forgotten_position: "9",
      flushed: "9",
      bucket: "0",
      turn_time: "0",
      turn_position: "0",
    });
    expect(await expectNoChange(shop, () => load(shop, 2, ...head))).toBe(0);
  });

  test("adds counts to what is there", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await load(shop, 0, "count", ["tier:free", 2, "tier:pro", 1]);
    expect((await shop.dump()).stats).toEqual({ users: "1", "tier:free": "3", "tier:pro": "1" });
  });

  test("remembers ids in the half of the memory that is in use, and begins with the first when it is cleared", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.setMeta({ bucket: 1 });
    const recent = ["recent", ["request:new", 7]] as const;
    expect(await changesOf(shop, () => load(shop, 0, ...recent))).toEqual({
      recent_1: { "request:new": "7" },
      meta: { loaded: "1" },
    });
    await load(shop, 1, "clear", [0]);
    expect(await changesOf(shop, () => load(shop, 2, ...recent))).toEqual({
      recent_0: { "request:new": "7" },
      meta: { loaded: "3" },
    });
    expect((await shop.dump()).meta).toMatchObject({ bucket: "0" });
  });

  test("ends with catching up: where the shop stands, with the memory as it is", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const memory = { bucket: 1, forgotten: startMs - 5, forgotten_position: 2, turn_time: startMs, turn_position: 3 };
    await shop.setMeta({ ...memory, flushed: 4 });
    const stands = {
      position: "9",
      commit_id: birthId,
      time: String(startMs + 99),
      flushed: "9",
      loaded: "all, layout 4",
    };
    expect(await changesOf(shop, () => load(shop, 0, "catch_up", [9, birthId, startMs + 99]))).toEqual({
      meta: stands,
    });
    expect(await expectNoChange(shop, () => load(shop, 1, "catch_up", [9, birthId, startMs]))).toBe(0);
  });

  test("does not catch up with a memory that is ahead: what only commits told that are gone", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const later = startMs + 1_000_000;
    await shop.setMeta({ forgotten: later, forgotten_position: 100, turn_time: later, turn_position: 100 });
    await load(shop, 0, "catch_up", [9, birthId, startMs + 1]);
    const time = String(startMs + 1);
    const least = { forgotten: time, forgotten_position: "9", turn_time: time, turn_position: "9" };
    expect((await shop.dump()).meta).toMatchObject(least);
  });

  test("notes when the shop will be ready, until a rebuild ends or another one begins", async () => {
    const shop = await shops.open();
    const rest = async () => ((await shop.raw("peek")) as number[])[6] as number;
    expect(await rest()).toBe(-1);
    await call.given(shop);
    await load(shop, 0, "clear", [0]);
    expect(await rest(), "nobody said").toBe(-1);
    const args = { token: "token", step_number: 1, rest_ms: 50_000, step: "stats" };
    expect(await shop.raw("load", args, ["orders", 1])).toBe(1);
    expect(await rest()).toBeGreaterThan(40_000);
    expect(await rest()).toBeLessThanOrEqual(50_000);
    expect(await shop.raw("load", { ...args, step_number: 2, rest_ms: 0 }, ["orders", 1])).toBe(1);
    expect(await rest(), "it takes longer than was thought").toBe(0);
    await load(shop, 3, "head", [9, birthId, startMs, startMs]);
    expect(await shop.raw("finish", { token: "token", next_epoch: 3 })).toBe(1);
    expect(await rest()).toBe(-1);
    const look = () => shop.raw("look", { ...lookArguments, force: 1 });
    await look();
    await load(shop, 0, "clear", [0]);
    await shop.raw("load", args, ["orders", 1]);
    expect(await rest()).toBeGreaterThan(40_000);
    await look();
    expect(await rest(), "another rebuild begins").toBe(-1);
  });

  test.each<[string, Value, string]>([
    ["under another token", 1, "theirs"],
    ["again", 0, "token"],
    ["before its turn", 2, "token"],
  ])("writes nothing in a step that comes %s", async (_, step_number, token) => {
    const shop = await shops.open();
    await call.given(shop);
    await load(shop, 0, "clear", [0]);
    for (const [step, values] of [...steps, ["clear", [0]], ["head", [9, birthId, 0, 0]]] as const) {
      expect(await expectNoChange(shop, () => load(shop, step_number, step, values, token)), step).toBe(0);
    }
  });

  test("writes nothing in a shop that is open, or not there", async () => {
    const shop = await shops.open();
    expect(await expectNoChange(shop, () => load(shop, 0, "clear", [0]))).toBe(0);
    await shop.redis.flushall();
    expect(await expectNoChange(shop, () => load(shop, 0, "clear", [0]))).toBe(0);
  });

  test.each<[string, Value[]]>([
    ["clear", []],
    ["clear", ["2"]],
    ["stock", []],
    ["stock", ["ps5:available"]],
    ["due", ["x", "h1"]],
    ["due", [1]],
    ["log", [1]],
    ["log", ["x", 2, "v", "1"]],
    ["log", [1, 2, "v", "1", 2, 4, "v", "1"]],
    ["log", [1, 2, "v", "1", 2, "x", "v", "1"]],
    ["log", [1, 2, "v", "1", 1, 2, "v", "1"]],
    ["head", [1, birthId, 0]],
    ["head", [0, birthId, 0, 0]],
    ["head", [1, "x", 0, 0]],
    ["head", [1, birthId, "x", 0]],
    ["head", [1, birthId, 0, "x"]],
    ["catch_up", [1, birthId]],
    ["catch_up", [0, birthId, 0]],
    ["catch_up", [1, "x", 0]],
    ["count", ["tier:free"]],
  ])("does not count %s with the values %j as a step", async (step, values) => {
    const shop = await shops.open();
    await call.given(shop);
    const first = step === "clear" ? 0 : 1;
    if (first === 1) {
      await load(shop, 0, "clear", [0]);
    }
    await expect(load(shop, first, step, values)).rejects.toThrow();
    expect((await shop.dump()).meta).toMatchObject({ loaded: String(first) });
    expect(await load(shop, first, "clear", [0])).toBe(1);
  });

  test("makes a shop that scripts accept", async () => {
    const shop = await shops.open();
    expect((await shop.dump()).log).toEqual({ "1-0": birthFields });
    await shop.user("u1");
    expect((await shop.dump()).meta).toMatchObject({ position: "2", epoch: "2", bucket: "0" });
  });
});
