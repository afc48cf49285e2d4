import type { PageTokens } from "../postgres/page-token.ts";
import type { QuoteTokens } from "../postgres/quote-token.ts";
import type { Shops } from "../shop/shops.ts";

/** What the services need. */
export interface Deps {
  readonly shops: Shops;
  readonly pageTokens: PageTokens;
  readonly quoteTokens: QuoteTokens;
  /** How long a hold lasts that names no duration, in milliseconds. */
  readonly holdMs: number;
  /** WatchEvents at a time of one principal. */
  readonly watchesPerCaller: number;
}
