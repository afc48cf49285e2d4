import type { QuoteTokens } from "../postgres/quote-token.ts";
import type { Shops } from "../shop/shops.ts";
import type { Pages } from "./page.ts";

/** What the services need. */
export interface Deps {
  readonly shops: Shops;
  readonly pages: Pages;
  readonly quoteTokens: QuoteTokens;
  /** How long a hold lasts that names no duration, in milliseconds. */
  readonly holdMs: number;
  /** The largest answer, or message of a stream, in bytes. */
  readonly answerBytes: number;
  /** WatchEvents at a time of one principal. */
  readonly watchesPerCaller: number;
}
