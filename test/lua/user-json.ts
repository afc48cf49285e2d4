import { codeOf, startMs } from "./fixture.ts";

/** A User as it stands in events: who was created with the fixture's quiet choices, at the first run after the shop's birth. */
export function userJson(fields: { user_id: string } & Record<string, unknown>): object {
  return {
    balance_minor: 0,
    credits: 100,
    tier: "free",
    referral_code: codeOf(fields.user_id),
    referred_by: "",
    referral_count: 0,
    order_count: 0,
    lifetime_value_minor: 0,
    create_time: startMs + 1,
    ...fields,
  };
}
