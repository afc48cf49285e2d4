import { createHmac, timingSafeEqual } from "node:crypto";
import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** What a quote promised for a change of tier, and what the promise rests on. Times are milliseconds. */
export interface TierQuote {
  readonly shopId: string;
  readonly userId: string;
  readonly toTier: string;
  /** A ProrationMode and a ChangeTiming of the contract. */
  readonly proration: number;
  readonly timing: number;
  readonly chargedCredits: number;
  readonly creditedCredits: number;
  /** The tier's price then. */
  readonly priceCredits: number;
  /** The commit that had last changed the subscription, and with it the tier, the period and what is scheduled. */
  readonly position: number;
  readonly expireMs: number;
}

/** Makes and checks quote tokens: a quote is kept by its caller, so every process can honour it. */
export interface QuoteTokens {
  make(quote: TierQuote): string;
  /** What a token says; undefined when it was not made here. */
  read(token: string): TierQuote | undefined;
}

/** Bytes of the signature in front of a token. */
const signatureBytes = 16;

/** Creates the tokens with the secret that all processes share through Postgres. */
export async function createQuoteTokens(db: Kysely<Database>): Promise<QuoteTokens> {
  const { rows } = await sql<{ value: string }>`select value from secrets where name = 'quote_token'`.execute(db);
  const secret = rows[0]?.value as string;
  const sign = (content: Buffer): Buffer =>
    createHmac("sha256", secret).update(content).digest().subarray(0, signatureBytes);
  return {
    make: (quote) => {
      const content = Buffer.from(JSON.stringify(quote));
      return Buffer.concat([sign(content), content]).toString("base64url");
    },
    read: (token) => {
      const bytes = Buffer.from(token, "base64url");
      const content = bytes.subarray(signatureBytes);
      const isOurs = bytes.length > signatureBytes && timingSafeEqual(bytes.subarray(0, signatureBytes), sign(content));
      return isOurs ? (JSON.parse(content.toString()) as TierQuote) : undefined;
    },
  };
}
