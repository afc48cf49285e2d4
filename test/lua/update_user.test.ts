import { describe, expect, test } from "vitest";
import { describeBadArguments, describeMutation, describeRefusals, type GoodCall } from "./decision-tables.ts";
import { type Arguments, expectCommit, startMs, useShops } from "./fixture.ts";
import { userJson } from "./user-json.ts";

const shops = useShops();
const call: GoodCall = {
  script: "updateUser",
  given: async (shop) => {
    await shop.commit("createUser", { user_id: "u1", email_key: "u1@example.com" });
    await shop.commit("createUser", { user_id: "other", email_key: "other@example.com" });
  },
  args: { user_id: "u1", has_email: 1, email_key: "new@example.com", private_json: '{"email":"New@example.com"}' },
};

describe("UpdateUser", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { user_id: [""], has_email: ["", "2"], private_json: [""] });
  describeRefusals(shops, call, [
    { title: "nobody", args: { user_id: "nobody" }, reason: "USER_NOT_FOUND", metadata: { user_id: "nobody" } },
    {
      title: "nobody, and another user's e-mail",
      args: { user_id: "nobody", email_key: "other@example.com" },
      reason: "USER_NOT_FOUND",
      metadata: { user_id: "nobody" },
    },
    { title: "another user's e-mail", args: { email_key: "other@example.com" }, reason: "EMAIL_TAKEN", metadata: {} },
  ]);

  test.each<[string, Arguments, object]>([
    [
      "moves the e-mail",
      {},
      {
        users: { "u1:email": "new@example.com" },
        emails: { "u1@example.com": null, "new@example.com": "u1" },
      },
    ],
    ["takes the e-mail away", { email_key: "" }, { users: { "u1:email": null }, emails: { "u1@example.com": null } }],
    ["leaves the e-mail that the user has", { email_key: "u1@example.com" }, {}],
    ["leaves the e-mail alone when only the name changes", { has_email: 0, email_key: "" }, {}],
    [
      "gives an e-mail to a user who had none",
      { user_id: "none" },
      { users: { "none:email": "new@example.com" }, emails: { "new@example.com": "none" } },
    ],
    ["takes no e-mail from a user who had none", { user_id: "none", email_key: "" }, {}],
  ])("%s", async (_, args, state) => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.user("none");
    const observed = await shop.observe("updateUser", { ...call.args, ...args });
    const user_id = String(args.user_id ?? "u1");
    const create_time = startMs + (user_id === "u1" ? 1 : 3);
    const user = userJson({ user_id, create_time, update_time: shop.nowMs, position: 5 });
    expectCommit(shop, observed, [{ user_updated: { user } }], state as never, '{"email":"New@example.com"}');
  });

  test("frees the old e-mail for others, and the user can have it back when they let go of it", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.commit("updateUser", call.args);
    await shop.commit("updateUser", { user_id: "other", has_email: 1, email_key: "u1@example.com" });
    await shop.commit("createUser", { user_id: "u3", email_key: "other@example.com" });
    expect(await shop.run("updateUser", { ...call.args, email_key: "u1@example.com" })).toMatchObject({
      reason: "EMAIL_TAKEN",
    });
    await shop.commit("updateUser", { user_id: "other", has_email: 1 });
    await shop.commit("updateUser", { ...call.args, email_key: "u1@example.com" });
    expect((await shop.dump()).emails).toEqual({ "u1@example.com": "u1", "other@example.com": "u3" });
  });

  test("shows the tier and the referral of the user", async () => {
    const shop = await shops.open();
    await call.given(shop);
    await shop.redis.hset(
      shop.keys.users as string,
      "u1:sub",
      "pro 2900 1 2 free 3 4",
      "u1:profile",
      "3 1000 C other 12",
    );
    const { reply } = await shop.observe("updateUser", call.args);
    const [event] = JSON.parse((reply as { payload: string }).payload);
    expect(event.user_updated.user).toMatchObject({
      tier: "pro",
      referral_code: "C",
      referred_by: "other",
      referral_count: 12,
    });
  });
});
