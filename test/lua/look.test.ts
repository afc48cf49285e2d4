import { describe, expect, test } from "vitest";
import { describeBadArguments, expectNoChange, type GoodCall, notCounts, notPositive } from "./decision-tables.ts";
import { type LuaShop, lookArguments, useShops, type Value } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = { script: "look", given: async () => {}, args: lookArguments };
const sealedMeta = (next: string) => ({ epoch: null, token: "token", next_epoch: next, loaded: "0" });

describe("Look", () => {
  describeBadArguments(shops, call, { head_position: notPositive, token: [""], durable_epoch: notCounts });

  const look = (shop: LuaShop, args: Record<string, Value>) => shop.raw("look", { ...lookArguments, ...args });

  test("adopts a shop that is in Postgres' epoch and holds its head", async () => {
    const shop = await shops.open();
    await shop.user("u1");
    const head = { head_position: 2, head_commit_id: shop.commitId };
    for (const args of [{}, head]) {
      const reply = await expectNoChange(shop, () => look(shop, { ...args, durable_epoch: shop.epoch }));
      expect(reply).toEqual(["ADOPT"]);
    }
  });

  test.each([1, 3])("keeps a shop that holds Postgres' head in another epoch, %d", async (durable_epoch) => {
    const shop = await shops.open();
    const reply = await expectNoChange(shop, () => look(shop, { durable_epoch }));
    expect(reply).toEqual(["KEEP", "2", "", ""]);
  });

  test("keeps a shop whose rebuild only lacks its finish", async () => {
    const shop = await shops.open();
    await shop.redis.hdel(shop.keys.meta as string, "epoch");
    await shop.setMeta({ token: "theirs", next_epoch: 7 });
    const reply = await expectNoChange(shop, () => look(shop, { durable_epoch: 7 }));
    expect(reply).toEqual(["KEEP", "", "theirs", "7"]);
  });

  test.each<[string, Record<string, Value>, number, number]>([
    ["the head is missing", { head_position: 2 }, 0, 1],
    ["the head is another commit's", { head_commit_id: "another" }, 0, 1],
    ["it is forced", { force: 1 }, 1, 0],
    ["it is forced, and the head is missing", { force: 1, head_position: 2 }, 0, 0],
  ])("seals a shop when %s, and leaves its state and log", async (_, args, headInLog, wasWhole) => {
    const shop = await shops.open();
    await shop.setMeta({ flushed: 5 });
    const before = await shop.dump();
    expect(await look(shop, { ...args, durable_epoch: shop.epoch })).toEqual([
      "SEALED",
      "3",
      headInLog,
      5,
      1,
      wasWhole,
    ]);
    const { meta, ...rest } = await shop.dump();
    expect({ ...rest, meta: { ...meta, epoch: "2" } }).toEqual({
      ...before,
      meta: { ...before.meta, ...sealedMeta("3"), epoch: "2" },
    });
    expect(meta).not.toHaveProperty("epoch");
  });

  test("takes the state of a shop for whole only when it was open: not when it is sealed, half loaded or not finished", async () => {
    const shop = await shops.open();
    const wasWhole = async () => ((await look(shop, { head_position: 2 })) as unknown[])[5];
    expect(await wasWhole()).toBe(1);
    expect(await wasWhole(), "sealed").toBe(0);
    await shop.setMeta({ loaded: "all, layout 4" });
    expect(await wasWhole(), "not finished").toBe(0);
    await shop.setMeta({ epoch: 5, loaded: "all, layout 2" });
    expect(await wasWhole(), "of another layout").toBe(0);
  });

  test("seals an empty Redis, and a shop that is half loaded", async () => {
    const shop = await shops.empty();
    expect(await look(shop, { durable_epoch: 4 })).toEqual(["SEALED", "5", 0, 0, 0, 0]);
    await shop.raw("load", { token: "token", step_number: 0, rest_ms: -1, step: "clear" }, [1]);
    expect(await look(shop, { durable_epoch: 4, token: "mine" })).toEqual(["SEALED", "6", 0, 0, 0, 0]);
    expect(await shop.dump()).toEqual({ meta: { token: "mine", next_epoch: "6", loaded: "0", bucket: "0" } });
  });

  test.each([
    ["Postgres'", 9, { epoch: 2 }, "10"],
    ["that of a shop which was never opened", 0, { epoch: 1 }, "2"],
    ["the shop's own", 1, { epoch: 8 }, "9"],
    ["that of a rebuild that did not end", 1, { next_epoch: 7 }, "8"],
  ])("takes an epoch that was never used: after %s", async (_, durable_epoch, meta, next) => {
    const shop = await shops.open();
    await shop.setMeta(meta);
    expect(await look(shop, { durable_epoch, force: 1 })).toEqual(["SEALED", next, 1, 1, 1, 0]);
  });
});
