import type { Fields } from "../discrepancy.ts";
import type { Events, SubscriptionEvent } from "../events.ts";
import { type Subscription, tierOf, type User } from "../model.ts";
import { type At, expect, type Folds } from "./at.ts";
import { expectNotNegative, moveCredits, touch } from "./users.ts";

/** Values of TierChangeCause. */
const cause = { caller: 1, scheduled: 2, renewalFailed: 3 } as const;

/** 30 days. */
const periodMs = 2_592_000_000;

/** Tiers and who is on them. */
export const subscriptionFolds: Folds<
  "tier_put" | "tier_changed" | "tier_change_scheduled" | "tier_change_cancelled" | "subscription_renewed"
> = {
  tier_put: (at, { tier }) => {
    at.model.tiers.set(tier.tier, tierOf(tier, at.entry.position));
  },
  tier_changed: changeTier,
  tier_change_scheduled: (at, { subscription, from_tier, to_tier }) => {
    const known = subscriber(at, subscription);
    const before = rolledOn(known, at.entry.timeMs);
    expect(at, `user:${known.id}`, { from_tier: before.tier }, { from_tier });
    setSubscription(at, known, subscription, { ...before, scheduled: to_tier });
  },
  tier_change_cancelled: (at, { subscription, scheduled_tier }) => {
    const known = subscriber(at, subscription);
    const before = rolledOn(known, at.entry.timeMs);
    expect(at, `user:${known.id}`, { scheduled_tier: before.scheduled }, { scheduled_tier: scheduled_tier ?? "" });
    setSubscription(at, known, subscription, { ...before, scheduled: "" });
  },
  subscription_renewed: (at, { subscription, charged_credits = 0, credits: left }) => {
    const known = subscriber(at, subscription);
    const before = rolledOn(known, at.entry.timeMs);
    const price = at.model.tiers.get(before.tier)?.price ?? 0;
    expectCredits(at, known, -price, left, { charged_credits: price }, { charged_credits });
    moveCredits(at, known, -charged_credits, { cause: "RENEWAL" });
    setSubscription(at, known, subscription, { ...before, price, ...nextPeriod(before) });
  },
};

function subscriber(at: At, { user_id }: SubscriptionEvent): User {
  const known = at.model.users.get(user_id);
  if (known === undefined) {
    throw new Error(`user ${user_id} was never created`);
  }
  return known;
}

/** A user's subscription as of a time: a period that costs nothing, with nothing scheduled, rolls on by itself. */
function rolledOn(known: User, nowMs: number): Subscription {
  const { createMs, createPosition } = known;
  const subscription = known.subscription ?? {
    tier: "free",
    price: 0,
    startMs: createMs,
    endMs: createMs + periodMs,
    scheduled: "",
    position: createPosition,
    updateMs: createMs,
  };
  if (isRenewed(subscription)) {
    return subscription;
  }
  const startMs = subscription.startMs + Math.floor((nowMs - subscription.startMs) / periodMs) * periodMs;
  return { ...subscription, startMs, endMs: startMs + periodMs };
}

/** Whether the end of the period does something. */
export function isRenewed({ price, scheduled }: Subscription): boolean {
  return price > 0 || scheduled !== "";
}

function nextPeriod({ endMs }: Subscription): { startMs: number; endMs: number } {
  return { startMs: endMs, endMs: endMs + periodMs };
}

function changeTier(at: At, event: Events["tier_changed"]): void {
  const { subscription, from_tier, to_tier, proration = 0, charged_credits = 0, credited_credits = 0 } = event;
  const known = subscriber(at, subscription);
  const before = rolledOn(known, at.entry.timeMs);
  const { stats, tiers } = at.model;
  const isCaller = event.cause === cause.caller;
  const price = event.cause === cause.renewalFailed ? 0 : (tiers.get(to_tier)?.price ?? 0);
  const targets: Readonly<Record<number, string>> = {
    [cause.scheduled]: before.scheduled,
    [cause.renewalFailed]: "free",
  };
  expectCredits(
    at,
    known,
    credited_credits - charged_credits,
    event.credits,
    {
      from_tier: before.tier,
      to_tier: targets[event.cause] ?? to_tier,
      charged: isCaller ? charged_credits : price,
      at_period_end: !isCaller,
    },
    {
      from_tier,
      to_tier,
      charged: charged_credits,
      at_period_end: !isCaller && before.endMs <= at.entry.timeMs,
    },
  );
  stats.tiers.set(from_tier, (stats.tiers.get(from_tier) ?? 0) - 1);
  stats.tiers.set(to_tier, (stats.tiers.get(to_tier) ?? 0) + 1);
  stats.upgradeCredits += charged_credits;
  stats.downgradeCredits += credited_credits;
  known.tier = to_tier;
  moveCredits(at, known, credited_credits - charged_credits, { cause: "TIER_CHANGE" });
  setSubscription(at, known, subscription, {
    ...before,
    ...(isCaller ? {} : nextPeriod(before)),
    tier: to_tier,
    price,
    scheduled: "",
  });
  at.model.tierChanges.set(`${known.id} ${at.entry.position}`, {
    user_id: known.id,
    position: at.entry.position,
    from_tier,
    to_tier,
    proration,
    cause: event.cause,
    charged_credits,
    credited_credits,
    commit_time: at.entry.timeMs,
  });
}

/** A change of credits by a subscription, with what else the event says of it. */
function expectCredits(at: At, known: User, delta: number, told: number, expected: Fields, found: Fields): void {
  known.credits += delta;
  touch(at, known);
  expect(at, `user:${known.id}`, { ...expected, credits: known.credits }, { ...found, credits: told });
  known.credits = told;
  expectNotNegative(at, known);
}

/** The event tells the subscription as it has to be by now; then it is believed. */
function setSubscription(at: At, known: User, event: SubscriptionEvent, next: Subscription): void {
  const { timeMs, position } = at.entry;
  const told: Subscription = {
    tier: event.tier,
    price: event.price_credits,
    startMs: event.period_start_time,
    endMs: event.period_end_time,
    scheduled: event.scheduled_tier ?? "",
    position: event.position,
    updateMs: event.update_time,
  };
  expect(at, `user:${known.id}`, { ...next, position, updateMs: timeMs }, { ...told });
  known.subscription = told;
}
