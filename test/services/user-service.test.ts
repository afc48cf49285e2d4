import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { Client } from "pg";
import { describe, expect, test } from "vitest";
import { expectRefusal } from "../helpers/refusals.ts";
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
    const { user, commit } = await clients().users.createUser(request);
    const now = timestampFromMs(clock.nowMs);
    expect(user).toMatchObject({
      userId: "ann",
      email: " Ann@Example.com",
      displayName: 'Ann "A" \\ 😀 %d',
      balanceMinor: 0n,
      credits: 100n,
      tier: "free",
      referralCode: "",
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

  test("CreateUser keeps personal data out of the events and the stored request", async () => {
    const shopId = await createShop(clients());
    await clients().users.createUser({ shopId, userId: "ann", email: "secret@x.example", displayName: "Secret Name" });
    const { events } = await clients().events.listEvents({ shopId });
    expect(events.at(-1)?.payload).toMatchObject({
      case: "userCreated",
      value: { user: { userId: "ann", email: "", displayName: "" } },
    });
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
    ] as const) {
      await expectRefusal(clients(), shopId, () => clients().users.createUser({ ...request, ...other }), {
        code: Code.AlreadyExists,
        reason: "USER_EXISTS",
        metadata: expect.objectContaining({ field }),
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

  test("an unknown user is refused", async () => {
    const shopId = await createShop(clients());
    for (const call of [
      () => clients().users.getUser({ shopId, userId: "none" }),
      () => clients().users.depositFunds({ shopId, userId: "none", amountMinor: 1n }),
    ]) {
      await expectRefusal(clients(), shopId, call, {
        code: Code.NotFound,
        reason: "USER_NOT_FOUND",
        metadata: expect.objectContaining({ user_id: "none" }),
      });
    }
  });
});
