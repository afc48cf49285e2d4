import { describe, expect, test } from "vitest";
import { dueMs, expectNoChange, holdUntilDue } from "./decision-tables.ts";
import type { Changes } from "./dump.ts";
import { type Arguments, cart, type LuaShop, startMs, useShops } from "./fixture.ts";

const shops = useShops();
const tenMinutesMs = 600_000;
const firstTurnMs = startMs + 1_000_000;

/** A shop whose memory holds one request, `r1`. */
async function open(): Promise<LuaShop> {
  const shop = await shops.open();
  await shop.user("u1");
  return shop;
}

/** Makes the shop's next commit have a position. */
function jumpBefore(shop: LuaShop, position: number): Promise<number> {
  return shop.setMeta({ position: position - 1 });
}

/** Commits a deposit at a position and tells what it changed. A memory of one field wants to turn whenever it may. */
async function commitAt(shop: LuaShop, position: number, clock_ms: number, args: Arguments = {}): Promise<Changes> {
  await jumpBefore(shop, position);
  const deposit = { user_id: "u1", amount_minor: 1, memory_count: 1, clock_ms, looked_up: 1, ...args };
  return (await shop.observe("depositFunds", deposit)).changes;
}

function turns(changes: Changes): boolean {
  return changes.meta?.bucket !== undefined;
}

const deposit = (shop: LuaShop, args: Arguments) =>
  shop.run("depositFunds", { user_id: "u1", amount_minor: 1, ...args });

describe("The recent memory", () => {
  test.each([
    [50, 1, false],
    [99, 1, false],
    [100, 1, true],
    [100, 2, true],
    [100, 3, false],
    [101, 1, false],
    [300, 2, true],
  ])(
    "is looked at in every hundredth commit: position %d, full at %d fields, turns: %j",
    async (position, memory_count, expected) => {
      const shop = await open();
      const changes = await commitAt(shop, position, firstTurnMs, { memory_count });
      expect(turns(changes)).toBe(expected);
      const turn = { bucket: "1", turn_time: String(firstTurnMs), turn_position: String(position) };
      const head = { position: String(position), commit_id: shop.commitId, time: String(firstTurnMs) };
      expect(changes.meta).toEqual(expected ? { ...head, ...turn } : head);
      expect(changes.recent_0).toEqual({ [`request:${shop.requestId}`]: String(position) });
    },
  );

  test.each([
    ["ten minutes old and durable", tenMinutesMs, 100, true],
    ["a millisecond too young", tenMinutesMs - 1, 100, false],
    ["not durable", tenMinutesMs, 99, false],
  ])("lets the older half go when the youngest id in it is %s", async (_, ageMs, flushed, expected) => {
    const shop = await open();
    await commitAt(shop, 100, firstTurnMs, { request_id: "r100" });
    await shop.setMeta({ flushed });
    const changes = await commitAt(shop, 200, firstTurnMs + ageMs, { request_id: "r200" });
    expect(turns(changes)).toBe(expected);
    expect(changes.recent_1).toEqual({ "request:r200": "200" });
    expect(changes.recent_0).toEqual(expected ? { "request:r1": null, "request:r100": null } : undefined);
    expect(changes.meta?.forgotten).toBe(expected ? String(firstTurnMs) : undefined);
    expect(changes.meta?.forgotten_position).toBe(expected ? "100" : undefined);
  });

  test("knows what both halves hold, and asks for a look-up of what is older than they are", async () => {
    const shop = await open();
    await commitAt(shop, 100, firstTurnMs, { request_id: "r100" });
    await shop.setMeta({ flushed: 300 });
    await commitAt(shop, 200, firstTurnMs + tenMinutesMs, { request_id: "r200" });
    await commitAt(shop, 201, firstTurnMs + tenMinutesMs, { request_id: "r201" });
    for (const request_id of ["r200", "r201"]) {
      expect(await deposit(shop, { request_id })).toMatchObject({ kind: "REPLAYED", at: Number(request_id.slice(1)) });
    }
    for (const request_id of ["r1", "r100"]) {
      expect(await deposit(shop, { request_id })).toMatchObject({ kind: "LOOK_UP" });
    }
    const young = { request_id: "new", oldest_id_ms: firstTurnMs + 300_001 };
    expect(await deposit(shop, young)).toMatchObject({ kind: "OK" });
    expect(await deposit(shop, { request_id: "r1", looked_up: 1 })).toMatchObject({ kind: "OK" });
  });

  test("moves on what it let go with every turn", async () => {
    const shop = await open();
    await shop.setMeta({ flushed: 1000 });
    const forgotten: unknown[] = [];
    for (const turn of [1, 2, 3, 4]) {
      await commitAt(shop, turn * 100, firstTurnMs + (turn - 1) * tenMinutesMs);
      forgotten.push((await shop.dump()).meta?.forgotten);
    }
    expect(forgotten).toEqual(["0", ...[0, 1, 2].map((turn) => String(firstTurnMs + turn * tenMinutesMs))]);
  });

  test("finds orders and ended holds in the older half", async () => {
    const shop = await open();
    await shop.product("ps5", { count: 9 });
    const at = await shop.commit("placeOrder", { order_id: "o1" }, cart(["ps5", 1]));
    await shop.hold("h1", "ps5");
    await shop.commit("releaseHold", { hold_id: "h1" });
    await commitAt(shop, 100, firstTurnMs);
    const again = await expectNoChange(shop, () => shop.run("placeOrder", { order_id: "o1" }, cart(["ps5", 1])));
    expect(again).toMatchObject({ kind: "EXISTS", at });
    expect(await shop.run("extendHold", { hold_id: "h1" })).toMatchObject({ reason: "HOLD_RELEASED" });
    expect(await shop.run("holdStock", { hold_id: "h1" }, cart(["ps5", 1]))).toMatchObject({
      kind: "EXISTS",
      at: at + 1,
    });
  });

  test("keeps a commit in the newer half when the expiry before it turned the memory", async () => {
    const shop = await open();
    await shop.product("ps5", { count: 9 });
    await holdUntilDue(shop, "ps5", "h1");
    await jumpBefore(shop, 100);
    const changed = { sku: "ps5", delta_count: 1, memory_count: 1, clock_ms: dueMs, request_id: "after" };
    const { reply, changes } = await shop.observe("adjustStock", changed);
    expect(reply).toMatchObject({ kind: "OK", position: 101 });
    expect(changes.meta).toMatchObject({ bucket: "1", turn_position: "100" });
    expect(changes.recent_0).toEqual({ "hold:h1": "5 100 EXPIRED" });
    expect(changes.recent_1).toEqual({ "request:after": "101" });
  });
});
