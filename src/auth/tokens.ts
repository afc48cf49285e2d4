import type { KeyObject } from "node:crypto";
import { errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { Refusal } from "../refusal.ts";
import { type Identity, isPrincipal, scopesOf, shopsOf } from "./identity.ts";

/** Verified tokens that are remembered; the oldest is forgotten first, and verified again when it comes back. */
export const MAX_REMEMBERED_TOKENS = 10_000;

/** What a token must be like. All of it comes from the settings, nothing from the token. */
export interface TokenOptions {
  /** The key of every token, or what finds it. */
  readonly key: JWTVerifyGetKey | KeyObject | Uint8Array;
  readonly algorithms: readonly string[];
  readonly issuer: string;
  readonly audience: string;
  /** How long a verified token is taken without being verified again, in milliseconds. Default: until it expires. */
  readonly maxRememberedMs?: number;
  /** The clock, in milliseconds; tests replace it. */
  readonly now?: () => number;
  /** Default MAX_REMEMBERED_TOKENS. */
  readonly maxRemembered?: number;
}

/**
 * Verifies a token: at once when it is known, else by a promise. Throws or rejects with the Refusal UNAUTHENTICATED, or with
 * SHOP_UNAVAILABLE when nobody can say.
 */
export type TokenVerifier = (token: string) => Identity | Promise<Identity>;

/**
 * Makes the verifier. A verified token is remembered until it expires, or for `maxRememberedMs`: to verify one takes 18 us (RS256) to 64 us (EdDSA), to
 * take it from its header and find it again 2.5 us (November 2026, on a busy machine). Tokens that are refused are not
 * remembered: they could push out those that are good.
 */
export function createTokenVerifier(options: TokenOptions): TokenVerifier {
  const { now = Date.now, maxRemembered = MAX_REMEMBERED_TOKENS, maxRememberedMs = Number.POSITIVE_INFINITY } = options;
  const known = new Map<string, { readonly identity: Identity; readonly untilMs: number }>();

  async function verify(token: string): Promise<Identity> {
    const identity = identityOf(await claimsOf(token, options, new Date(now())));
    if (known.size >= maxRemembered) {
      known.delete(known.keys().next().value as string);
    }
    known.set(token, { identity, untilMs: now() + maxRememberedMs });
    return identity;
  }

  return (token) => {
    const { identity, untilMs = 0 } = known.get(token) ?? {};
    if (identity === undefined) {
      return verify(token);
    }
    if (identity.expiresMs <= now()) {
      known.delete(token);
      throw expired();
    }
    if (untilMs <= now()) {
      known.delete(token);
      return verify(token);
    }
    return identity;
  };
}

/** The refusal of credentials that are none, or none any more. */
export function unauthenticated(message: string): Refusal {
  return new Refusal("UNAUTHENTICATED", message);
}

function expired(): Refusal {
  return unauthenticated("the token has expired");
}

async function claimsOf(token: string, options: TokenOptions, currentDate: Date): Promise<JWTPayload> {
  const { key, issuer, audience } = options;
  const checks = {
    algorithms: [...options.algorithms],
    issuer,
    audience,
    requiredClaims: ["exp", "sub"],
    currentDate,
  };
  try {
    return (await jwtVerify(token, key, checks)).payload;
  } catch (error) {
    throw error instanceof Refusal ? error : explain(error);
  }
}

/** Says what helps the owner of a token, and nothing of the keys. */
function explain(error: unknown): Refusal {
  if (error instanceof errors.JWTExpired) {
    return expired();
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    return unauthenticated(`the token's claim "${error.claim}" is ${claimFault(error)}`);
  }
  if (error instanceof errors.JOSEAlgNotAllowed) {
    return unauthenticated("the token is signed with an algorithm that is not accepted");
  }
  return unauthenticated("the token is not valid");
}

function claimFault({ claim, reason }: errors.JWTClaimValidationFailed): string {
  return reason === "missing" ? "missing" : claim === "nbf" ? "in the future" : "not what is accepted here";
}

function identityOf({ sub, exp, shops, scope }: JWTPayload): Identity {
  if (!isPrincipal(sub)) {
    throw unauthenticated('the token\'s claim "sub" is not a name of 1 to 256 characters that a caller can have');
  }
  return { principal: sub, shops: shopsOf(shops), scopes: scopesOf(scope), expiresMs: (exp as number) * 1000 };
}
