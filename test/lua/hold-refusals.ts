import type { RefusalRow } from "./decision-tables.ts";
import { cart, type LuaShop } from "./fixture.ts";

/** Leaves the guest's hold `ended` of two `ps5` in a state that is not open. */
const end = {
  RELEASED: (shop: LuaShop) => shop.commit("releaseHold", { hold_id: "ended" }),
  COMMITTED: (shop: LuaShop) => shop.commit("placeOrder", { order_id: "of-ended", hold_id: "ended" }),
  EXPIRED: (shop: LuaShop) => shop.run("expireHolds", { hold_id: "ended", clock_ms: shop.nowMs + 600_000 }),
};

/** The refusals of a hold that is not open, as every call about a hold gives them. */
export const holdRefusals: readonly RefusalRow[] = [
  { title: "an id nobody used", args: { hold_id: "nope" }, reason: "HOLD_NOT_FOUND", metadata: { hold_id: "nope" } },
  ...Object.entries(end).map(([state, finish]) => ({
    title: "the hold ended",
    given: async (shop: LuaShop) => {
      await shop.commit("holdStock", { hold_id: "ended" }, cart(["ps5", 2]));
      await finish(shop);
    },
    args: { hold_id: "ended" },
    reason: `HOLD_${state}`,
    metadata: { hold_id: "ended" },
  })),
];
