import { type Reason, Refusal } from "../refusal.ts";

type Metadata = Readonly<Record<string, string>>;

/** A sentence per reason that a script can give; `metadata` has the values the script named. */
const sentences: Readonly<Record<string, (metadata: Metadata) => string>> = {
  PRODUCT_NOT_FOUND: (it) => `there is no product "${it["sku"]}"`,
  USER_NOT_FOUND: userSentence,
  HOLD_NOT_FOUND: (it) => `there is no hold "${it["hold_id"]}"`,
  HOLD_EXPIRED: (it) => `hold "${it["hold_id"]}" expired`,
  HOLD_RELEASED: (it) => `hold "${it["hold_id"]}" was released`,
  HOLD_COMMITTED: (it) => `hold "${it["hold_id"]}" became an order`,
  HOLD_LIMIT_REACHED: (it) => `hold "${it["hold_id"]}" would live longer than 24 hours`,
  ORDER_NOT_FOUND: (it) => `there is no order "${it["order_id"]}"`,
  ORDER_STATE_INVALID: orderStateSentence,
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
  SOLD_OUT: (it) => `"${it["sku"]}" has ${it["available_count"]} available, ${tooMuch(it)}`,
  HELD_OUT: (it) =>
    `"${it["sku"]}" has ${it["available_count"]} available and ${it["held_count"]} held, ${tooMuch(it)}`,
  INSUFFICIENT_FUNDS: (it) => `the wallet has ${it["balance_minor"]}, ${it["required_minor"]} are needed`,
  TIER_NOT_FOUND: (it) => `there is no tier "${it["tier"]}"`,
  QUOTE_INVALID: () => "the quote was not made for this user of this shop",
  QUOTE_STALE: (it) => `the quote for tier "${it["tier"]}" expired, or the tier's price or the subscription changed`,
  ALREADY_ON_TIER: (it) => `user "${it["user_id"]}" is on tier "${it["tier"]}" already`,
  NO_SCHEDULED_CHANGE: (it) => `user "${it["user_id"]}" has no scheduled change of tier`,
  INSUFFICIENT_CREDITS: (it) => `the wallet has ${it["credits"]} credits, ${it["required_credits"]} are needed`,
  BALANCE_LIMIT: () => "a sum would pass 2^53-1",
};

/** Who ends the payment of an order, by its payment method. */
const payments: Readonly<Record<string, string>> = {
  WALLET: "it was paid from the wallet when it was placed",
  EXTERNAL: "its payment is made outside: a caller confirms or cancels it",
  NONE: "it is sold without payment",
  GATEWAY: "it is paid through the gateway: the payment worker ends it",
};

function orderStateSentence(it: Metadata): string {
  const why = it["cancel_reason"] === undefined ? "" : `: ${it["cancel_reason"]}`;
  const payment = it["payment_method"] === undefined ? "" : `; ${payments[it["payment_method"]]}`;
  return `order "${it["order_id"]}" is ${it["state"]}${why}${payment}`;
}

function userSentence(it: Metadata): string {
  if (it["user_id"] !== "") {
    return `there is no user "${it["user_id"]}"`;
  }
  const why = it["sku"] === undefined ? "this" : `"${it["sku"]}" has a limit per user: it`;
  return `${why} needs a user, and none was named`;
}

/** What was wanted of a product that has less: a cart asks for units, an adjustment (`delta_count`) takes them away. */
function tooMuch(it: Metadata): string {
  const count = it["requested_count"];
  return it["delta_count"] === undefined
    ? `${count} ${count === "1" ? "was" : "were"} asked for`
    : `${count} cannot be taken away`;
}

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

/**
 * The refusal of a call whose resource exists with another body, or whose order got where it is by another call. `metadata`
 * has the resource's id, an order's state, and the `field` that differs.
 */
export function existsRefusal(reason: Reason, metadata: Metadata): Refusal {
  const sentence =
    existsSentences[reason] ?? ((it: Metadata) => `the id was used by another body: "${it["field"]}" differs`);
  return new Refusal(reason, sentence(metadata), { metadata });
}

const existsSentences: Readonly<Record<string, (metadata: Metadata) => string>> = {
  USER_EXISTS: (it) => `user "${it["user_id"]}" exists with another "${it["field"]}"`,
  ORDER_EXISTS: (it) => `order "${it["order_id"]}" exists with another "${it["field"]}"`,
  HOLD_EXISTS: (it) => `hold "${it["hold_id"]}" exists with another "${it["field"]}"`,
  ORDER_STATE_INVALID: (it) => {
    const why = it["cancel_reason"] === undefined ? "" : ` (${it["cancel_reason"]})`;
    return `order "${it["order_id"]}" is ${it["state"]} already${why}, by another call: "${it["field"]}" differs`;
  },
};

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
