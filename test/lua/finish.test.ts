import { describe, expect, test } from "vitest";
import { describeBadArguments, expectNoChange, type GoodCall, notPositive } from "./decision-tables.ts";
import { changesBetween } from "./dump.ts";
import { lookArguments, useShops } from "./fixture.ts";

const shops = useShops();
/** A shop that was rebuilt and not opened yet. */
const call: GoodCall = {
  script: "finish",
  given: async (shop) => {
    await shop.raw("look", { ...lookArguments, force: 1 });
    await shop.setMeta({ loaded: "all, layout 4" });
  },
  args: { token: "token", next_epoch: 3 },
};

describe("Finish", () => {
  describeBadArguments(shops, call, { token: [""], next_epoch: notPositive });

  test("opens the shop under its new epoch, once", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const before = await shop.dump();
    expect(await shop.raw("finish", call.args)).toBe(1);
    expect(changesBetween(before, await shop.dump())).toEqual({ meta: { epoch: "3", token: null, next_epoch: null } });
    expect(await expectNoChange(shop, () => shop.raw("finish", call.args))).toBe(0);
  });

  test.each([
    ["another rebuild is in charge", { token: "theirs" }],
    ["a step is missing", { loaded: "3" }],
    ["nobody rebuilds", { token: "" }],
  ])("does nothing when %s", async (_, meta) => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.setMeta(meta);
    expect(await expectNoChange(shop, () => shop.raw("finish", call.args))).toBe(0);
  });
});
