import { describe, expect, test } from "vitest";
import { describeBadArguments, describeMutation, describeRefusals, type GoodCall } from "./decision-tables.ts";
import { expectCommit, useShops } from "./fixture.ts";
import { describeRenewal } from "./renewal-first.ts";
import {
  givenSubscriber,
  givenTiers,
  periodMs,
  schedule,
  subscriptionJson,
  subscriptionText,
} from "./subscriptions.ts";

const shops = useShops();
const call: GoodCall = {
  script: "cancelScheduledChange",
  given: async (shop) => {
    await givenTiers(shop);
    await givenSubscriber(shop, "u1");
    await schedule(shop, "u1", "pro");
  },
  args: { user_id: "u1" },
};

describe("CancelScheduledChange", () => {
  describeMutation(shops, call);
  describeBadArguments(shops, call, { user_id: [""] });
  describeRefusals(shops, call, [
    { title: "nobody", args: { user_id: "nobody" }, reason: "USER_NOT_FOUND", metadata: { user_id: "nobody" } },
    {
      title: "once it was called off",
      given: (shop) => shop.commit("cancelScheduledChange", { user_id: "u1" }),
      reason: "NO_SCHEDULED_CHANGE",
      metadata: { user_id: "u1" },
    },
    {
      title: "of a user who never changed",
      given: (shop) => givenSubscriber(shop, "u2"),
      args: { user_id: "u2" },
      reason: "NO_SCHEDULED_CHANGE",
      metadata: { user_id: "u2" },
    },
  ]);
  describeRenewal(shops, call);

  test("takes a user who pays nothing out of the renewals", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const createdMs = shop.nowMs - 1;
    const observed = await shop.observe("cancelScheduledChange", call.args);
    const update = { update_time: shop.nowMs, position: 4 };
    const subscription = subscriptionJson("free", createdMs, update);
    expectCommit(shop, observed, [{ tier_change_cancelled: { subscription, scheduled_tier: "pro" } }], {
      users: { "u1:sub": subscriptionText("free", createdMs, { position: 4, updatedMs: shop.nowMs }) },
      renewals: { u1: null },
    });
  });

  test("leaves a user who pays in the renewals", async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const createdMs = await givenSubscriber(shop, "u1", "pro");
    await schedule(shop, "u1", "free");
    const { changes } = await shop.observe("cancelScheduledChange", call.args);
    const text = subscriptionText("pro", createdMs, { position: 5, updatedMs: shop.nowMs });
    expect(changes.users).toEqual({ "u1:sub": text });
    expect((await shop.dump()).renewals).toEqual({ u1: String(createdMs + periodMs) });
  });

  test("comes too late from the millisecond the change takes effect", async () => {
    const shop = await shops.open();
    await call.given(shop);
    const endMs = shop.nowMs - 1 + periodMs;
    const reply = await shop.run("cancelScheduledChange", { ...call.args, clock_ms: endMs });
    expect(reply).toMatchObject({ kind: "REFUSED", reason: "NO_SCHEDULED_CHANGE", position: 4 });
    expect((await shop.dump()).users).toMatchObject({ "u1:sub": expect.stringMatching(/^pro 2900 /) });
  });
});
