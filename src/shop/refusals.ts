import { type Reason, Refusal } from "../refusal.ts";

/** A sentence per reason that a script can give; `metadata` has the values the script named. */
const sentences: Readonly<Record<string, (metadata: Readonly<Record<string, string>>) => string>> = {
  PRODUCT_NOT_FOUND: (it) => `there is no product "${it["sku"]}"`,
  USER_NOT_FOUND: (it) =>
    it["user_id"] === "" ? "this needs a user, and none was named" : `there is no user "${it["user_id"]}"`,
  HOLD_NOT_FOUND: (it) => `there is no hold "${it["hold_id"]}"`,
  HOLD_EXPIRED: (it) => `hold "${it["hold_id"]}" expired`,
  HOLD_RELEASED: (it) => `hold "${it["hold_id"]}" was released`,
  HOLD_COMMITTED: (it) => `hold "${it["hold_id"]}" became an order`,
  HOLD_LIMIT_REACHED: (it) => `hold "${it["hold_id"]}" would live longer than 24 hours`,
  ORDER_NOT_FOUND: (it) => `there is no order "${it["order_id"]}"`,
  ORDER_STATE_INVALID: (it) => `order "${it["order_id"]}" is ${it["state"]}`,
  REFUND_EXCEEDS_PAID: (it) =>
    `of ${it["paid_minor"]} paid for order "${it["order_id"]}", ${it["refunded_minor"]} were refunded; ${it["amount_minor"]} are too much`,
  EMAIL_TAKEN: () => "another user has this e-mail address",
  REFERRAL_CODE_TAKEN: (it) => `another user has the referral code "${it["own_referral_code"]}"`,
  REFERRAL_INVALID: (it) => `nobody has the referral code "${it["referral_code"]}"`,
  STOCK_CHANGED: (it) => `"${it["sku"]}" has ${it["available_count"]} available, not ${it["expected_available_count"]}`,
  NOT_ON_SALE: (it) => `"${it["sku"]}" is not on sale`,
  PRICE_CHANGED: (it) => `"${it["sku"]}" costs ${it["price_minor"]}, not ${it["expected_minor"]}`,
  PER_USER_LIMIT: (it) =>
    `a user may have ${it["limit"]} of "${it["sku"]}": had ${it["had_count"]}, asked for ${it["requested_count"]}`,
  SOLD_OUT: (it) => `"${it["sku"]}" has ${it["available_count"]} available, ${it["requested_count"]} were asked for`,
  HELD_OUT: (it) =>
    `"${it["sku"]}" has ${it["available_count"]} available and ${it["held_count"]} held, ${it["requested_count"]} were asked for`,
  INSUFFICIENT_FUNDS: (it) => `the wallet has ${it["balance_minor"]}, ${it["required_minor"]} are needed`,
  TIER_NOT_FOUND: (it) => `there is no tier "${it["tier"]}"`,
  QUOTE_INVALID: () => "the quote was not made for this user of this shop",
  QUOTE_STALE: (it) => `the quote for tier "${it["tier"]}" expired, or the tier's price or the subscription changed`,
  ALREADY_ON_TIER: (it) => `user "${it["user_id"]}" is on tier "${it["tier"]}" already`,
  NO_SCHEDULED_CHANGE: (it) => `user "${it["user_id"]}" has no scheduled change of tier`,
  INSUFFICIENT_CREDITS: (it) => `the wallet has ${it["credits"]} credits, ${it["required_credits"]} are needed`,
  BALANCE_LIMIT: () => "a sum would pass 2^53-1",
};

/** Script reasons that are the caller's malformed request: the field, and what is wrong with it. */
const malformed: Readonly<Record<string, readonly [field: string, description: string]>> = {
  PRICE_REQUIRED: ["price_minor", "is required for a new product"],
  TIER_PRICE_REQUIRED: ["price_credits", "is required for a new tier"],
  TIER_LIMITS_REQUIRED: ["limits", "are required for a new tier"],
  FREE_TIER_PRICE: ["price_credits", "must be 0 for the tier free"],
  SALE_WINDOW: ["sale_end_time", "must be after sale_start_time"],
  RESTOCK_PARTIAL: [
    "restock",
    "needs a refund of all that is left; name the units of a partial refund in restock_lines",
  ],
  RESTOCK_EXCEEDS_SOLD: ["restock_lines", "names more units than the order has that were not given back yet"],
};

/** What a script said when it refused. */
export interface ScriptRefusal {
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryMs: number | undefined;
  readonly violations: readonly { readonly reason: string; readonly metadata: Readonly<Record<string, string>> }[];
}

/** Turns a script's refusal into the one the caller gets. */
export function refusalOf(
  { reason, metadata, retryMs, violations }: ScriptRefusal,
  position: number,
  epoch: number,
): Refusal {
  const where = { position: String(position), epoch: String(epoch) };
  const bad = malformed[reason];
  if (bad !== undefined) {
    const [field, description] = bad;
    return new Refusal("VALIDATION_FAILED", `${field} ${description}`, {
      metadata: where,
      fieldViolations: [{ field, description }],
    });
  }
  return new Refusal(reason as Reason, sentenceOf(reason, metadata), {
    metadata: { ...readable(metadata), ...where },
    ...(retryMs === undefined ? {} : { retryMs }),
    ...(violations.length === 0
      ? {}
      : {
          subjectViolations: violations.map((violation) => ({
            reason: violation.reason as Reason,
            subject: `sku:${violation.metadata["sku"]}`,
            description: sentenceOf(violation.reason, violation.metadata),
          })),
        }),
  });
}

function sentenceOf(reason: string, metadata: Readonly<Record<string, string>>): string {
  const sentence = sentences[reason];
  if (sentence === undefined) {
    throw new Error(`a script refused with "${reason}", which has no sentence`);
  }
  return sentence(metadata);
}

/** Scripts give times in milliseconds; callers read RFC 3339. */
function readable(metadata: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(metadata).map(([name, value]) =>
    name.endsWith("_ms") ? [name.replace(/_ms$/, "_time"), new Date(Number(value)).toISOString()] : [name, value],
  );
  return Object.fromEntries(entries);
}
