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
  script: "withdrawFunds",
  given: (shop) => shop.user("u1", 100),
  args: { user_id: "u1", amount_minor: 60, reference_json: '"wire \\"7\\" %d"' },
};

describe("WithdrawFunds", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { user_id: [""], amount_minor: notPositive, reference_json: [""] });
  describeRefusals(shops, call, [
    { title: "nobody", args: { user_id: "nobody" }, reason: "USER_NOT_FOUND", metadata: { user_id: "nobody" } },
    ...[101, largest].map((amount) => ({
      title: `${amount} of 100`,
      args: { amount_minor: amount },
      reason: "INSUFFICIENT_FUNDS",
      metadata: { user_id: "u1", required_minor: String(amount), balance_minor: "100" },
    })),
  ]);

  test.each([
    [60, 40],
    [100, 0],
  ])("takes %d of 100 out of the wallet", async (amount_minor, left) => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("withdrawFunds", { ...call.args, amount_minor });
    const user = userJson({ user_id: "u1", balance_minor: left, update_time: shop.nowMs, position: 4 });
    const event = { funds_withdrawn: { user, amount_minor, reference: 'wire "7" %d' } };
    expectCommit(shop, observed, [event], { users: { "u1:balance": String(left) } });
  });

  test.each(boundaryNumbers)("keeps %d as it is", async (amount) => {
    const shop = await shops.open();
    await shop.user("u1", largest);
    const { reply, changes } = await shop.observe("withdrawFunds", { user_id: "u1", amount_minor: amount });
    expect(changes).toMatchObject({ users: { "u1:balance": String(largest - amount) } });
    const [event] = JSON.parse((reply as { payload: string }).payload);
    expect(event.funds_withdrawn).toMatchObject({ amount_minor: amount, user: { balance_minor: largest - amount } });
  });
});
