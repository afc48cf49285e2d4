import { describe, expect, test } from "vitest";
import { describeBadArguments, expectNoChange, type GoodCall, notPositive } from "./decision-tables.ts";
import { changesBetween } from "./dump.ts";
import { birthId, type LuaShop, useShops } from "./fixture.ts";

const shops = useShops();
/** A shop that a rebuild left unfinished: it has everything but its epoch. */
const call: GoodCall = {
  script: "keep",
  given: async (shop) => {
    await shop.redis.hdel(shop.keys.meta as string, "epoch");
    await shop.setMeta({ token: "theirs", next_epoch: 7 });
  },
  args: { seen_epoch: "", seen_token: "theirs", head_position: 1, head_commit_id: birthId, next_epoch: 7 },
};

const keep = async (shop: LuaShop, args: object) => {
  const before = await shop.dump();
  const reply = await shop.raw("keep", { ...call.args, ...args });
  return { reply, changes: changesBetween(before, await shop.dump()) };
};

describe("Keep", () => {
  describeBadArguments(shops, call, { head_position: notPositive, next_epoch: notPositive });

  test("puts a shop back to work under the next epoch", async () => {
    const shop = await shops.open();
    const { reply, changes } = await keep(shop, { seen_epoch: shop.epoch, seen_token: "", next_epoch: 9 });
    expect([reply, changes]).toEqual([1, { meta: { epoch: "9" } }]);
  });

  test("finishes the rebuild of somebody else", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { reply, changes } = await keep(shop, {});
    expect([reply, changes]).toEqual([1, { meta: { epoch: "7", token: null, next_epoch: null } }]);
  });

  test.each([
    ["the epoch is another", { seen_epoch: "6" }, {}],
    ["somebody opened the shop", {}, { epoch: 7 }],
    ["the token is another", { seen_token: "mine" }, {}],
    ["a rebuild began", {}, { loaded: 0 }],
    ["the head is missing", { head_position: 2 }, {}],
    ["the head is another commit's", { head_commit_id: "another" }, {}],
  ])("does nothing when %s", async (_, args, meta) => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.setMeta({ unrelated: 1, ...meta });
    expect(await expectNoChange(shop, () => shop.raw("keep", { ...call.args, ...args }))).toBe(0);
  });
});
