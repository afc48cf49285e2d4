import { describe, expect, test } from "vitest";
import {
  describeBadArguments,
  describeMismatch,
  expectNoChange,
  type GoodCall,
  notIntegers,
  notPositive,
} from "./decision-tables.ts";
import { birthId, cart, type LuaShop, readEntries, useShops, type Value } from "./fixture.ts";
import { readRecord } from "./order-records.ts";

const shops = useShops();
const call: GoodCall = {
  script: "loadLimits",
  given: (shop) => shop.product("ps5", { count: 5 }),
  args: { sku: "ps5", as_of_position: 1, as_of_commit_id: birthId, load_id: "load-1", first: 1, final: 1 },
  tail: ["u1", 2, "u2", 1],
};

/** Everything that moves units of `ps5` between users: holds, orders from both, releases, expiries, cancellations, refunds, guests. */
async function giveHistory(shop: LuaShop): Promise<void> {
  for (const user of ["a", "b", "c"]) {
    await shop.user(user);
  }
  await shop.product("ps5", { count: 100 });
  await shop.product("tv", { count: 100 });
  const hold = (hold_id: string, user_id: string, ...lines: [string, number][]) =>
    shop.commit("holdStock", { hold_id, user_id }, cart(...lines));
  await hold("a1", "a", ["ps5", 2], ["tv", 1], ["ps5", 1]);
  await hold("g1", "", ["ps5", 5]);
  await hold("g2", "", ["ps5", 7]);
  await hold("c1", "c", ["ps5", 4]);
  await shop.commit("placeOrder", { order_id: "b1", user_id: "b" }, cart(["ps5", 1], ["tv", 2], ["ps5", 1]));
  await shop.commit("placeOrder", { order_id: "nobodys" }, cart(["ps5", 1]));
  await shop.commit("placeOrder", { order_id: "as", user_id: "a", hold_id: "a1" });
  await hold("a2", "a", ["ps5", 3]);
  await shop.commit("placeOrder", { order_id: "bs", user_id: "b", hold_id: "g1" });
  await shop.commit("placeOrder", { order_id: "guests", hold_id: "g2" });
  await shop.commit("releaseHold", { hold_id: "a2" });
  await hold("b2", "b", ["ps5", 1]);
  await hold("due", "c", ["ps5", 9]);
  await shop.commit("extendHold", { hold_id: "b2", hold_ms: 3_600_000 });
  await shop.run("expireHolds", { clock_ms: shop.nowMs + 600_000 });
  await hold("c2", "c", ["tv", 1]);
  const external = (order_id: string, user_id: string, hold_id: string, ...lines: [string, number][]) =>
    shop.commit("placeOrder", { order_id, user_id, hold_id, payment_method: 2 }, cart(...lines));
  await external("kept", "a", "", ["ps5", 2]);
  await external("ended", "c", "", ["ps5", 6], ["tv", 1], ["ps5", 1]);
  await hold("c3", "c", ["ps5", 4]);
  await external("of-hold", "c", "c3");
  await external("nobodys-too", "", "", ["ps5", 1]);
  await shop.commit("cancelOrder", { order_id: "ended" });
  await shop.commit("cancelOrder", { order_id: "of-hold" });
  await shop.commit("cancelOrder", { order_id: "nobodys-too" });
  await shop.commit("confirmOrder", { order_id: "kept" });
  await external("late", "b", "", ["ps5", 3]);
  await shop.run("expireHolds", { hold_id: "order/late", clock_ms: shop.nowMs + 600_000 });
  for (const [order_id, ...units] of [
    ["kept", "ps5", 1],
    ["bs", "ps5", 2, "ps5", 1],
    ["guests", "ps5", 7],
  ] as const) {
    await shop.commit("refundOrder", { order_id, amount_minor: 1, ...(await readRecord(shop, order_id)) }, [...units]);
  }
}

interface Cart {
  hold_id: string;
  user_id: string;
  order_id: string;
  lines: { sku: string; quantity: number }[];
  restocked?: { sku: string; quantity: number }[];
  state: number;
}

/** What users have had of `ps5` up to a position: their orders, less what came back, and their open holds, as Postgres counts them. */
function countUnits(entries: { position: number; events: object[] }[], position: number): Record<string, number> {
  const open = new Map<string, Cart>();
  const sold = new Map<string, Cart>();
  for (const event of entries.filter((entry) => entry.position <= position).flatMap((entry) => entry.events)) {
    const [[name, { hold, order }]] = Object.entries(event) as [[string, { hold: Cart; order: Cart }]];
    if (name === "stock_held") {
      open.set(hold.hold_id, hold);
    } else if (/^order_/.test(name)) {
      sold.set(order.order_id, order);
    } else if (/^hold_(released|expired|committed)$/.test(name)) {
      open.delete(hold.hold_id);
    }
  }
  const counts: Record<string, number> = {};
  const orders = [...sold.values()].filter((order) => order.state !== 4);
  for (const { user_id, lines, restocked = [] } of [...open.values(), ...orders].filter(
    (each) => each.user_id !== "",
  )) {
    const had = [...lines, ...restocked.map(({ sku, quantity }) => ({ sku, quantity: -quantity }))];
    for (const { quantity } of had.filter((line) => line.sku === "ps5")) {
      counts[user_id] = (counts[user_id] ?? 0) + quantity;
    }
  }
  return counts;
}

async function hadOf(shop: LuaShop): Promise<Record<string, number>> {
  const fields = Object.entries((await shop.dump()).limits ?? {});
  return Object.fromEntries(fields.map(([field, count]) => [field.replace(/:ps5$/, ""), Number(count)]));
}

describe("LoadLimits", () => {
  describeMismatch(shops, call);
  describeBadArguments(shops, call, { sku: [""], as_of_position: notPositive }, [
    ["u1"],
    ["u1", 1, "u2"],
    ["", 1],
    ...notIntegers.map((count) => ["u1", count]),
  ]);

  test("brings the counts, and tracks the product from then on", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { changes } = await shop.observe("loadLimits", call.args, call.tail);
    expect(changes).toEqual({ stock: { "ps5:terms": "0 1 0 0 0" }, limits: { "u1:ps5": "2", "u2:ps5": "1" } });
    await shop.user("u1");
    await shop.hold("h1", "ps5", 3, { user_id: "u1" });
    expect(await hadOf(shop)).toEqual({ u1: 5, u2: 1 });
  });

  test("keeps the other terms", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.commit("putProduct", { sku: "ps5", sale_start_ms: 5, sale_end_ms: 6, withdrawn: 1 });
    const { changes } = await shop.observe("loadLimits", call.args);
    expect(changes).toEqual({ stock: { "ps5:terms": "0 1 5 6 1" } });
  });

  test("adds what the log holds after the counts, from wherever they were taken, in one chunk or several", async () => {
    const shop = await shops.open();
    await giveHistory(shop);
    const entries = await readEntries(shop, 1);
    const truth = countUnits(entries, entries.length);
    expect(truth).toEqual({ a: 4, b: 5 });
    const restore = await shop.snapshot();
    for (const { position, commitId } of entries) {
      const counts: Value[][] = Object.entries(countUnits(entries, position));
      const about = { sku: "ps5", as_of_position: position, as_of_commit_id: commitId, load_id: "load-1" };
      const load = (first: number, final: number, tail: Value[][]) =>
        shop.raw("loadLimits", { ...about, first, final }, tail.flat());
      expect(await load(1, 1, counts)).toEqual(["OK"]);
      expect(await hadOf(shop), `as of ${position}`).toEqual(truth);
      await restore();
      for (const [index, count] of counts.entries()) {
        expect(await load(index === 0 ? 1 : 0, index === counts.length - 1 ? 1 : 0, [count])).toEqual(["OK"]);
      }
      expect(counts.length === 0 ? truth : await hadOf(shop), `in chunks as of ${position}`).toEqual(truth);
      await restore();
    }
  });

  test("writes over what an interrupted load left, and ends a load that another came into", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const first = { ...call.args, first: 1, final: 0 };
    await shop.raw("loadLimits", first, ["u1", 2, "u2", 1]);
    await shop.raw("loadLimits", { ...first, load_id: "load-2" }, ["u1", 0]);
    const late = { ...call.args, first: 0, final: 1 };
    expect(await expectNoChange(shop, () => shop.raw("loadLimits", late, ["u3", 1]))).toEqual(["AGAIN"]);
    expect(await shop.raw("loadLimits", { ...late, load_id: "load-2" }, ["u2", 4])).toEqual(["OK"]);
    expect(await hadOf(shop)).toEqual({ u2: 4 });
    expect((await shop.dump()).stock?.["ps5:loading"]).toBeUndefined();
  });

  test.each<[string, Record<string, Value>, string]>([
    ["the log does not hold the commit", { as_of_position: 99 }, "AGAIN"],
    ["the log holds another commit there", { as_of_commit_id: "another" }, "AGAIN"],
    ["there is no such product", { sku: "nope" }, "OK"],
  ])("changes nothing when %s", async (_, args, answer) => {
    const shop = await shops.open();
    await call.given(shop);
    const reply = await expectNoChange(shop, () => shop.raw("loadLimits", { ...call.args, ...args }, call.tail));
    expect(reply).toEqual([answer]);
  });

  test("changes nothing once the product is tracked", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.raw("loadLimits", call.args, call.tail);
    const reply = await expectNoChange(shop, () => shop.raw("loadLimits", call.args, ["u1", 9]));
    expect(reply).toEqual(["OK"]);
  });
});
