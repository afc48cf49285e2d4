import { describe, expect, test } from "vitest";
import { entryFields } from "../../src/shop/log-entry.ts";
import {
  describeBadArguments,
  describeMismatch,
  dueMs,
  expectNoChange,
  type GoodCall,
  holdUntilDue,
  notCounts,
  notPositive,
  present,
} from "./decision-tables.ts";
import {
  cart,
  dueSkus,
  endedFields,
  expiryIdOf,
  holdJson,
  type LuaShop,
  level,
  readEntries,
  threeLines,
  threeLinesJson,
  useShops,
  type Value,
} from "./fixture.ts";
import { goneFields, orderJson } from "./order-records.ts";

const shops = useShops();
const given = async (shop: LuaShop) => {
  await shop.user("u1");
  await shop.product("ps5", { count: 10, maxPerUser: 5 });
  await shop.product("tv", { count: 200 });
};
const call: GoodCall = {
  script: "expireHolds",
  given: async (shop) => {
    await given(shop);
    await holdUntilDue(shop, "tv", "due1");
  },
  args: { clock_ms: dueMs },
};
const expiryCall = '{"rpc":"ExpireHolds","request_id":"","request":{},"principal":""}';

describe("ExpireHolds", () => {
  describeMismatch(shops, call);
  describeBadArguments(shops, call, {
    commit_id: ["", "x"],
    memory_count: notPositive,
    clock_ms: present(notCounts),
  });

  test("ends several holds in one commit", async () => {
    const shop = await shops.open();
    await given(shop);
    const hold_ms = dueMs - shop.nowMs - 1;
    const at = await shop.commit("holdStock", { hold_id: "h1", user_id: "u1", hold_ms }, threeLines);
    const createdMs = shop.nowMs;
    await holdUntilDue(shop, "tv", "h2");
    const observed = await shop.observe("expireHolds", { clock_ms: dueMs });
    const ended = { state: 4, expire_time: dueMs, position: at + 2 };
    const h1 = holdJson({ ...ended, create_time: createdMs, create_position: at });
    const guests = { hold_id: "h2", user_id: "", lines: [threeLinesJson[1]] };
    const h2 = holdJson({ ...ended, ...guests, create_time: createdMs + 1, create_position: at + 1 });
    const events = [
      { hold_expired: { hold: h1, stocks: [level("ps5", [10, 0, 0], 100), level("tv", [199, 1, 0], 100)] } },
      { hold_expired: { hold: h2, stocks: [level("tv", [200, 0, 0], 100)] } },
    ];
    const commitId = expiryIdOf(shop.commitId);
    const position = at + 2;
    expect(observed.reply).toEqual({ kind: "OK", position, commitId, timeMs: dueMs, payload: "[]" });
    expect((await readEntries(shop, position)).map((entry) => entry.events)).toEqual([events]);
    const text = (await shop.dump()).log?.[`${position}-0`]?.[11] ?? "";
    const entry = {
      position,
      commitId,
      epoch: Number(shop.epoch),
      timeMs: dueMs,
      call: expiryCall,
      events: text,
      private: "",
    };
    expect(observed.changes).toEqual({
      log: { [`${position}-0`]: entryFields(entry) },
      meta: { position: String(position), commit_id: commitId, time: String(dueMs) },
      stock: { "ps5:available": "10", "ps5:held": "0", "tv:available": "200", "tv:held": "0" },
      holds: { ...endedFields("h1"), ...endedFields("h2") },
      due: { h1: null, h2: null },
      due_skus: { ...dueSkus(dueMs, null), [`tv:000${dueMs}:h2`]: null },
      limits: { "u1:ps5": null },
      recent_0: { "hold:h1": `${at} ${position} EXPIRED`, "hold:h2": `${at + 1} ${position} EXPIRED` },
    });
  });

  test("cancels unpaid orders and ends holds in one commit", async () => {
    const shop = await shops.open();
    await given(shop);
    const pending_ms = dueMs - shop.nowMs - 1;
    const external = { order_id: "o1", user_id: "u1", payment_method: 2, pending_ms };
    const at = await shop.commit("placeOrder", external, threeLines);
    const createdMs = shop.nowMs;
    await holdUntilDue(shop, "tv", "h2");
    const observed = await shop.observe("expireHolds", { clock_ms: dueMs });
    const order = orderJson({
      state: 4,
      payment_method: 2,
      cancel_reason: "EXPIRED",
      create_time: createdMs,
      update_time: dueMs,
      create_position: at,
      position: at + 2,
    });
    const [entry] = await readEntries(shop, at + 2);
    expect(entry?.events).toEqual([
      { hold_expired: expect.objectContaining({ stocks: [level("tv", [199, 1, 0], 100)] }) },
      { order_cancelled: { order, stocks: [level("ps5", [10, 0, 0], 100), level("tv", [200, 0, 0], 100)] } },
    ]);
    expect(observed.changes).toMatchObject({
      stock: { "ps5:available": "10", "ps5:held": "0", "tv:available": "200", "tv:held": "0" },
      orders: goneFields("o1"),
      holds: endedFields("h2"),
      due: { "order/o1": null, h2: null },
      due_skus: { [`ps5:000${dueMs}:order/o1`]: null, [`tv:000${dueMs}:order/o1`]: null, [`tv:000${dueMs}:h2`]: null },
      limits: { "u1:ps5": null },
      recent_0: { "order:o1": `${at} ${at + 2}`, "hold:h2": `${at + 1} ${at + 2} EXPIRED` },
    });
  });

  test("cancels the one order it is asked for, and no hold of that name", async () => {
    const shop = await shops.open();
    await given(shop);
    await holdUntilDue(shop, "tv", "same");
    for (const order_id of ["same", "other"]) {
      const pending_ms = dueMs - shop.nowMs - 1;
      await shop.commit("placeOrder", { order_id, payment_method: 2, pending_ms }, cart(["tv", 1]));
    }
    await shop.commit("placeOrder", { order_id: "charged", payment_method: 4 }, cart(["tv", 1]));
    const left = async () => Object.keys((await shop.dump()).due ?? {}).sort();
    expect(await left()).toEqual(["order/other", "order/same", "same"]);
    await expectNoChange(shop, () => shop.run("expireHolds", { clock_ms: dueMs, hold_id: "order/charged" }));
    await expectNoChange(shop, () => shop.run("expireHolds", { clock_ms: dueMs - 1, hold_id: "order/same" }));
    await shop.run("expireHolds", { clock_ms: dueMs, hold_id: "order/same" });
    expect(await left()).toEqual(["order/other", "same"]);
    await shop.run("expireHolds", { clock_ms: dueMs });
    expect(await left()).toEqual([]);
    expect((await shop.dump()).stock).toMatchObject({ "tv:available": "199", "tv:held": "1" });
  });

  test.each<[string, Record<string, Value>, Value[]]>([
    ["nothing is due", { clock_ms: dueMs - 1 }, []],
    ["nothing of a SKU is due", { clock_ms: dueMs }, ["ps5", "nope"]],
    ["a hold is not due", { clock_ms: dueMs - 1, hold_id: "due1" }, []],
    ["a hold is not open", { clock_ms: dueMs, hold_id: "nope" }, []],
  ])("changes nothing when %s", async (_, args, tail) => {
    const shop = await shops.open();
    await call.given(shop);
    const reply = await expectNoChange(shop, () => shop.run("expireHolds", args, tail));
    expect(reply).toMatchObject({ kind: "OK", payload: "[]" });
  });

  test("ends what it is asked for, and only that", async () => {
    const shop = await shops.open();
    for (const sku of ["ps5", "tv"]) {
      await shop.product(sku, { count: 10 });
    }
    await holdUntilDue(shop, "ps5", "a", "b");
    await holdUntilDue(shop, "tv", "c", "d");
    await shop.commit("holdStock", { hold_id: "both", hold_ms: dueMs - shop.nowMs - 1 }, cart(["ps5", 1], ["tv", 1]));
    const openHolds = async () => Object.keys((await shop.dump()).due ?? {}).sort();
    await shop.run("expireHolds", { clock_ms: dueMs, hold_id: "c" });
    expect(await openHolds()).toEqual(["a", "b", "both", "d"]);
    await shop.run("expireHolds", { clock_ms: dueMs, hold_id: "b" }, ["tv"]);
    expect(await openHolds()).toEqual(["a"]);
    await shop.run("expireHolds", { clock_ms: dueMs });
    expect(await openHolds()).toEqual([]);
  });

  test("keeps apart SKUs of which one begins like the other", async () => {
    const shop = await shops.open();
    await shop.product("tv", { count: 5 });
    for (const sku of ["tv2", "tv-2", "t", "tv.", "TV"]) {
      await shop.product(sku, { count: 5 });
      await holdUntilDue(shop, sku, `of-${sku}`);
    }
    await expectNoChange(shop, () => shop.run("expireHolds", { clock_ms: dueMs }, ["tv"]));
  });

  test.each([
    ["the shop's oldest", {}, []],
    ["one SKU's", {}, ["tv"]],
    ["a hold and its SKU's", { hold_id: "due50" }, ["tv", "tv"]],
  ])("ends 100 at a time: %s", async (_, args, tail) => {
    const shop = await shops.open();
    await given(shop);
    await holdUntilDue(shop, "tv", ...Array.from({ length: 101 }, (_, index) => `due${index}`));
    const at = { ...args, clock_ms: dueMs };
    expect(await shop.run("expireHolds", at, tail)).toMatchObject({ kind: "AGAIN" });
    expect(await shop.redis.zcard(shop.keys.due as string)).toBe(1);
    expect(await shop.run("expireHolds", at, tail)).toMatchObject({ kind: "OK" });
    expect((await shop.dump()).stock).toMatchObject({ "tv:available": "200", "tv:held": "0" });
  });
});
