import { describe, expect, test } from "vitest";
import {
  boundaryNumbers,
  describeBadArguments,
  describeMutation,
  describeRefusals,
  type GoodCall,
  notPositive,
} from "./decision-tables.ts";
import { expectCommit, largest, useShops } from "./fixture.ts";
import { userJson } from "./user-json.ts";

const shops = useShops();
const call: GoodCall = {
  script: "depositFunds",
  given: (shop) => shop.user("u1", 100),
  args: { user_id: "u1", amount_minor: 50, reference_json: '"wire \\"7\\" %d"' },
};

describe("DepositFunds", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { user_id: [""], amount_minor: notPositive, reference_json: [""] });

  const tooMuch = { args: { amount_minor: largest - 99 } };
  describeRefusals(shops, call, [
    { title: "nobody", args: { user_id: "nobody" }, reason: "USER_NOT_FOUND", metadata: { user_id: "nobody" } },
    {
      title: "nobody, too much",
      args: { user_id: "x", amount_minor: largest },
      reason: "USER_NOT_FOUND",
      metadata: { user_id: "x" },
    },
    {
      title: "a sum past 2^53-1",
      ...tooMuch,
      reason: "BALANCE_LIMIT",
      metadata: { user_id: "u1", balance_minor: "100", amount_minor: String(largest - 99) },
    },
  ]);

  test("adds the amount to the wallet", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("depositFunds", call.args);
    const user = userJson({ user_id: "u1", balance_minor: 150, update_time: shop.nowMs, position: 4 });
    const event = { funds_deposited: { user, amount_minor: 50, reference: 'wire "7" %d' } };
    expectCommit(shop, observed, [event], { users: { "u1:balance": "150" } });
  });

  test.each(boundaryNumbers)("keeps %d as it is", async (amount) => {
    const shop = await shops.open();
    await shop.user("u1");
    const { reply, changes } = await shop.observe("depositFunds", { user_id: "u1", amount_minor: amount });
    expect(changes).toMatchObject({ users: { "u1:balance": String(amount) } });
    const [event] = JSON.parse((reply as { payload: string }).payload);
    expect(event.funds_deposited).toMatchObject({ amount_minor: amount, user: { balance_minor: amount } });
  });
});
