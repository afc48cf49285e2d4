import { createRemoteJWKSet, errors, type JWTVerifyGetKey } from "jose";
import type { Logger } from "pino";
import { Refusal } from "../refusal.ts";

/** How old the known keys may become before they are fetched again, in milliseconds: so long is a withdrawn key still taken. */
export const KEY_SET_MAX_AGE_MS = 600_000;
/** The least time between two attempts to fetch the keys, in milliseconds, whatever tokens come in meanwhile. */
export const KEY_SET_COOLDOWN_MS = 10_000;
/** How long one attempt may take, in milliseconds: the call that needs it waits. */
const FETCH_TIMEOUT_MS = 2000;

/** Where the keys of tokens come from. */
export interface KeySetOptions {
  readonly url: URL;
  readonly logger: Logger;
  /** The clock, in milliseconds; tests replace it. */
  readonly now?: () => number;
}

/**
 * The keys of an issuer (JWKS). They are fetched when the first token comes, when they are old, and when a token names a key
 * that is not among them. While the issuer is away the known keys go on working: jose's own cache would let every new token
 * wait for an attempt, and refuse it.
 */
export function createKeySet({ url, logger, now = Date.now }: KeySetOptions): JWTVerifyGetKey {
  const keys = createRemoteJWKSet(url, {
    timeoutDuration: FETCH_TIMEOUT_MS,
    // When to fetch is decided below.
    cooldownDuration: Number.POSITIVE_INFINITY,
    cacheMaxAge: Number.POSITIVE_INFINITY,
  });
  let triedMs = Number.NEGATIVE_INFINITY;
  let fetchedMs = Number.NEGATIVE_INFINITY;
  let isAway = false;

  /** Fetches the keys unless that was tried a moment ago; tells whether they are newer now. */
  async function refresh(): Promise<boolean> {
    if (!keys.reloading && now() - triedMs < KEY_SET_COOLDOWN_MS) {
      return false;
    }
    triedMs = now();
    try {
      await keys.reload();
      fetchedMs = triedMs;
      isAway = false;
      return true;
    } catch (error) {
      isAway = true;
      logger.warn(
        { err: error, url: url.origin + url.pathname },
        "the keys of tokens cannot be fetched; the known ones go on working",
      );
      return false;
    }
  }

  return async (header, token) => {
    if (now() - fetchedMs >= KEY_SET_MAX_AGE_MS) {
      await refresh();
    }
    if (keys.jwks() === undefined) {
      throw unavailable();
    }
    try {
      return await keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) {
        throw error;
      }
    }
    // Perhaps it is a new key. While nobody can say, the token is neither good nor bad.
    if (!(await refresh()) && isAway) {
      throw unavailable();
    }
    return keys(header, token);
  };
}

function unavailable(): Refusal {
  return new Refusal("SHOP_UNAVAILABLE", "the token cannot be checked now: its issuer gives no keys", {
    retryMs: KEY_SET_COOLDOWN_MS,
  });
}
