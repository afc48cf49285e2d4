import { describe, expect, test } from "vitest";
import {
  boundaryNumbers,
  describeBadArguments,
  describeMutation,
  describeRefusals,
  expectNoChange,
  type GoodCall,
  notCounts,
  present,
} from "./decision-tables.ts";
import { expectCommit, largest, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "putProduct",
  given: (shop) => shop.product("old", { count: 3 }),
  args: { sku: "ps5", title_json: '"PS \\"5\\" %s"', price_minor: 49_999 },
};
const optional = present(notCounts);

describe("PutProduct", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, {
    sku: [""],
    title_json: [""],
    price_minor: optional,
    max_per_user: optional,
    sale_start_ms: optional,
    sale_end_ms: optional,
    withdrawn: [...optional, "2", "true"],
  });

  const window = { reason: "SALE_WINDOW", metadata: { sku: "ps5" } };
  describeRefusals(shops, call, [
    {
      title: "a new product without a price",
      args: { price_minor: "" },
      reason: "PRICE_REQUIRED",
      metadata: { sku: "ps5" },
    },
    {
      title: "that comes before a bad window",
      args: { price_minor: "", sale_start_ms: 2, sale_end_ms: 1 },
      reason: "PRICE_REQUIRED",
      metadata: { sku: "ps5" },
    },
    { title: "an end that is the start", args: { sale_start_ms: 2, sale_end_ms: 2 }, ...window },
    {
      title: "an end before the start it has",
      given: (shop) => shop.commit("putProduct", { ...call.args, sale_start_ms: 10 }),
      args: { sale_end_ms: 9 },
      ...window,
    },
    {
      title: "a start behind the end it has, before limits are loaded",
      given: async (shop) => {
        await shop.hold("h1", "old");
        await shop.commit("putProduct", { sku: "old", sale_end_ms: 10 });
      },
      args: { sku: "old", sale_start_ms: 10, max_per_user: 1 },
      reason: "SALE_WINDOW",
      metadata: { sku: "old" },
    },
  ]);

  test("creates a product without stock", async () => {
    const shop = await shops.open();
    const observed = await shop.observe("putProduct", call.args);
    const product = {
      sku: "ps5",
      title: 'PS "5" %s',
      price_minor: 49_999,
      max_per_user: 0,
      withdrawn: false,
      create_time: shop.nowMs,
      update_time: shop.nowMs,
      position: 2,
    };
    const stock = {
      "ps5:available": "0",
      "ps5:held": "0",
      "ps5:sold": "0",
      "ps5:price": "49999",
      "ps5:terms": "",
      "ps5:created": String(shop.nowMs),
    };
    expectCommit(shop, observed, [{ product_put: { product, created: true } }], { stock });
  });

  test("replaces what is given and keeps what is absent", async () => {
    const shop = await shops.open();
    const terms = { price_minor: 0, max_per_user: 3, sale_start_ms: 5, sale_end_ms: 6, withdrawn: 1 };
    await shop.commit("putProduct", { ...call.args, ...terms });
    const createdMs = shop.nowMs;
    const observed = await shop.observe("putProduct", {
      sku: "ps5",
      title_json: '"New"',
      sale_start_ms: 0,
      withdrawn: 0,
    });
    const product = {
      sku: "ps5",
      title: "New",
      price_minor: 0,
      max_per_user: 3,
      sale_end_time: 6,
      withdrawn: false,
      create_time: createdMs,
      update_time: shop.nowMs,
      position: 3,
    };
    const stock = { "ps5:terms": "3 1 0 6 0" };
    expectCommit(shop, observed, [{ product_put: { product, created: false } }], { stock });
  });

  test("goes on counting users' units when a limit is taken away", async () => {
    const shop = await shops.open();
    await shop.commit("putProduct", { ...call.args, max_per_user: 3 });
    const { changes } = await shop.observe("putProduct", { sku: "ps5", max_per_user: 0 });
    expect(changes.stock).toEqual({ "ps5:terms": "0 1 0 0 0" });
  });

  test.each([
    ["held", () => ({ script: "holdStock", args: { hold_id: "h1" } }) as const],
    ["sold", () => ({ script: "placeOrder", args: { order_id: "o1" } }) as const],
  ])("asks for users' units before the first limit of a product that was %s", async (_, begin) => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.commit(begin().script, begin().args, ["old", 1, ""]);
    const { commitId } = shop;
    const limit = { sku: "old", max_per_user: 1 };
    const reply = await expectNoChange(shop, () => shop.run("putProduct", limit));
    expect(reply).toEqual({ kind: "LOAD_LIMITS", position: 4, commitId });
    await shop.commit("putProduct", { ...limit, max_per_user: 0 });
  });

  test("sets the first limit of a product nobody ever had", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { changes } = await shop.observe("putProduct", { sku: "old", max_per_user: 1 });
    expect(changes.stock).toEqual({ "old:terms": "1 1 0 0 0" });
  });

  test.each([0, ...boundaryNumbers])("keeps %d as it is", async (number) => {
    const shop = await shops.open();
    const numbers = { price_minor: number, max_per_user: number, sale_start_ms: number, sale_end_ms: 0 };
    const { reply, changes } = await shop.observe("putProduct", { ...call.args, ...numbers });
    const terms = number === 0 ? "" : `${number} 1 ${number} 0 0`;
    expect(changes.stock).toMatchObject({ "ps5:price": String(number), "ps5:terms": terms });
    const [event] = JSON.parse((reply as { payload: string }).payload);
    const start = number === 0 ? {} : { sale_start_time: number };
    expect(event.product_put.product).toMatchObject({ price_minor: number, max_per_user: number, ...start });
  });

  test("keeps levels it does not change as they are", async () => {
    const shop = await shops.open();
    await shop.product("ps5", { count: largest });
    const { changes } = await shop.observe("putProduct", call.args);
    expect(changes.stock).toEqual({ "ps5:price": "49999" });
  });
});
