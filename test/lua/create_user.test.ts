import { describe, expect, test } from "vitest";
import {
  describeBadArguments,
  describeMutation,
  describeRefusals,
  expectNoChange,
  type GoodCall,
} from "./decision-tables.ts";
import { expectCommit, useShops } from "./fixture.ts";

const shops = useShops();
const call: GoodCall = {
  script: "createUser",
  given: (shop) => shop.commit("createUser", { user_id: "other", email_key: "other@example.com" }),
  args: { user_id: "u1", email_key: "u1@example.com", private_json: '{"email":"U1@example.com"}' },
};

describe("CreateUser", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { user_id: [""], private_json: [""] });
  describeRefusals(shops, call, [
    { title: "another user's e-mail", args: { email_key: "other@example.com" }, reason: "EMAIL_TAKEN", metadata: {} },
  ]);

  test.each(["u1@example.com", ""])("creates a user with 100 credits, e-mail key %j", async (email_key) => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("createUser", { ...call.args, email_key });
    const user = {
      user_id: "u1",
      balance_minor: 0,
      credits: 100,
      tier: "free",
      referral_count: 0,
      order_count: 0,
      lifetime_value_minor: 0,
      create_time: shop.nowMs,
      update_time: shop.nowMs,
      position: 3,
    };
    const users = {
      "u1:balance": "0",
      "u1:credits": "100",
      "u1:orders": "0",
      "u1:lifetime": "0",
      "u1:created": `3 ${shop.nowMs}`,
    };
    const emails = email_key === "" ? {} : { emails: { [email_key]: "u1" } };
    expectCommit(shop, observed, [{ user_created: { user } }], { users, ...emails }, '{"email":"U1@example.com"}');
  });

  test("lets any number of users have no e-mail", async () => {
    const shop = await shops.open();
    await shop.commit("createUser", { user_id: "u1" });
    await shop.commit("createUser", { user_id: "u2" });
  });

  test("answers an id in use with its creation, also when the e-mail is taken", async () => {
    const shop = await shops.open();
    const at = await shop.commit("createUser", call.args);
    const { commitId } = shop;
    const reply = await expectNoChange(shop, () =>
      shop.run("createUser", { ...call.args, email_key: "u1@example.com" }),
    );
    expect(reply).toEqual({ kind: "EXISTS", position: at, commitId, at, fields: expect.arrayContaining([commitId]) });
  });
});
