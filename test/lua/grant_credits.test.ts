import { describe, expect, test } from "vitest";
import {
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
  script: "grantCredits",
  given: (shop) => shop.user("u1"),
  args: { user_id: "u1", granted_credits: 50, reason_json: '"sorry for \\"7\\" %d"' },
};

describe("GrantCredits", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { user_id: [""], granted_credits: notPositive, reason_json: [""] });
  describeRefusals(shops, call, [
    {
      title: "nobody, too many",
      args: { user_id: "nobody", granted_credits: largest },
      reason: "USER_NOT_FOUND",
      metadata: { user_id: "nobody" },
    },
    ...[largest - 99, largest].map((granted) => ({
      title: `${granted} on top of 100`,
      args: { granted_credits: granted },
      reason: "BALANCE_LIMIT",
      metadata: { user_id: "u1", credits: "100", granted_credits: String(granted) },
    })),
  ]);

  test.each([1, 50, 2 ** 31, 1e14 + 1, largest - 100])("adds %d credits", async (granted_credits) => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("grantCredits", { ...call.args, granted_credits });
    const credits = 100 + granted_credits;
    const user = userJson({ user_id: "u1", credits, update_time: shop.nowMs, position: 3 });
    const event = { credits_granted: { user, credits: granted_credits, reason: 'sorry for "7" %d' } };
    expectCommit(shop, observed, [event], { users: { "u1:credits": String(credits) } });
    expect(await shop.run("grantCredits", { ...call.args, granted_credits: largest - credits + 1 })).toMatchObject({
      reason: "BALANCE_LIMIT",
    });
  });
});
