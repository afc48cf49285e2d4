import { describe, expect, test } from "vitest";
import {
  describeBadArguments,
  describeMutation,
  describeRefusals,
  expectNoChange,
  type GoodCall,
} from "./decision-tables.ts";
import { expectCommit, type LuaShop, largest, startMs, useShops } from "./fixture.ts";
import { userJson } from "./user-json.ts";

const shops = useShops();
const call: GoodCall = {
  script: "createUser",
  given: (shop) =>
    shop.commit("createUser", { user_id: "other", email_key: "other@example.com", own_referral_code: "OTHER" }),
  args: {
    user_id: "u1",
    email_key: "u1@example.com",
    private_json: '{"email":"U1@example.com"}',
    own_referral_code: "U1",
  },
};
const referred = { ...call, args: { ...call.args, referral_code: "OTHER" } };

/** Gives the other user credits up to so many. */
const grant = (credits: number) => (shop: LuaShop) =>
  shop.commit("grantCredits", { user_id: "other", granted_credits: credits - 100 });

/** What is in Redis of a new user. */
function newUser(
  shop: LuaShop,
  position: number,
  credits: number,
  referral: string,
  email_key = "u1@example.com",
): object {
  return {
    "u1:credits": String(credits),
    "u1:profile": `${position} ${shop.nowMs} ${referral}`,
    ...(email_key !== "" && { "u1:email": email_key }),
  };
}

describe("CreateUser", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, {
    user_id: [""],
    private_json: [""],
    own_referral_code: ["", "two words", 'quo"te', "new\nline"],
    require_referral: ["", "2"],
  });
  describeRefusals(shops, call, [
    { title: "another user's e-mail", args: { email_key: "other@example.com" }, reason: "EMAIL_TAKEN", metadata: {} },
    {
      title: "another user's e-mail, and everything else too",
      given: grant(largest),
      args: { email_key: "other@example.com", own_referral_code: "OTHER", referral_code: "none", require_referral: 1 },
      reason: "EMAIL_TAKEN",
      metadata: {},
    },
    {
      title: "another user's code",
      args: { own_referral_code: "OTHER" },
      reason: "REFERRAL_CODE_TAKEN",
      metadata: { own_referral_code: "OTHER" },
    },
    {
      title: "another user's code, brought as the referrer's too by one who needs a referrer that can take more",
      given: grant(largest),
      args: { own_referral_code: "OTHER", referral_code: "OTHER", require_referral: 1 },
      reason: "REFERRAL_CODE_TAKEN",
      metadata: { own_referral_code: "OTHER" },
    },
    {
      title: "nobody's code where one is required",
      args: { referral_code: "none", require_referral: 1 },
      reason: "REFERRAL_INVALID",
      metadata: { referral_code: "none" },
    },
    {
      title: "no code where one is required",
      args: { require_referral: 1 },
      reason: "REFERRAL_INVALID",
      metadata: { referral_code: "" },
    },
    {
      title: "the new user's own code where one is required",
      args: { own_referral_code: "U1", referral_code: "U1", require_referral: 1 },
      reason: "REFERRAL_INVALID",
      metadata: { referral_code: "U1" },
    },
    {
      title: "a code in another case, where one is required",
      args: { referral_code: "other", require_referral: 1 },
      reason: "REFERRAL_INVALID",
      metadata: { referral_code: "other" },
    },
    ...[0, 1].map((require_referral) => ({
      title: `a referrer whose credits would pass 2^53-1, required: ${require_referral}`,
      given: grant(largest - 499),
      args: { referral_code: "OTHER", require_referral },
      reason: "BALANCE_LIMIT",
      metadata: { user_id: "other", credits: String(largest - 499), granted_credits: "500" },
    })),
  ]);

  test.each([
    ["an e-mail", "u1@example.com", ""],
    ["no e-mail", "", ""],
    ["the code of nobody", "u1@example.com", "none"],
    ["the own code as the referrer's", "u1@example.com", "U1"],
  ])("creates a user with 100 credits: %s", async (_, email_key, referral_code) => {
    const shop = await shops.open();
    await call.given(shop);
    const observed = await shop.observe("createUser", { ...call.args, email_key, referral_code });
    const times = { create_time: shop.nowMs, update_time: shop.nowMs };
    const user = userJson({ user_id: "u1", ...times, referral_code: "U1", position: 3 });
    expectCommit(
      shop,
      observed,
      [{ user_created: { user, referral_applied: false } }],
      {
        users: newUser(shop, 3, 100, "U1  0", email_key) as Record<string, string>,
        codes: { U1: "u1" },
        stats: { users: "2", "tier:free": "2" },
        ...(email_key !== "" && { emails: { [email_key]: "u1" } }),
      },
      '{"email":"U1@example.com"}',
    );
  });

  test.each([0, 1])("gives both sides their bonus in one commit, required: %i", async (require_referral) => {
    const shop = await shops.open();
    await call.given(shop);
    await grant(largest - 500)(shop);
    await shop.commit("depositFunds", { user_id: "other", amount_minor: 7 });
    const observed = await shop.observe("createUser", { ...referred.args, require_referral });
    const times = { create_time: shop.nowMs, update_time: shop.nowMs };
    const made = { user_id: "u1", ...times, referral_code: "U1", referred_by: "other", credits: 300, position: 5 };
    const referrer = userJson({
      user_id: "other",
      balance_minor: 7,
      credits: largest,
      create_time: startMs + 1,
      update_time: shop.nowMs,
      referral_code: "OTHER",
      referral_count: 1,
      position: 5,
    });
    expectCommit(
      shop,
      observed,
      [
        { user_created: { user: userJson(made), referral_applied: true } },
        { referral_rewarded: { user: referrer, credits: 500, referred_user_id: "u1" } },
      ],
      {
        users: {
          ...newUser(shop, 5, 300, "U1 other 0"),
          "other:credits": String(largest),
          "other:profile": expect.stringMatching(/ OTHER {2}1$/),
        },
        codes: { U1: "u1" },
        emails: { "u1@example.com": "u1" },
        stats: { users: "2", "tier:free": "2" },
      },
      '{"email":"U1@example.com"}',
    );
  });

  test("counts every referral, and keeps who referred the referrer and on what tier the referrer is", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.commit("createUser", referred.args);
    await shop.redis.hset(shop.keys.users as string, "u1:sub", "pro 2900 1 2  3 4");
    for (const user_id of ["u2", "u3"]) {
      await shop.commit("createUser", { user_id, referral_code: "U1" });
    }
    const { users, log } = await shop.dump();
    expect(users).toMatchObject({
      "u1:profile": expect.stringMatching(/ U1 other 2$/),
      "u1:credits": "1300",
      "u3:profile": expect.stringMatching(/ code-u3 u1 0$/),
    });
    expect(JSON.stringify(Object.values(log ?? {}).at(-1))).toContain('\\"tier\\":\\"pro\\"');
  });

  test("lets any number of users have no e-mail", async () => {
    const shop = await shops.open();
    await shop.commit("createUser", { user_id: "u1" });
    await shop.commit("createUser", { user_id: "u2" });
  });

  test("answers an id in use with its creation, also when e-mail and code are taken and the referral is not valid", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const at = await shop.commit("createUser", call.args);
    const { commitId } = shop;
    const taken = {
      email_key: "other@example.com",
      own_referral_code: "OTHER",
      referral_code: "none",
      require_referral: 1,
    };
    for (const args of [{}, taken]) {
      const reply = await expectNoChange(shop, () => shop.run("createUser", { ...call.args, ...args }));
      expect(reply).toEqual({ kind: "EXISTS", position: at, commitId, at, fields: expect.arrayContaining([commitId]) });
    }
  });
});
