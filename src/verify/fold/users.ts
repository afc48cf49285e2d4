import { describe } from "../discrepancy.ts";
import type { Events, UserEvent } from "../events.ts";
import type { User } from "../model.ts";
import { type At, changedNow, contradict, credits, enter, expect, type Folds, money } from "./at.ts";

const signupCredits = 100;
const referredCredits = 200;
const referrerCredits = 500;

/** Users and their wallets. */
export const userFolds: Folds<
  "user_created" | "referral_rewarded" | "user_updated" | "funds_deposited" | "funds_withdrawn" | "credits_granted"
> = {
  user_created: createUser,
  referral_rewarded: (at, { user, credits: reward, referred_user_id }) => {
    const known = userOf(at, user);
    known.credits += reward;
    known.referralCount += 1;
    const referred = at.model.users.get(referred_user_id)?.referredBy;
    expect(
      at,
      `user:${user.user_id}`,
      { credits: referrerCredits, of: user.user_id },
      { credits: reward, of: referred },
    );
    expectUser(at, known, user);
    moveCredits(at, known, reward, { cause: "REFERRAL" });
  },
  user_updated: (at, { user }) => {
    const known = userOf(at, user);
    known.profilePosition = at.entry.position;
    expectUser(at, known, user);
  },
  funds_deposited: (at, { user, amount_minor, reference }) => fund(at, user, amount_minor, "DEPOSIT", reference ?? ""),
  funds_withdrawn: (at, { user, amount_minor, reference }) =>
    fund(at, user, -amount_minor, "WITHDRAWAL", reference ?? ""),
  credits_granted: (at, { user, credits: granted, reason }) => {
    const known = userOf(at, user);
    known.credits += granted;
    expectUser(at, known, user);
    moveCredits(at, known, granted, { cause: "GRANT", reason: reason ?? "" });
  },
};

function createUser(at: At, { user, referral_applied = false }: Events["user_created"]): void {
  const code = user.referral_code ?? "";
  const referrer = user.referred_by ?? "";
  const bonus = referral_applied ? referredCredits : 0;
  expect(
    at,
    `user:${user.user_id}`,
    {
      used_before: false,
      balance: 0,
      credits: signupCredits + bonus,
      tier: "free",
      code_owner: "",
      referred: referral_applied,
      referral_count: 0,
      orders: 0,
      lifetime: 0,
      create_time: at.entry.timeMs,
      ...changedNow(at),
    },
    {
      used_before: at.model.users.has(user.user_id),
      balance: user.balance_minor,
      credits: user.credits,
      tier: user.tier ?? "free",
      code_owner: code === "" ? "" : (at.model.codes.get(code) ?? ""),
      referred: referrer !== "" && at.model.users.has(referrer),
      referral_count: user.referral_count ?? 0,
      orders: user.order_count,
      lifetime: user.lifetime_value_minor,
      create_time: user.create_time,
      update_time: user.update_time,
      position: user.position,
    },
  );
  const made = addUser(at, user);
  const { stats, codes } = at.model;
  if (code !== "") {
    codes.set(code, made.id);
  }
  stats.tiers.set("free", (stats.tiers.get("free") ?? 0) + 1);
  enter(at, credits, `user:${made.id}`, signupCredits, signupCredits, "credits", { cause: "SIGNUP" });
  moveCredits(at, made, made.credits - signupCredits, { cause: "REFERRAL" });
}

function addUser(at: At, user: UserEvent): User {
  const made: User = {
    id: user.user_id,
    balance: user.balance_minor,
    credits: user.credits,
    tier: user.tier ?? "free",
    code: user.referral_code ?? "",
    referredBy: user.referred_by ?? "",
    referralCount: user.referral_count ?? 0,
    orders: user.order_count,
    lifetime: user.lifetime_value_minor,
    createMs: user.create_time,
    updateMs: user.update_time,
    createPosition: at.entry.position,
    position: at.entry.position,
    profilePosition: at.entry.position,
    subscription: undefined,
  };
  at.model.users.set(made.id, made);
  return made;
}

function userOf(at: At, user: UserEvent): User {
  const known = at.model.users.get(user.user_id);
  if (known !== undefined) {
    return known;
  }
  contradict(at, `user:${user.user_id}`, "a user who was created before", "");
  return addUser(at, user);
}

/** The event tells the user as the model has it by now; then it is believed. */
function expectUser(at: At, known: User, user: UserEvent): void {
  touch(at, known);
  expect(
    at,
    `user:${known.id}`,
    {
      balance: known.balance,
      credits: known.credits,
      tier: known.tier,
      referral_code: known.code,
      referred_by: known.referredBy,
      referral_count: known.referralCount,
      orders: known.orders,
      lifetime: known.lifetime,
      create_time: known.createMs,
      ...changedNow(at),
    },
    {
      balance: user.balance_minor,
      credits: user.credits,
      tier: user.tier ?? known.tier,
      referral_code: user.referral_code ?? known.code,
      referred_by: user.referred_by ?? known.referredBy,
      referral_count: user.referral_count ?? known.referralCount,
      orders: user.order_count,
      lifetime: user.lifetime_value_minor,
      create_time: user.create_time,
      update_time: user.update_time,
      position: user.position,
    },
  );
  known.balance = user.balance_minor;
  known.credits = user.credits;
  known.referralCount = user.referral_count ?? known.referralCount;
  known.orders = user.order_count;
  known.lifetime = user.lifetime_value_minor;
  expectNotNegative(at, known);
}

/** Nobody has less than nothing. */
export function expectNotNegative(at: At, known: User): void {
  if (known.balance < 0 || known.credits < 0) {
    contradict(
      at,
      `user:${known.id}`,
      "no negative balance",
      describe({ balance: known.balance, credits: known.credits }),
    );
  }
}

/** The commit changed the user's row. */
export function touch(at: At, known: User): void {
  known.updateMs = at.entry.timeMs;
  known.position = at.entry.position;
}

function fund(at: At, user: UserEvent, delta: number, why: string, reference: string): void {
  const known = userOf(at, user);
  known.balance += delta;
  expectUser(at, known, user);
  enter(at, money, `user:${known.id}`, delta, known.balance, "funding", { cause: why, reference });
}

/** Credits that the shop gave, or got back. */
export function moveCredits(at: At, known: User, delta: number, about: { cause: string; reason?: string }): void {
  enter(at, credits, `user:${known.id}`, delta, known.credits, "credits", about);
}
