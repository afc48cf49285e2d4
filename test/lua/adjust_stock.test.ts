import { describe, expect, test } from "vitest";
import {
  boundaryNumbers,
  describeBadArguments,
  describeExpiry,
  describeMutation,
  describeRefusals,
  type GoodCall,
  notCounts,
  notIntegers,
  notPositive,
  present,
} from "./decision-tables.ts";
import { expectCommit, type LuaShop, largest, level, startMs, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "adjustStock",
  given: (shop) => shop.product("ps5", { count: 5 }),
  args: { sku: "ps5", delta_count: 3, reason: 2, reference_json: '"count of \\"May\\""' },
};

const takesTooMuch = (requested: number, available: number, held: number) => ({
  args: { delta_count: -requested },
  metadata: {
    sku: "ps5",
    requested_count: String(requested),
    available_count: String(available),
    held_count: String(held),
    delta_count: String(-requested),
  },
});
const heldOut = (title: string, holdMs: number, retryMs: number) => ({
  title,
  given: (shop: LuaShop) => shop.hold("h1", "ps5", 2, { clock_ms: startMs + 1000, hold_ms: holdMs }),
  ...takesTooMuch(5, 3, 2),
  reason: "HELD_OUT",
  retryMs,
});

describe("AdjustStock", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, {
    sku: [""],
    delta_count: [...notIntegers, "0"],
    reason: [...notPositive, "100"],
    reference_json: [""],
    expected_available_count: present(notCounts),
  });
  describeRefusals(shops, call, [
    { title: "an unknown SKU", args: { sku: "nope" }, reason: "PRODUCT_NOT_FOUND", metadata: { sku: "nope" } },
    {
      title: "that comes before all else",
      args: { sku: "nope", expected_available_count: 4, delta_count: -6 },
      reason: "PRODUCT_NOT_FOUND",
      metadata: { sku: "nope" },
    },
    {
      title: "another count than the caller saw, before what is left is looked at",
      args: { expected_available_count: 4, delta_count: -6 },
      reason: "STOCK_CHANGED",
      metadata: { sku: "ps5", expected_available_count: "4", available_count: "5" },
    },
    { title: "more than there is", ...takesTooMuch(6, 5, 0), reason: "SOLD_OUT" },
    {
      title: "more than available and held",
      given: (shop) => shop.hold("h1", "ps5", 2),
      ...takesTooMuch(6, 3, 2),
      reason: "SOLD_OUT",
    },
    { title: "the largest number", ...takesTooMuch(largest, 5, 0), reason: "SOLD_OUT" },
    heldOut("what is held, for the time until it is due", 30_000, 29_999),
    heldOut("what is held, for a second at least", 500, 1000),
    heldOut("what is held, for a minute at most", 600_000, 60_000),
    {
      title: "a sum past 2^53-1",
      args: { delta_count: largest - 4 },
      reason: "BALANCE_LIMIT",
      metadata: { sku: "ps5", available_count: "5" },
    },
    {
      title: "a sum past 2^53-1 with what is held and sold",
      given: async (shop) => {
        await shop.hold("h1", "ps5", 2);
        await shop.commit("placeOrder", { order_id: "o1" }, ["ps5", 2, ""]);
      },
      args: { delta_count: largest - 4 },
      reason: "BALANCE_LIMIT",
      metadata: { sku: "ps5", available_count: "1" },
    },
  ]);
  describeExpiry(shops, call, {
    touched: "ps5",
    refused: { args: { expected_available_count: 1 }, reason: "STOCK_CHANGED" },
  });

  test.each([
    [3, "8"],
    [-5, "0"],
  ])("adds %d to what is available", async (delta_count, available) => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("adjustStock", { ...call.args, delta_count, expected_available_count: 5 });
    const stock = level("ps5", [Number(available), 0, 0], 100);
    const event = { stock_adjusted: { stock, delta_count, reason: 2, reference: 'count of "May"' } };
    expectCommit(shop, observed, [event], { stock: { "ps5:available": available } });
  });

  test.each(boundaryNumbers)("keeps %d as it is, there and back", async (count) => {
    const shop = await shops.open();
    await shop.product("ps5");
    for (const [delta_count, available] of [
      [count, count],
      [-count, 0],
    ] as const) {
      const { reply, changes } = await shop.observe("adjustStock", { ...call.args, delta_count });
      expect(changes.stock).toEqual({ "ps5:available": String(available) });
      const [event] = JSON.parse((reply as { payload: string }).payload);
      expect(event.stock_adjusted).toMatchObject({ delta_count, stock: { available_count: available } });
    }
  });
});
