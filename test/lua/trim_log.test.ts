import { describe, expect, test } from "vitest";
import { describeBadArguments, type GoodCall, notCounts, notPositive } from "./decision-tables.ts";
import { type LuaShop, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "trimLog",
  /** 299 commits after the first. Redis lets go of whole nodes of 100 entries, so trimming shows only from there on. */
  given: async (shop) => {
    await shop.user("u1");
    const deposits = Array.from({ length: 298 }, () => shop.raw("depositFunds", { user_id: "u1", amount_minor: 1 }));
    await Promise.all(deposits);
  },
  args: { head_position: 300, margin: 50 },
};

async function positions(shop: LuaShop): Promise<number[]> {
  return Object.keys((await shop.dump()).log ?? {}).map((id) => Number.parseInt(id, 10));
}

describe("TrimLog", () => {
  describeBadArguments(shops, call, { head_position: notPositive, margin: notCounts });

  test("notes what is durable, and keeps the margin and everything after it", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { changes } = await shop.observe("trimLog", call.args);
    expect(Object.keys(changes).sort()).toEqual(["log", "meta"]);
    expect(changes.meta).toEqual({ flushed: "300" });
    const kept = await positions(shop);
    expect(kept[0]).toBeGreaterThan(1);
    expect(kept[0]).toBeLessThanOrEqual(250);
    expect(kept).toEqual(
      Array.from({ length: 300 - (kept[0] as number) + 1 }, (_, index) => index + (kept[0] as number)),
    );
  });

  test("lets go of nothing while the head is within the margin", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { changes } = await shop.observe("trimLog", { ...call.args, margin: 300 });
    expect(changes).toEqual({ meta: { flushed: "300" } });
  });

  test("takes back nothing that a faster process noted", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.raw("trimLog", call.args);
    const { changes } = await shop.observe("trimLog", { ...call.args, head_position: 299 });
    expect(changes).toEqual({});
  });

  test("changes nothing in another epoch", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const { changes } = await shop.observe("trimLog", { ...call.args, epoch: 99 });
    expect(changes).toEqual({});
  });
});
