import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import {
  PaymentMethod,
  type WalletEntry,
  WalletEntryCause,
  WalletEntryKind,
} from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { expectRefusal } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
const mostMinor = 9_007_199_254_740_991n;
const { MONEY, CREDITS } = WalletEntryKind;

describe.each(["grpc", "http"] as const)("a wallet on the %s door", (door) => {
  const clients = () => holdfast[door];

  /** The whole statement of a user, newest first, in pages of three. */
  async function readStatement(shopId: string, userId: string): Promise<WalletEntry[]> {
    const found: WalletEntry[] = [];
    let pageToken = "";
    do {
      const page = await clients().users.listWalletEntries({ shopId, userId, pageSize: 3, pageToken });
      found.push(...page.entries);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return found;
  }

  /** Fails unless every row of a statement is the sum of the rows up to it, and the newest is what the user has. */
  async function expectAddsUp(shopId: string, userId: string): Promise<WalletEntry[]> {
    const newestFirst = await readStatement(shopId, userId);
    const sums = { [MONEY]: 0n, [CREDITS]: 0n } as Record<WalletEntryKind, bigint>;
    for (const entry of newestFirst.toReversed()) {
      expect(entry.delta).not.toBe(0n);
      sums[entry.kind] += entry.delta;
      expect(entry.balanceAfter, `${WalletEntryCause[entry.cause]} at ${entry.position}`).toBe(sums[entry.kind]);
    }
    const { user } = await clients().users.getUser({ shopId, userId });
    expect({ balanceMinor: sums[MONEY], credits: sums[CREDITS] }).toEqual({
      balanceMinor: user?.balanceMinor,
      credits: user?.credits,
    });
    expect((await clients().users.listWalletEntries({ shopId, userId, pageSize: 1000 })).entries).toEqual(newestFirst);
    return newestFirst;
  }

  test("WithdrawFunds takes money out, to the last unit and no further", async () => {
    const shopId = await createShop(clients(), { users: { ann: 100 } });
    const { users } = clients();
    const withdraw = (amountMinor: bigint) => users.withdrawFunds({ shopId, userId: "ann", amountMinor });
    const expected = (balance: bigint) => ({
      code: Code.FailedPrecondition,
      reason: "INSUFFICIENT_FUNDS",
      metadata: expect.objectContaining({ required_minor: "101", balance_minor: String(balance) }),
    });
    await expectRefusal(clients(), shopId, () => withdraw(101n), expected(100n));
    const { user, commit } = await withdraw(60n);
    expect(user).toMatchObject({ balanceMinor: 40n, email: "ann@example.com", displayName: "Name of ann" });
    expect(user?.position).toBe(commit?.position);
    expect((await users.getUser({ shopId, userId: "ann" })).user).toEqual(user);
    await withdraw(40n);
    await expectRefusal(clients(), shopId, () => withdraw(101n), expected(0n));
    await users.depositFunds({ shopId, userId: "ann", amountMinor: mostMinor });
    await expectRefusal(clients(), shopId, () => users.depositFunds({ shopId, userId: "ann", amountMinor: 1n }), {
      code: Code.OutOfRange,
      reason: "BALANCE_LIMIT",
    });
    expect((await withdraw(mostMinor)).user?.balanceMinor).toBe(0n);
    await expectAddsUp(shopId, "ann");
  });

  test("GrantCredits adds credits, up to 2^53-1", async () => {
    const shopId = await createShop(clients(), { users: { ann: 0 } });
    const { users, events } = clients();
    const grant = (credits: bigint) => users.grantCredits({ shopId, userId: "ann", credits, reason: 'sorry "7"' });
    const { user, commit } = await grant(mostMinor - 101n);
    expect(user).toMatchObject({ credits: mostMinor - 1n, balanceMinor: 0n, email: "ann@example.com" });
    const { events: listed } = await events.listEvents({ shopId, afterPosition: (commit?.position ?? 0n) - 1n });
    expect(listed).toMatchObject([
      {
        subjects: ["user:ann"],
        payload: { case: "creditsGranted", value: { credits: mostMinor - 101n, reason: 'sorry "7"' } },
      },
    ]);
    await expectRefusal(clients(), shopId, () => grant(2n), {
      code: Code.OutOfRange,
      reason: "BALANCE_LIMIT",
      metadata: expect.objectContaining({ credits: String(mostMinor - 1n), granted_credits: "2" }),
    });
    expect((await grant(1n)).user?.credits).toBe(mostMinor);
    await expectAddsUp(shopId, "ann");
  });

  test("the statement says of every movement what it was, newest first", async () => {
    const shopId = await createShop(clients(), { stock: { a: 10 } });
    const { users, orders } = clients();
    const ann = { shopId, userId: "ann" };
    const at: Record<string, { position?: bigint; commitTime?: object }> = {};
    const note = (name: string, { commit }: { commit?: object | undefined }) => Object.assign(at, { [name]: commit });
    note("signup", await users.createUser({ ...ann, ownReferralCode: "ANN" }));
    note("deposit", await users.depositFunds({ ...ann, amountMinor: 700n, reference: "bank 1" }));
    const lines = [{ sku: "a", quantity: 2 }];
    note("order", await orders.placeOrder({ ...ann, orderId: "o1", lines }));
    await orders.placeOrder({ ...ann, lines, paymentMethod: PaymentMethod.NONE });
    note("withdrawal", await users.withdrawFunds({ ...ann, amountMinor: 50n, reference: "bank 2" }));
    note("grant", await users.grantCredits({ ...ann, credits: 7n, reason: "sorry" }));
    note("referral", await users.createUser({ shopId, userId: "bob", referralCode: "ANN" }));
    const entry = (name: string, index: number, kind: WalletEntryKind, delta: bigint, after: bigint, about = {}) => ({
      userId: "ann",
      position: at[name]?.position,
      commitTime: at[name]?.commitTime,
      index,
      kind,
      delta,
      balanceAfter: after,
      orderId: "",
      reference: "",
      reason: "",
      ...about,
    });
    const { SIGNUP, DEPOSIT, ORDER, WITHDRAWAL, GRANT, REFERRAL } = WalletEntryCause;
    expect(await expectAddsUp(shopId, "ann")).toMatchObject([
      entry("referral", 4, CREDITS, 500n, 607n, { cause: REFERRAL }),
      entry("grant", 0, CREDITS, 7n, 107n, { cause: GRANT, reason: "sorry" }),
      entry("withdrawal", 0, MONEY, -50n, 450n, { cause: WITHDRAWAL, reference: "bank 2" }),
      entry("order", 0, MONEY, -200n, 500n, { cause: ORDER, orderId: "o1" }),
      entry("deposit", 0, MONEY, 700n, 700n, { cause: DEPOSIT, reference: "bank 1" }),
      entry("signup", 0, CREDITS, 100n, 100n, { cause: SIGNUP }),
    ]);
    // Two more, so that a page ends between the two entries of one commit.
    for (const amountMinor of [1n, 2n]) await users.depositFunds({ shopId, userId: "bob", amountMinor });
    expect((await expectAddsUp(shopId, "bob")).slice(2)).toMatchObject([
      { index: 2, kind: CREDITS, delta: 200n, balanceAfter: 300n, cause: REFERRAL },
      { index: 0, kind: CREDITS, delta: 100n, balanceAfter: 100n, cause: SIGNUP },
    ]);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("the statement adds up at every row after orders, refunds, tiers and movements from many callers", async () => {
    const shopId = await createShop(clients(), { stock: { a: 100 }, users: { ann: 5000 } });
    const { users, orders, subscriptions } = clients();
    const ann = { shopId, userId: "ann" };
    await users.grantCredits({ ...ann, credits: 20_000n });
    const { user } = await users.getUser(ann);
    await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const amountMinor = BigInt(index + 1);
        const lines = [{ sku: "a", quantity: 1 }];
        switch (index % 5) {
          case 0:
            return users.depositFunds({ ...ann, amountMinor });
          case 1:
            return users.withdrawFunds({ ...ann, amountMinor });
          case 2:
            return users.grantCredits({ ...ann, credits: amountMinor });
          case 3:
            return users.createUser({ shopId, referralCode: user?.referralCode ?? "" });
          default: {
            const { order } = await orders.placeOrder({ ...ann, lines });
            return orders.refundOrder({ shopId, orderId: order?.orderId ?? "", amountMinor });
          }
        }
      }),
    );
    await subscriptions.changeTier({ ...ann, tier: "pro" });
    await subscriptions.changeTier({ ...ann, tier: "free" });
    const causes = new Set((await expectAddsUp(shopId, "ann")).map(({ cause }) => WalletEntryCause[cause]));
    expect([...causes].sort()).toEqual(
      ["DEPOSIT", "GRANT", "ORDER", "REFERRAL", "REFUND", "SIGNUP", "TIER_CHANGE", "WITHDRAWAL"].sort(),
    );
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("the statement's page tokens are good for its shop and user only", async () => {
    const shopId = await createShop(clients(), { users: { ann: 1, bob: 1 } });
    const other = await createShop(clients(), { users: { ann: 1 } });
    const list = clients().users.listWalletEntries;
    const { entries, nextPageToken } = await list({ shopId, userId: "ann", pageSize: 1 });
    expect(entries).toHaveLength(1);
    for (const call of [
      () => list({ shopId, userId: "bob", pageToken: nextPageToken }),
      () => list({ shopId: other, userId: "ann", pageToken: nextPageToken }),
      () => list({ shopId, userId: "ann", pageToken: `${nextPageToken}A` }),
      () => list({ shopId, userId: "ann", pageToken: "x" }),
      () => clients().users.listUsers({ shopId, pageToken: nextPageToken }),
    ]) {
      const expected = { code: Code.InvalidArgument, reason: "VALIDATION_FAILED", fields: ["page_token"] };
      await expectRefusal(clients(), shopId, call, expected);
    }
    const { entries: rest } = await list({ shopId, userId: "ann", pageSize: 1, pageToken: nextPageToken });
    expect(rest).toMatchObject([{ cause: WalletEntryCause.SIGNUP }]);
  });
});
