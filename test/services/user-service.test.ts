import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { Client } from "pg";
import { describe, expect, test } from "vitest";
import type { User } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { readRedisState } from "../helpers/redis-state.ts";
import { expectRefusal, readRefusal, refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** The shops' clock stands still until a test moves it on; it is ahead of the real one, which CreateShop reads. */
const clock = { nowMs: Date.now() + 3_600_000 };
const holdfast = useHoldfast({ clock: () => clock.nowMs });
const mostMinor = 9_007_199_254_740_991n;

describe.each(["grpc", "http"] as const)("UserService on the %s door", (door) => {
  const clients = () => holdfast[door];

  test("CreateUser makes a user with 100 credits", async () => {
    const shopId = await createShop(clients());
    const request = { shopId, userId: "ann", email: " Ann@Example.com", displayName: 'Ann "A" \\ 😀 %d' };
    const { user, referralApplied, commit } = await clients().users.createUser(request);
    expect(referralApplied).toBe(false);
    const now = timestampFromMs(clock.nowMs);
    expect(user).toMatchObject({
      userId: "ann",
      email: " Ann@Example.com",
      displayName: 'Ann "A" \\ 😀 %d',
      balanceMinor: 0n,
      credits: 100n,
      tier: "free",
      referralCode: expect.stringMatching(/^[2-9A-HJ-NP-Z]{16}$/),
      referredBy: "",
      referralCount: 0n,
      orderCount: 0n,
      lifetimeValueMinor: 0n,
      createTime: now,
      updateTime: now,
      position: commit?.position,
    });
    const found = await clients().users.getUser({ shopId, userId: "ann" });
    expect(found).toMatchObject({ user, asOf: { position: commit?.position, epoch: 1n } });
  });

  test("CreateUser makes an id, and lets any number of users have no e-mail", async () => {
    const shopId = await createShop(clients());
    const { user } = await clients().users.createUser({ shopId });
    expect(user?.userId).toMatch(/^[0-9a-f-]{36}$/);
    const blank = await clients().users.createUser({ shopId, email: "  " });
    expect(blank.user?.userId).not.toBe(user?.userId);
  });

  test("e-mails and names are in no event and no stored request", async () => {
    const shopId = await createShop(clients());
    const { users } = clients();
    const secret = { email: "secret@x.example", displayName: "Secret Name" };
    await users.createUser({ shopId, userId: "ann", ...secret, ownReferralCode: "ANN" });
    await users.updateUser({ shopId, userId: "ann", email: "SECRET@y.example", displayName: "Secret Too" });
    await users.depositFunds({ shopId, userId: "ann", amountMinor: 1n });
    await users.createUser({ shopId, userId: "bob", ...secret, referralCode: "ANN" });
    const { events } = await clients().events.listEvents({ shopId });
    expect(events.map(({ payload }) => payload.case)).toEqual([
      "shopCreated",
      "userCreated",
      "userUpdated",
      "fundsDeposited",
      "userCreated",
      "referralRewarded",
    ]);
    for (const { payload } of events.slice(1)) {
      expect(payload.value).toMatchObject({ user: { email: "", displayName: "" } });
    }
    const client = new Client({ connectionString: holdfast.database.url });
    await client.connect();
    const { rows } = await client.query("select call::text || events::text as text from commits where shop_id = $1", [
      shopId,
    ]);
    await client.end();
    expect(rows.map(({ text }) => text).join()).not.toMatch(/secret/i);
  });

  test.each([
    ["the same", "ann@x.example"],
    ["another case and blanks around it", "  ANN@x.Example "],
  ])("CreateUser refuses an e-mail that another user has: %s", async (_, email) => {
    const shopId = await createShop(clients());
    await clients().users.createUser({ shopId, userId: "ann", email: "Ann@x.example" });
    await expectRefusal(clients(), shopId, () => clients().users.createUser({ shopId, userId: "bob", email }), {
      code: Code.AlreadyExists,
      reason: "EMAIL_TAKEN",
    });
  });

  test("CreateUser repeats an equal body, and refuses another, naming the field", async () => {
    const shopId = await createShop(clients());
    const request = { shopId, userId: "ann", email: "ann@x.example", displayName: "Ann" };
    const first = await clients().users.createUser(request);
    const again = await clients().users.createUser(request);
    expect(again).toEqual({ ...first, commit: { ...first.commit, replayed: true } });
    for (const [field, other] of [
      ["email", { email: "a@x.example" }],
      ["display_name", { displayName: "Anne" }],
      ["referral_code", { referralCode: "BOB" }],
      ["own_referral_code", { ownReferralCode: first.user?.referralCode ?? "" }],
      ["require_referral", { requireReferral: true }],
    ] as const) {
      await expectRefusal(clients(), shopId, () => clients().users.createUser({ ...request, ...other }), {
        code: Code.AlreadyExists,
        reason: "USER_EXISTS",
        message: `user "ann" exists with another "${field}"`,
        metadata: expect.objectContaining({ user_id: "ann", field }),
      });
    }
  });

  test("DepositFunds adds to the wallet, up to 2^53-1", async () => {
    const shopId = await createShop(clients());
    await clients().users.createUser({ shopId, userId: "ann", email: "ann@x.example", displayName: "Ann" });
    clock.nowMs += 1000;
    const deposit = { shopId, userId: "ann", reference: 'transfer "7"' };
    const first = await clients().users.depositFunds({ ...deposit, amountMinor: mostMinor - 1n });
    expect(first.user).toMatchObject({
      userId: "ann",
      email: "ann@x.example",
      displayName: "Ann",
      balanceMinor: mostMinor - 1n,
      updateTime: timestampFromMs(clock.nowMs),
      position: first.commit?.position,
    });
    expect((await clients().users.getUser({ shopId, userId: "ann" })).user).toEqual(first.user);
    const expected = { code: Code.OutOfRange, reason: "BALANCE_LIMIT" };
    await expectRefusal(
      clients(),
      shopId,
      () => clients().users.depositFunds({ ...deposit, amountMinor: 2n }),
      expected,
    );
    const { user } = await clients().users.depositFunds({ ...deposit, amountMinor: 1n });
    expect(user?.balanceMinor).toBe(mostMinor);
    expect((await clients().users.getUser({ shopId, userId: "ann" })).user).toEqual(user);
  });

  test("CreateUser with a code gives both sides their credits in one commit, and tells watchers of both", async () => {
    const shopId = await createShop(clients());
    const { users, events } = clients();
    await users.createUser({ shopId, userId: "ann", ownReferralCode: "ann.2-X_y" });
    const request = { shopId, userId: "bob", referralCode: "ann.2-X_y", ownReferralCode: "BOB", requireReferral: true };
    const { user, referralApplied, commit } = await users.createUser(request);
    expect(referralApplied).toBe(true);
    expect(user).toMatchObject({ credits: 300n, referralCode: "BOB", referredBy: "ann", referralCount: 0n });
    const { user: referrer } = await users.getUser({ shopId, userId: "ann" });
    expect(referrer).toMatchObject({ credits: 600n, referralCount: 1n, position: commit?.position });
    expect((await users.getUser({ shopId, userId: "bob" })).user).toEqual(user);
    const listed = await events.listEvents({ shopId, afterPosition: (commit?.position ?? 0n) - 1n });
    expect(listed.events).toMatchObject([
      { index: 0, subjects: ["user:bob"], payload: { case: "userCreated", value: { user, referralApplied: true } } },
      {
        index: 1,
        subjects: ["user:ann", "user:bob"],
        payload: { case: "referralRewarded", value: { user: referrer, credits: 500n, referredUserId: "bob" } },
      },
    ]);
    const ofAnn = await events.listEvents({ shopId, subjects: ["user:ann"] });
    expect(ofAnn.events.map(({ payload }) => payload.case)).toEqual(["userCreated", "referralRewarded"]);
  });

  test("CreateUser with a code that the server made works too", async () => {
    const shopId = await createShop(clients());
    const { user: ann } = await clients().users.createUser({ shopId, userId: "ann" });
    const { user: bob } = await clients().users.createUser({ shopId, referralCode: ann?.referralCode ?? "" });
    const { user: eve } = await clients().users.createUser({ shopId, referralCode: bob?.referralCode ?? "" });
    expect(eve).toMatchObject({ credits: 300n, referredBy: bob?.userId });
    expect(new Set([ann, bob, eve].map((user) => user?.referralCode)).size).toBe(3);
  });

  test.each([
    ["nobody's", "none"],
    ["the new user's own", "OWN"],
    ["another user's in another case", "ann"],
  ])("CreateUser takes a code that is %s for none, unless one is required", async (_, referralCode) => {
    const shopId = await createShop(clients());
    await clients().users.createUser({ shopId, userId: "ann", ownReferralCode: "ANN" });
    const request = { shopId, userId: "bob", referralCode, ownReferralCode: "OWN" };
    const expected = {
      code: Code.FailedPrecondition,
      reason: "REFERRAL_INVALID",
      metadata: expect.objectContaining({ referral_code: referralCode }),
    };
    const required = () => clients().users.createUser({ ...request, requireReferral: true });
    await expectRefusal(clients(), shopId, required, expected);
    const { user, referralApplied } = await clients().users.createUser(request);
    expect(referralApplied).toBe(false);
    expect(user).toMatchObject({ credits: 100n, referredBy: "", referralCode: "OWN" });
  });

  test("CreateUser needs a code where one is required", async () => {
    const shopId = await createShop(clients());
    const call = () => clients().users.createUser({ shopId, requireReferral: true });
    await expectRefusal(clients(), shopId, call, { code: Code.FailedPrecondition, reason: "REFERRAL_INVALID" });
  });

  test("CreateUser refuses a code that another user has, also one that the server made", async () => {
    const shopId = await createShop(clients());
    const { user: ann } = await clients().users.createUser({ shopId, userId: "ann" });
    await clients().users.createUser({ shopId, userId: "bob", ownReferralCode: "BOB" });
    for (const ownReferralCode of ["BOB", ann?.referralCode ?? ""]) {
      // The code of the referrer is not for the new user either.
      const request = { shopId, userId: "eve", ownReferralCode, referralCode: "BOB" };
      await expectRefusal(clients(), shopId, () => clients().users.createUser(request), {
        code: Code.AlreadyExists,
        reason: "REFERRAL_CODE_TAKEN",
        metadata: expect.objectContaining({ own_referral_code: ownReferralCode }),
      });
    }
    await clients().users.createUser({ shopId, userId: "eve", ownReferralCode: "bob" });
  });

  test("CreateUser refuses what would take the referrer's credits past 2^53-1", async () => {
    const shopId = await createShop(clients());
    const { users } = clients();
    await users.createUser({ shopId, userId: "ann", ownReferralCode: "ANN" });
    await users.grantCredits({ shopId, userId: "ann", credits: mostMinor - 600n });
    await users.createUser({ shopId, referralCode: "ANN" });
    expect((await users.getUser({ shopId, userId: "ann" })).user?.credits).toBe(mostMinor);
    await expectRefusal(clients(), shopId, () => users.createUser({ shopId, userId: "bob", referralCode: "ANN" }), {
      code: Code.OutOfRange,
      reason: "BALANCE_LIMIT",
      metadata: expect.objectContaining({ user_id: "ann", credits: String(mostMinor) }),
    });
    await users.createUser({ shopId, userId: "bob" });
  });

  test("CreateUser decides in the order of the contract", async () => {
    const shopId = await createShop(clients());
    const { users } = clients();
    await users.createUser({ shopId, userId: "ann", email: "ann@x.example", ownReferralCode: "ANN" });
    await users.grantCredits({ shopId, userId: "ann", credits: mostMinor - 100n });
    const worst = {
      shopId,
      userId: "ann",
      email: "ANN@x.example",
      ownReferralCode: "ANN",
      referralCode: "none",
      requireReferral: true,
    };
    for (const [reason, change] of [
      ["USER_EXISTS", {}],
      ["EMAIL_TAKEN", { userId: "bob" }],
      ["REFERRAL_CODE_TAKEN", { userId: "bob", email: "" }],
      ["REFERRAL_INVALID", { userId: "bob", email: "", ownReferralCode: "" }],
      ["BALANCE_LIMIT", { userId: "bob", email: "", ownReferralCode: "", referralCode: "ANN" }],
    ] as const) {
      await expectRefusal(clients(), shopId, () => users.createUser({ ...worst, ...change }), { reason });
    }
  });

  test("one e-mail in two cases from two callers at once: exactly one gets it, and the log goes on", async () => {
    const shopId = await createShop(clients());
    await clients().users.createUser({ shopId, userId: "old", ownReferralCode: "OLD" });
    for (let round = 0; round < 10; round += 1) {
      const rival = holdfast[door === "grpc" ? "http" : "grpc"].users;
      const [lower, upper] = [`race${round}@x.example`, ` RACE${round}@X.example`];
      const calls = [
        clients().users.createUser({ shopId, userId: `a${round}`, email: lower, ownReferralCode: `A${round}` }),
        round % 2 === 0
          ? rival.createUser({ shopId, userId: `b${round}`, email: upper, referralCode: "OLD" })
          : rival.updateUser({ shopId, userId: "old", email: upper }),
      ];
      const outcomes = await Promise.allSettled(calls);
      const won = outcomes.filter((each) => each.status === "fulfilled").map(({ value }) => value.user?.userId);
      const lost = outcomes.filter((each) => each.status === "rejected").map(({ reason }) => readRefusal(reason));
      expect(lost).toMatchObject([{ code: Code.AlreadyExists, reason: "EMAIL_TAKEN" }]);
      expect(won).toHaveLength(1);
      expect((await clients().users.lookupUser({ shopId, email: lower })).user?.userId).toBe(won[0]);
    }
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("one code from two callers at once: exactly one gets it", async () => {
    const shopId = await createShop(clients());
    const create = (userId: string) => clients().users.createUser({ shopId, userId, ownReferralCode: "ONE" });
    const outcomes = await Promise.allSettled(["a", "b", "c", "d"].map(create));
    const lost = outcomes.filter((each) => each.status === "rejected").map(({ reason }) => readRefusal(reason).reason);
    expect(lost).toEqual(Array(3).fill("REFERRAL_CODE_TAKEN"));
    expect((await clients().users.listUsers({ shopId })).users).toMatchObject([{ referralCode: "ONE" }]);
  });

  test("UpdateUser changes what is given, and nothing else", async () => {
    const shopId = await createShop(clients());
    const { users } = clients();
    const created = await users.createUser({ shopId, userId: "ann", email: "ann@x.example", displayName: "Ann" });
    let present = created.user;
    for (const change of [
      { displayName: "Anna" },
      { email: " Anna@X.example" },
      { email: "", displayName: "" },
      { email: "ann@x.example", displayName: "Ann" },
      { email: "   " },
      {},
    ]) {
      clock.nowMs += 1000;
      const { user, commit } = await users.updateUser({ shopId, userId: "ann", ...change });
      const times = { updateTime: timestampFromMs(clock.nowMs), position: commit?.position };
      const blank = change.email?.trim() === "" ? { email: "" } : {};
      expect(user).toEqual({ ...present, ...change, ...blank, ...times });
      expect((await users.getUser({ shopId, userId: "ann" })).user).toEqual(user);
      present = user;
    }
  });

  test("UpdateUser moves the e-mail: the old one is free, the new one is not", async () => {
    const shopId = await createShop(clients());
    const { users } = clients();
    await users.createUser({ shopId, userId: "ann", email: "ann@x.example" });
    await users.createUser({ shopId, userId: "bob", email: "bob@x.example" });
    const take = (userId: string, email: string) => () => users.updateUser({ shopId, userId, email });
    const taken = { code: Code.AlreadyExists, reason: "EMAIL_TAKEN" };
    await expectRefusal(clients(), shopId, take("bob", " ANN@x.example"), taken);
    await take("ann", "ANN@x.example")();
    await take("ann", "new@x.example")();
    await take("bob", "Ann@x.example")();
    await expectRefusal(clients(), shopId, take("ann", "ann@x.example"), taken);
    await take("ann", "")();
    await users.createUser({ shopId, email: "new@X.example" });
    await expectRefusal(clients(), shopId, take("ann", "new@x.example"), taken);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("users who swap their e-mails among themselves never block the log", async () => {
    const shopId = await createShop(clients());
    const ids = ["a", "b", "c"];
    for (const id of ids) await clients().users.createUser({ shopId, userId: id });
    const calls = Array.from({ length: 90 }, (_, index) =>
      clients()
        .users.updateUser({
          shopId,
          userId: ids[index % 3] ?? "",
          email: ["x@x.example", "y@x.example", ""][(index * 7) % 4] ?? "",
        })
        .catch((error) => expect(readRefusal(error).reason).toBe("EMAIL_TAKEN")),
    );
    await Promise.all(calls);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("a repeated UpdateUser is answered with the user as it was, and the personal data that it did not bring as they are", async () => {
    const shopId = await createShop(clients());
    const { users } = clients();
    await users.createUser({ shopId, userId: "ann", email: "ann@x.example", displayName: "Ann" });
    const rename = { shopId, requestId: "rename", userId: "ann", displayName: "Anna" };
    const first = await users.updateUser(rename);
    await users.updateUser({ shopId, userId: "ann", email: "new@x.example", displayName: "Other" });
    await users.depositFunds({ shopId, userId: "ann", amountMinor: 5n });
    const again = await users.updateUser(rename);
    const user = { ...first.user, email: "new@x.example" };
    expect(again).toEqual({ ...first, user, commit: { ...first.commit, replayed: true } });
    const other = () => users.updateUser({ ...rename, displayName: "Annika" });
    expect(await refusalOf(other())).toMatchObject({
      reason: "REQUEST_ID_REUSED",
      metadata: { field: "display_name" },
    });
    const more = () => users.updateUser({ ...rename, email: "" });
    expect(await refusalOf(more())).toMatchObject({ reason: "REQUEST_ID_REUSED", metadata: { field: "email" } });
  });

  test("LookupUser finds who has an e-mail, however it is written", async () => {
    const shopId = await createShop(clients());
    const { users } = clients();
    const { user, commit } = await users.createUser({ shopId, userId: "ann", email: " Ann@X.example" });
    await users.createUser({ shopId, userId: "bob" });
    for (const email of ["ann@x.example", "ANN@x.EXAMPLE  ", " Ann@X.example"]) {
      expect(await users.lookupUser({ shopId, email })).toMatchObject({
        user,
        asOf: { position: (commit?.position ?? 0n) + 1n },
      });
    }
    await users.updateUser({ shopId, userId: "ann", email: "new@x.example" });
    for (const email of ["ann@x.example", "none@x.example", "  ", "%"]) {
      await expectRefusal(clients(), shopId, () => users.lookupUser({ shopId, email }), {
        code: Code.NotFound,
        reason: "USER_NOT_FOUND",
        message: "no user has this e-mail address",
      });
    }
    expect((await users.lookupUser({ shopId, email: "NEW@x.example" })).user?.userId).toBe("ann");
    const other = await createShop(clients());
    expect(await refusalOf(users.lookupUser({ shopId: other, email: "new@x.example" }))).toMatchObject({
      reason: "USER_NOT_FOUND",
    });
  });

  test("ListUsers lists the newest first, page by page", async () => {
    const shopId = await createShop(clients());
    const { users } = clients();
    expect((await users.listUsers({ shopId })).users).toEqual([]);
    const ids = ["d", "a", "c", "b", "e"];
    for (const userId of ids) await users.createUser({ shopId, userId, email: `${userId}@x.example` });
    // A change does not make a user newer.
    await users.depositFunds({ shopId, userId: "d", amountMinor: 1n });
    const found: User[] = [];
    let pageToken = "";
    do {
      const page = await users.listUsers({ shopId, pageSize: 2, pageToken });
      found.push(...page.users);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(found.map(({ userId }) => userId)).toEqual(ids.toReversed());
    expect(found).toEqual((await users.listUsers({ shopId })).users);
    expect(found[4]).toEqual((await users.getUser({ shopId, userId: "d" })).user);
    const { nextPageToken } = await users.listUsers({ shopId, pageSize: 2 });
    const other = await createShop(clients());
    for (const call of [
      () => users.listUsers({ shopId: other, pageToken: nextPageToken }),
      () => users.listUsers({ shopId, pageToken: `${nextPageToken}A` }),
      () => users.listWalletEntries({ shopId, userId: "d", pageToken: nextPageToken }),
      () => clients().inventory.listProducts({ shopId, pageToken: nextPageToken }),
    ]) {
      const expected = { code: Code.InvalidArgument, reason: "VALIDATION_FAILED", fields: ["page_token"] };
      await expectRefusal(clients(), shopId, call, expected);
    }
  });

  test("an empty Redis is filled again: codes, e-mails and wallets are as before", async () => {
    const shopId = await createShop(clients());
    const { users } = clients();
    const { user: ann } = await users.createUser({ shopId, userId: "ann", email: "ann@x.example" });
    const referralCode = ann?.referralCode ?? "";
    await users.createUser({ shopId, userId: "bob", email: "bob@x.example", ownReferralCode: "BOB", referralCode });
    await users.updateUser({ shopId, userId: "ann", email: "new@x.example" });
    await users.depositFunds({ shopId, userId: "ann", amountMinor: 700n });
    await users.withdrawFunds({ shopId, userId: "ann", amountMinor: 100n });
    await users.grantCredits({ shopId, userId: "bob", credits: 11n });
    const before = await readRedisState(holdfast.redis.url, shopId);
    const { users: listed } = await users.listUsers({ shopId });
    const direct = new Redis(holdfast.redis.url);
    await direct.flushall();
    direct.disconnect();
    expect((await users.listUsers({ shopId })).users).toEqual(listed);
    for (const [reason, change] of [
      ["EMAIL_TAKEN", { email: "NEW@x.example" }],
      ["EMAIL_TAKEN", { email: "bob@x.example" }],
      ["REFERRAL_CODE_TAKEN", { ownReferralCode: "BOB" }],
      ["REFERRAL_CODE_TAKEN", { ownReferralCode: referralCode }],
    ] as const) {
      expect(await refusalOf(users.createUser({ shopId, userId: "eve", ...change }))).toMatchObject({ reason });
    }
    // The log may differ: what is personal in it follows the rows of the users.
    const { hashes, recent } = await readRedisState(holdfast.redis.url, shopId);
    expect({ hashes, recent }).toEqual({ hashes: before.hashes, recent: before.recent });
    const tooMuch = users.withdrawFunds({ shopId, userId: "ann", amountMinor: 601n });
    expect(await refusalOf(tooMuch)).toMatchObject({ metadata: { balance_minor: "600" } });
    const eve = await users.createUser({ shopId, userId: "eve", email: "ann@x.example", referralCode });
    expect(eve.user).toMatchObject({ credits: 300n, referredBy: "ann" });
    const { user } = await users.depositFunds({ shopId, userId: "ann", amountMinor: 1n });
    expect(user).toMatchObject({ balanceMinor: 601n, credits: 1100n, referralCode, referralCount: 2n });
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("an unknown user is refused", async () => {
    const shopId = await createShop(clients());
    for (const call of [
      () => clients().users.getUser({ shopId, userId: "none" }),
      () => clients().users.updateUser({ shopId, userId: "none", email: "x@x.example" }),
      () => clients().users.depositFunds({ shopId, userId: "none", amountMinor: 1n }),
      () => clients().users.withdrawFunds({ shopId, userId: "none", amountMinor: 1n }),
      () => clients().users.grantCredits({ shopId, userId: "none", credits: 1n }),
      () => clients().users.listWalletEntries({ shopId, userId: "none" }),
    ]) {
      await expectRefusal(clients(), shopId, call, {
        code: Code.NotFound,
        reason: "USER_NOT_FOUND",
        metadata: expect.objectContaining({ user_id: "none" }),
      });
    }
  });
});
