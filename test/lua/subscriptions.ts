import { expect } from "vitest";
import { type Arguments, expiryIdOf, type LuaShop } from "./fixture.ts";

/** A period of a subscription: 30 days, in milliseconds. */
export const periodMs = 2_592_000_000;

/** The tiers every shop is born with: price, projects, storage, calls. */
const tiers = {
  free: [0, 3, 1024, 1000],
  pro: [2900, 100, 102_400, 100_000],
  enterprise: [9900, 999, 1_048_576, 999_999_999],
} as const;

/** A tier of {@link givenTiers}. */
export type TierName = keyof typeof tiers;

/** Gives a shop the tiers that a rebuild brings. */
export async function givenTiers(shop: LuaShop): Promise<void> {
  const terms = Object.entries(tiers).flatMap(([tier, values]) => [`${tier}:terms`, values.join(" ")]);
  await shop.redis.hset(shop.keys.tiers as string, ...terms);
}

/** Gives a tier another price. */
export async function reprice(shop: LuaShop, tier: string, price: number): Promise<void> {
  await shop.commit("putTier", { ...putTierArguments, tier, price_credits: price });
}

/** PutTier that leaves everything as it is. */
export const putTierArguments: Arguments = {
  price_credits: "",
  max_projects: "",
  max_storage_mb: "",
  max_api_calls: "",
};

/** ChangeTier now, for the full difference, without a quote. */
export const changeArguments: Arguments = {
  user_id: "u1",
  tier: "pro",
  proration: 1,
  timing: 1,
  quote_position: "",
  quote_price: "",
  quote_charged: "",
  quote_credited: "",
  quote_expire_ms: "",
};

/** Creates a user with credits, puts the user on a tier, and returns when the period began. */
export async function givenSubscriber(
  shop: LuaShop,
  userId: string,
  tier: TierName = "free",
  credits = 10_000,
): Promise<number> {
  await shop.user(userId);
  const startMs = shop.nowMs;
  if (tier !== "free") {
    await setCredits(shop, userId, tiers[tier][0]);
    await shop.commit("changeTier", { ...changeArguments, user_id: userId, tier });
  }
  await setCredits(shop, userId, credits);
  return startMs;
}

/** Makes a user have so many credits. */
export async function setCredits(shop: LuaShop, userId: string, credits: number): Promise<void> {
  await shop.redis.hset(shop.keys.users as string, `${userId}:credits`, String(credits));
}

/** Schedules a change of tier for the period's end. */
export async function schedule(shop: LuaShop, userId: string, tier: TierName): Promise<void> {
  await shop.commit("changeTier", { ...changeArguments, user_id: userId, tier, timing: 2 });
}

/** A Subscription as it stands in events; the period is the user's first unless a test says. */
export function subscriptionJson(tier: TierName, startMs: number, fields: object): object {
  const [price, max_projects, max_storage_mb, max_api_calls] = tiers[tier];
  return {
    user_id: "u1",
    tier,
    price_credits: price,
    limits: { max_projects, max_storage_mb, max_api_calls },
    period_start_time: startMs,
    period_end_time: startMs + periodMs,
    ...fields,
  };
}

/** The field `<id>:sub` of a user. */
export function subscriptionText(
  tier: TierName,
  startMs: number,
  { scheduled = "", position, updatedMs, price = tiers[tier][0] }: SubscriptionFields,
): string {
  return `${tier} ${price} ${startMs} ${startMs + periodMs} ${scheduled} ${position} ${updatedMs}`;
}

interface SubscriptionFields {
  readonly scheduled?: string;
  readonly position: number;
  readonly updatedMs: number;
  readonly price?: number;
}

/** The id of the renewal that a run commits before its own commit: the run's UUIDv7 as a UUIDv8, no expiry's. */
export function renewalIdOf(commitId: string): string {
  const nibble = (15 - Number.parseInt(commitId.charAt(15), 16)).toString(16);
  const id = `${commitId.slice(0, 14)}8${nibble}${commitId.slice(16)}`;
  expect(id).not.toBe(expiryIdOf(commitId));
  return id;
}
