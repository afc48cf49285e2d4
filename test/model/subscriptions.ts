import { accept, answer, type Context, type Decision, late, type Refused, refuse, refuseField } from "./decision.ts";
import type { Plain } from "./plain.ts";
import {
  causes,
  currentSubscription,
  isRenewalDue,
  kinds,
  largest,
  move,
  periodMs,
  type Shop,
  type Subscription,
  type Tier,
  touch,
  type User,
} from "./state.ts";
import { subscriptionMessage, tierMessage } from "./wire.ts";

const prorations = { full: 1, timeBased: 2 } as const;
const timings = { now: 1, periodEnd: 2 } as const;
const tierCauses = { caller: 1, scheduled: 2, renewalFailed: 3 } as const;

/** How long a quote is honoured. */
const quoteMs = 300_000;

export function putTier(shop: Shop, request: Plain): Decision {
  const { tier, price_credits, limits } = request as {
    readonly tier: string;
    readonly price_credits?: number;
    readonly limits?: Plain;
  };
  const found = shop.tiers.get(tier);
  const price = price_credits ?? found?.price;
  if (price === undefined) return refuseField("price_credits");
  const allowed = limits ?? found?.limits;
  if (allowed === undefined) return refuseField("limits");
  return accept(() => {
    const item: Tier = { tier, price, limits: allowed };
    shop.tiers.set(tier, item);
    const response = { tier: tierMessage(item) };
    return { response, events: [{ tier_put: response }] };
  });
}

/** The part of a price that is left of a period. */
export function priceLeft(price: number, secondsLeft: number): number {
  return Number((BigInt(price) * BigInt(secondsLeft)) / 2_592_000n);
}

/** What a change now costs: positive is charged, negative credited. */
function costOf(current: Subscription, price: number, proration: number, now: number): number {
  if (proration === prorations.full) return price - current.price;
  const secondsLeft = Math.floor((current.periodStart + periodMs - now) / 1000);
  return priceLeft(price, secondsLeft) - priceLeft(current.price, secondsLeft);
}

/** What a quote said and rests on; the model finds it by its token. */
export interface Quote {
  readonly user: string;
  readonly tier: string;
  readonly proration: number;
  readonly timing: number;
  readonly cost: number;
  readonly price: number;
  readonly subscriptionPosition: number;
  readonly expireTime: number;
}

/** The quotes of a shop by token. Quotes are not in the log, so they are not part of the shop. */
export type Quotes = Map<string, Quote>;

interface ChangeRequest {
  readonly user_id: string;
  readonly tier?: string;
  readonly proration?: number;
  readonly timing?: number;
  readonly quote_token?: string;
}

/** A change as it is asked for, with what is left out filled in. */
interface Wanted {
  readonly user: User;
  readonly target: Tier;
  readonly current: Subscription;
}

/** A user whose renewals are up to date, and the tier. */
function findWanted(shop: Shop, userId: string, tier: string, now: number): Wanted | Refused {
  const user = shop.users.get(userId);
  if (user === undefined) return refuse("USER_NOT_FOUND");
  if (isRenewalDue(user, now)) return late(`a renewal of ${userId}`);
  const target = shop.tiers.get(tier);
  if (target === undefined) return refuse("TIER_NOT_FOUND");
  return { user, target, current: currentSubscription(user, now) };
}

function fillIn(request: ChangeRequest): Required<Pick<ChangeRequest, "tier" | "proration" | "timing">> {
  const { tier = "", proration = 0, timing = 0 } = request;
  return {
    tier,
    proration: proration === 0 ? prorations.full : proration,
    timing: timing === 0 ? timings.now : timing,
  };
}

export function createPreview(quotes: Quotes) {
  return (shop: Shop, request: Plain, { now, made }: Context): Decision => {
    const { user_id } = request as unknown as ChangeRequest;
    const { tier, proration, timing } = fillIn(request as unknown as ChangeRequest);
    const wanted = findWanted(shop, user_id, tier, now);
    if ("kind" in wanted) return wanted;
    const { current, target } = wanted;
    if (tier === current.tier) return refuse("ALREADY_ON_TIER");
    const cost = timing === timings.now ? costOf(current, target.price, proration, now) : 0;
    const periodEnd = current.periodStart + periodMs;
    const token = made("quote_token");
    const expireTime = Math.min(now + quoteMs, periodEnd);
    const subscriptionPosition = current.position;
    quotes.set(token, {
      user: user_id,
      tier,
      proration,
      timing,
      cost,
      price: target.price,
      subscriptionPosition,
      expireTime,
    });
    const quote = {
      quote_token: token,
      user_id,
      from_tier: current.tier,
      to_tier: tier,
      proration,
      timing,
      charged_credits: Math.max(cost, 0),
      credited_credits: Math.max(-cost, 0),
      effective_time: timing === timings.now ? now : periodEnd,
      expire_time: expireTime,
    };
    return answer({ quote });
  };
}

/** Whether the fields beside a quote of the user's own are the quote's. */
export function createQuoteCheck(quotes: Quotes) {
  return (request: Plain): Refused | undefined => {
    const asked = request as unknown as ChangeRequest;
    const quote = quotes.get(asked.quote_token ?? "");
    if (quote?.user !== asked.user_id) return undefined;
    for (const name of ["tier", "proration", "timing"] as const) {
      const value = asked[name];
      if (value !== undefined && value !== "" && value !== 0 && value !== quote[name]) return refuseField(name);
    }
    return undefined;
  };
}

export function createChangeTier(quotes: Quotes) {
  return (shop: Shop, request: Plain, { now }: Context): Decision => {
    const asked = request as unknown as ChangeRequest;
    const token = asked.quote_token ?? "";
    const quote = quotes.get(token);
    if (token !== "" && quote?.user !== asked.user_id) return refuse("QUOTE_INVALID");
    const { tier, proration, timing } = quote ?? fillIn(asked);
    const wanted = findWanted(shop, asked.user_id, tier, now);
    if ("kind" in wanted) return wanted;
    const { user, target, current } = wanted;
    if (quote !== undefined) {
      const isSame = quote.subscriptionPosition === current.position && quote.price === target.price;
      if (!isSame || now >= quote.expireTime) return refuse("QUOTE_STALE");
    }
    if (tier === current.tier) return refuse("ALREADY_ON_TIER");
    const cost = quote?.cost ?? (timing === timings.now ? costOf(current, target.price, proration, now) : 0);
    if (cost > user.credits) {
      const metadata = { required_credits: `${cost}`, credits: `${user.credits}` };
      return refuse("INSUFFICIENT_CREDITS", { metadata });
    }
    const { upgradeCredits, downgradeCredits } = shop.stats;
    const isPast = upgradeCredits + Math.max(cost, 0) > largest || downgradeCredits - Math.min(cost, 0) > largest;
    if (user.credits - cost > largest || (cost !== 0 && isPast)) return refuse("BALANCE_LIMIT");
    return accept(() =>
      timing === timings.now
        ? changeNow(shop, user, current, target, proration, cost)
        : schedule(shop, user, current, target.tier),
    );
  };
}

function schedule(shop: Shop, user: User, current: Subscription, tier: string) {
  const { position, timeMs: updateTime } = shop;
  user.subscription = { ...current, scheduledTier: tier, position, updateTime };
  const subscription = subscriptionMessage(shop, user);
  const event = { subscription, from_tier: current.tier, to_tier: tier };
  return { response: { subscription }, events: [{ tier_change_scheduled: event }] };
}

function changeNow(shop: Shop, user: User, current: Subscription, target: Tier, proration: number, cost: number) {
  const { periodStart } = current;
  const change = moveToTier(shop, user, target.tier, target.price, periodStart, proration, tierCauses.caller, cost);
  const { subscription, charged_credits, credited_credits } = change as Plain;
  return { response: { subscription, charged_credits, credited_credits }, events: [{ tier_changed: change }] };
}

/** Puts a user on a tier; returns the event's payload. */
function moveToTier(
  shop: Shop,
  user: User,
  tier: string,
  price: number,
  periodStart: number,
  proration: number,
  cause: number,
  cost: number,
): Plain {
  const from_tier = user.subscription.tier;
  const { position, timeMs } = shop;
  user.subscription = { tier, price, periodStart, scheduledTier: "", updateTime: timeMs, position };
  touch(shop, user);
  move(shop, user, kinds.credits, -cost, causes.tierChange);
  shop.stats.upgradeCredits += Math.max(cost, 0);
  shop.stats.downgradeCredits += Math.max(-cost, 0);
  const change = {
    from_tier,
    to_tier: tier,
    proration,
    cause,
    charged_credits: Math.max(cost, 0),
    credited_credits: Math.max(-cost, 0),
  };
  shop.tierChanges.push({ user: user.id, wire: { ...change, position, commit_time: timeMs } });
  return { subscription: subscriptionMessage(shop, user), ...change, credits: user.credits };
}

/** Ends a period that is due; returns the event. */
export function endPeriod(shop: Shop, user: User): Plain {
  const { subscription } = user;
  const { tier, scheduledTier, periodStart } = subscription;
  const next = scheduledTier === "" ? tier : scheduledTier;
  const price = shop.tiers.get(next)?.price as number;
  const start = periodStart + periodMs;
  if (price > user.credits) {
    return { tier_changed: moveToTier(shop, user, "free", 0, start, 0, tierCauses.renewalFailed, 0) };
  }
  if (scheduledTier !== "") {
    return { tier_changed: moveToTier(shop, user, next, price, start, 0, tierCauses.scheduled, price) };
  }
  const { position, timeMs: updateTime } = shop;
  user.subscription = { ...subscription, price, periodStart: start, position, updateTime };
  touch(shop, user);
  move(shop, user, kinds.credits, -price, causes.renewal);
  const renewed = subscriptionMessage(shop, user);
  return { subscription_renewed: { subscription: renewed, charged_credits: price, credits: user.credits } };
}

export function cancelScheduledChange(shop: Shop, request: Plain, { now }: Context): Decision {
  const user = shop.users.get(request.user_id as string);
  if (user === undefined) return refuse("USER_NOT_FOUND");
  if (isRenewalDue(user, now)) return late(`a renewal of ${user.id}`);
  const { scheduledTier } = user.subscription;
  if (scheduledTier === "") return refuse("NO_SCHEDULED_CHANGE");
  return accept(() => {
    const { position, timeMs: updateTime } = shop;
    user.subscription = { ...user.subscription, scheduledTier: "", position, updateTime };
    const subscription = subscriptionMessage(shop, user);
    return {
      response: { subscription },
      events: [{ tier_change_cancelled: { subscription, scheduled_tier: scheduledTier } }],
    };
  });
}

export function getSubscription(shop: Shop, request: Plain, { now }: Context): Decision {
  const user = shop.users.get(request.user_id as string);
  if (user === undefined) return refuse("USER_NOT_FOUND");
  if (isRenewalDue(user, now)) return late(`a renewal of ${user.id}`);
  return answer({ subscription: subscriptionMessage(shop, user, currentSubscription(user, now)) });
}

export function listTiers(shop: Shop): Plain[] {
  const tiers = [...shop.tiers.values()];
  return tiers.sort((left, right) => (left.tier < right.tier ? -1 : 1)).map(tierMessage);
}

export function listTierChanges(shop: Shop, request: Plain): Plain[] {
  return shop.tierChanges
    .filter(({ user }) => user === request.user_id)
    .map(({ wire }) => wire)
    .reverse();
}
