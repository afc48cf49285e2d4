import type { Quote, Quotes } from "../model/subscriptions.ts";

/**
 * Quotes of a history. A quote does not name the position it was made at, and may be right at several of one call's
 * window; it then rests on one of several states of the subscription, and each has to be tried.
 */
export class HistoryQuotes extends Map<string, Quote> implements Quotes {
  readonly #alternatives = new Map<string, Quote[]>();

  /** Keeps the quote that was just made by this token as one that may be meant. */
  keep(token: string): void {
    const quote = this.get(token);
    if (quote === undefined) return;
    const known = this.#alternatives.get(token) ?? [];
    const isKnown = known.some(
      ({ subscriptionPosition, price }) => subscriptionPosition === quote.subscriptionPosition && price === quote.price,
    );
    if (!isKnown) this.#alternatives.set(token, [...known, quote]);
  }

  /** Makes each of the quotes that a token may mean the one that is found, in turn; once when there is none. */
  *eachOf(token: string): Generator<void> {
    const [...alternatives] = this.#alternatives.get(token) ?? [];
    if (alternatives.length === 0) {
      this.delete(token);
      yield;
    }
    for (const quote of alternatives) {
      this.set(token, quote);
      yield;
    }
  }
}
