import { accept, answer, type Context, type Decision, refuse } from "./decision.ts";
import type { Plain } from "./plain.ts";
import { causes, giveEmail, kinds, largest, move, type Shop, touch, type User } from "./state.ts";
import { entryMessage, findByEmail, userEvent, userMessage } from "./wire.ts";

const signupCredits = 100;
const referralCredits = 200;
const rewardCredits = 500;

/** An e-mail address as it is kept: as given, unless there is nothing in it. */
function keptEmail(email: string): string {
  return email.trim() === "" ? "" : email;
}

export function createUser(shop: Shop, request: Plain, { made }: Context): Decision {
  const {
    referral_code = "",
    own_referral_code = "",
    require_referral = false,
  } = request as {
    readonly referral_code?: string;
    readonly own_referral_code?: string;
    readonly require_referral?: boolean;
  };
  const { display_name = "", ...rest } = request as { readonly email?: string; readonly display_name?: string };
  const email = keptEmail(rest.email ?? "");
  const owner = (code: string): User | undefined => shop.codes.get(code);
  if (findByEmail(shop, email) !== undefined) return refuse("EMAIL_TAKEN");
  if (owner(own_referral_code) !== undefined) return refuse("REFERRAL_CODE_TAKEN");
  const referrer = owner(referral_code);
  if (referrer === undefined && require_referral) return refuse("REFERRAL_INVALID");
  if (referrer !== undefined && referrer.credits + rewardCredits > largest) return refuse("BALANCE_LIMIT");
  return accept(() => {
    const { position, timeMs } = shop;
    const user: User = {
      id: made("user_id"),
      email: "",
      displayName: display_name,
      balance: 0,
      credits: 0,
      referralCode: made("own_referral_code"),
      referredBy: referrer?.id ?? "",
      referralCount: 0,
      orderCount: 0,
      lifetimeValue: 0,
      createTime: timeMs,
      updateTime: timeMs,
      position,
      createPosition: position,
      subscription: {
        tier: "free",
        price: 0,
        periodStart: timeMs,
        scheduledTier: "",
        updateTime: timeMs,
        position,
      },
      personal: { emails: new Set([email]), names: new Set([display_name]) },
    };
    if (owner(user.referralCode) !== undefined || user.referralCode === "")
      throw new Error("the referral code is not new");
    shop.users.set(user.id, user);
    shop.codes.set(user.referralCode, user);
    giveEmail(shop, user, email);
    move(shop, user, kinds.credits, signupCredits, causes.signup);
    if (referrer !== undefined) move(shop, user, kinds.credits, referralCredits, causes.referral);
    const made_event = { user_created: { user: userEvent(user), referral_applied: referrer !== undefined } };
    const response = { user: userMessage(user), referral_applied: referrer !== undefined };
    if (referrer === undefined) return { response, events: [made_event] };
    touch(shop, referrer);
    referrer.referralCount += 1;
    move(shop, referrer, kinds.credits, rewardCredits, causes.referral);
    const rewarded = { user: userEvent(referrer), credits: rewardCredits, referred_user_id: user.id };
    return { response, events: [made_event, { referral_rewarded: rewarded }] };
  });
}

export function updateUser(shop: Shop, request: Plain): Decision {
  const { email, display_name } = request as { readonly email?: string; readonly display_name?: string };
  const user = shop.users.get(request.user_id as string);
  if (user === undefined) return refuse("USER_NOT_FOUND");
  const owner = findByEmail(shop, email ?? "");
  if (owner !== undefined && owner !== user) return refuse("EMAIL_TAKEN");
  return accept(() => {
    giveEmail(shop, user, email === undefined ? user.email : keptEmail(email));
    user.displayName = display_name ?? user.displayName;
    user.personal.emails.add(user.email);
    user.personal.names.add(user.displayName);
    touch(shop, user);
    return { response: { user: userMessage(user) }, events: [{ user_updated: { user: userEvent(user) } }] };
  });
}

interface FundsRequest {
  readonly user_id: string;
  readonly amount_minor: number;
  readonly reference?: string;
}

export function depositFunds(shop: Shop, request: Plain): Decision {
  const { user_id, amount_minor, reference = "" } = request as unknown as FundsRequest;
  const user = shop.users.get(user_id);
  if (user === undefined) return refuse("USER_NOT_FOUND");
  if (user.balance + amount_minor > largest) return refuse("BALANCE_LIMIT");
  return accept(() => {
    touch(shop, user);
    move(shop, user, kinds.money, amount_minor, causes.deposit, { reference });
    const event = { user: userEvent(user), amount_minor, reference };
    return { response: { user: userMessage(user) }, events: [{ funds_deposited: event }] };
  });
}

export function withdrawFunds(shop: Shop, request: Plain): Decision {
  const { user_id, amount_minor, reference = "" } = request as unknown as FundsRequest;
  const user = shop.users.get(user_id);
  if (user === undefined) return refuse("USER_NOT_FOUND");
  if (user.balance < amount_minor) {
    const metadata = { required_minor: `${amount_minor}`, balance_minor: `${user.balance}` };
    return refuse("INSUFFICIENT_FUNDS", { metadata });
  }
  return accept(() => {
    touch(shop, user);
    move(shop, user, kinds.money, -amount_minor, causes.withdrawal, { reference });
    const event = { user: userEvent(user), amount_minor, reference };
    return { response: { user: userMessage(user) }, events: [{ funds_withdrawn: event }] };
  });
}

export function grantCredits(shop: Shop, request: Plain): Decision {
  const { credits, reason = "" } = request as { readonly credits: number; readonly reason?: string };
  const user = shop.users.get(request.user_id as string);
  if (user === undefined) return refuse("USER_NOT_FOUND");
  if (user.credits + credits > largest) return refuse("BALANCE_LIMIT");
  return accept(() => {
    touch(shop, user);
    move(shop, user, kinds.credits, credits, causes.grant, { reason });
    const event = { user: userEvent(user), credits, reason };
    return { response: { user: userMessage(user) }, events: [{ credits_granted: event }] };
  });
}

export function getUser(shop: Shop, request: Plain): Decision {
  const user = shop.users.get(request.user_id as string);
  return user === undefined ? refuse("USER_NOT_FOUND") : answer({ user: userMessage(user) });
}

export function lookupUser(shop: Shop, request: Plain): Decision {
  const user = findByEmail(shop, request.email as string);
  return user === undefined ? refuse("USER_NOT_FOUND") : answer({ user: userMessage(user) });
}

export function listUsers(shop: Shop): Plain[] {
  return [...shop.users.values()].sort((left, right) => right.createPosition - left.createPosition).map(userMessage);
}

export function listWalletEntries(shop: Shop, request: Plain): Plain[] {
  return shop.statement
    .filter(({ user }) => user === request.user_id)
    .reverse()
    .map(entryMessage);
}
