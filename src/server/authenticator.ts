import type { Identity } from "../auth/identity.ts";
import { type TokenVerifier, unauthenticated } from "../auth/tokens.ts";
import type { Call } from "./call.ts";

/** Says who makes a call: at once where that is known, else by a promise. Throws or rejects with a Refusal. */
export type Authenticate = (call: Call) => Identity | Promise<Identity>;

/** What callers may identify themselves with. */
export interface AuthenticatorOptions {
  readonly verifyToken: TokenVerifier;
}

/** Asks every caller for a token, `authorization: Bearer <token>`. */
export function createAuthenticator({ verifyToken }: AuthenticatorOptions): Authenticate {
  return (call) => {
    const header = call.header("authorization");
    if (header === undefined) {
      throw unauthenticated("the call needs a token: authorization: Bearer <token>");
    }
    const [, token] = /^Bearer +([\w.~+/=-]+)$/i.exec(header) ?? [];
    if (token === undefined) {
      throw unauthenticated("the header authorization is not of the form Bearer <token>");
    }
    return verifyToken(token);
  };
}
