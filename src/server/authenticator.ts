import type { CertificateReader } from "../auth/client-certificates.ts";
import type { Identity } from "../auth/identity.ts";
import { type TokenVerifier, unauthenticated } from "../auth/tokens.ts";
import type { Call } from "./call.ts";

/** Says who makes a call: at once where that is known, else by a promise. Throws or rejects with a Refusal. */
export type Authenticate = (call: Call) => Identity | Promise<Identity>;

/** What callers may identify themselves with. Undefined: not with that. */
export interface AuthenticatorOptions {
  readonly verifyToken?: TokenVerifier | undefined;
  readonly readCertificate?: CertificateReader | undefined;
}

/** Asks every caller for a token, `authorization: Bearer <token>`, or a client certificate. A token goes first. */
export function createAuthenticator({ verifyToken, readCertificate }: AuthenticatorOptions): Authenticate {
  const asked = [
    ...(verifyToken === undefined ? [] : ["a token (authorization: Bearer <token>)"]),
    ...(readCertificate === undefined ? [] : ["a client certificate"]),
  ].join(" or ");

  return (call) => {
    const header = verifyToken === undefined ? undefined : call.header("authorization");
    if (verifyToken === undefined || header === undefined) {
      const certificate = call.peerCertificate();
      if (readCertificate === undefined || certificate === undefined) {
        throw unauthenticated(`the call needs ${asked}`);
      }
      return readCertificate(certificate);
    }
    const [, token] = /^Bearer +([\w.~+/=-]+)$/i.exec(header) ?? [];
    if (token === undefined) {
      throw unauthenticated("the header authorization is not of the form Bearer <token>");
    }
    return verifyToken(token);
  };
}
