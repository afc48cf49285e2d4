import { ChangeTiming, ProrationMode } from "../../gen/holdfast/v1/resources_pb.js";
import {
  type ChangeTierRequest,
  type TierChangeQuote,
  TierChangeQuoteSchema,
} from "../../gen/holdfast/v1/subscription_service_pb.js";
import type { QuoteTokens, TierQuote } from "../postgres/quote-token.ts";
import { validationFailed } from "../server/validation-interceptor.ts";
import { shopIdOf } from "../shop/ids.ts";
import { messageFromLog } from "../shop/messages.ts";

/** What `lua/preview_tier_change.lua` answers: a quote, what its amounts are made of, and what it rests on. */
export interface PreviewJson {
  readonly user_id: string;
  readonly from_tier: string;
  readonly to_tier: string;
  readonly proration: number;
  readonly timing: number;
  readonly charged_credits: number;
  readonly credited_credits: number;
  readonly effective_time: number;
  readonly expire_time: number;
  /** What the new tier costs now, and what the old one gives back. */
  readonly cost_credits: number;
  readonly back_credits: number;
  /** The new tier's price of a period. */
  readonly price_credits: number;
  readonly seconds_left: number;
  readonly position: number;
}

/** The proration and timing a request means. */
export function prorationOf(proration: ProrationMode): ProrationMode {
  return proration === ProrationMode.UNSPECIFIED ? ProrationMode.FULL_DIFFERENCE : proration;
}

/** The same for the timing. */
export function timingOf(timing: ChangeTiming): ChangeTiming {
  return timing === ChangeTiming.UNSPECIFIED ? ChangeTiming.NOW : timing;
}

/** Makes the quote that a caller gets of what the script computed. */
export function quoteMessage(shopId: string, preview: PreviewJson, tokens: QuoteTokens): TierChangeQuote {
  const quoteToken = tokens.make({
    shopId,
    userId: preview.user_id,
    toTier: preview.to_tier,
    proration: preview.proration,
    timing: preview.timing,
    chargedCredits: preview.charged_credits,
    creditedCredits: preview.credited_credits,
    priceCredits: preview.price_credits,
    position: preview.position,
    expireMs: preview.expire_time,
  });
  return messageFromLog(TierChangeQuoteSchema, { ...preview, quote_token: quoteToken, lines: linesOf(preview) });
}

/** What the amounts of a quote are made of; the lines add up to them. */
function linesOf(preview: PreviewJson): { description: string; credits: number }[] {
  const { from_tier, to_tier, timing, proration, seconds_left, price_credits, cost_credits, back_credits } = preview;
  if (timing === ChangeTiming.PERIOD_END) {
    const description = `${to_tier}: charged when it begins, at its price of then (${price_credits} today)`;
    return [{ description, credits: 0 }];
  }
  const part =
    proration === ProrationMode.TIME_BASED ? `${seconds_left} of 2592000 seconds of the period` : "the period";
  return [
    { description: `${to_tier}: ${part}`, credits: cost_credits },
    ...(back_credits === 0 ? [] : [{ description: `${from_tier}: ${part}, given back`, credits: -back_credits }]),
  ];
}

/**
 * What `lua/change_tier.lua` takes after the arguments of every call. A quote that was not made for this user of this shop
 * goes there too, as position 0: a known request id is answered first.
 */
export function changeArguments(req: ChangeTierRequest, tokens: QuoteTokens): (string | number)[] {
  const proration = prorationOf(req.proration);
  const timing = timingOf(req.timing);
  if (req.quoteToken === "") {
    return [req.userId, req.tier, proration, timing, "", "", "", "", ""];
  }
  const quote = tokens.read(req.quoteToken);
  if (quote === undefined || quote.shopId !== shopIdOf(req) || quote.userId !== req.userId) {
    return [req.userId, req.tier, proration, timing, 0, "", "", "", ""];
  }
  refuseOtherFields(req, quote);
  const amounts = [quote.priceCredits, quote.chargedCredits, quote.creditedCredits];
  return [req.userId, quote.toTier, quote.proration, quote.timing, quote.position, ...amounts, quote.expireMs];
}

/** What is said beside a quote has to be what the quote says. */
function refuseOtherFields(req: ChangeTierRequest, quote: TierQuote): void {
  const differing = [
    ...(req.tier === "" || req.tier === quote.toTier ? [] : ["tier"]),
    ...(req.proration === ProrationMode.UNSPECIFIED || req.proration === quote.proration ? [] : ["proration"]),
    ...(req.timing === ChangeTiming.UNSPECIFIED || req.timing === quote.timing ? [] : ["timing"]),
  ];
  if (differing.length > 0) {
    throw validationFailed(differing.map((field) => ({ field, description: "differs from the quote's" })));
  }
}
