import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { type JWTPayload, SignJWT } from "jose";

/** What tokens of the tests' issuer say of themselves. */
export const issuer = "https://issuer.example";
export const audience = "holdfast";

/** A key pair of an issuer. */
export interface SigningKey {
  readonly kid: string;
  readonly alg: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  /** The public key in PEM. */
  readonly publicPem: string;
}

/** Makes a key pair for ES256. */
export function createSigningKey(kid = "k1"): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const publicPem = publicKey.export({ type: "spki", format: "pem" }) as string;
  return { kid, alg: "ES256", privateKey, publicKey, publicPem };
}

/** Claims of a token that may do everything in every shop for an hour. */
export const goodClaims: JWTPayload = {
  iss: issuer,
  aud: audience,
  sub: "alice",
  shops: "*",
  scope: "holdfast.read holdfast.write holdfast.admin",
};

/** Seconds since the epoch, this many seconds from now. */
export function fromNow(seconds: number): number {
  return Date.now() / 1000 + seconds;
}

/** Signs a token; `claims` go over the good ones, and one that is undefined is left out. */
export function sign(key: SigningKey, claims: JWTPayload = {}, header: Record<string, unknown> = {}): Promise<string> {
  const payload = { ...goodClaims, exp: Math.floor(fromNow(3600)), ...claims };
  const given = Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined));
  return new SignJWT(given).setProtectedHeader({ alg: key.alg, kid: key.kid, ...header }).sign(key.privateKey);
}

/** A token signed with a secret, by HS256: also one that is no secret at all. */
export function signWithSecret(secret: string, claims: JWTPayload = {}): Promise<string> {
  return new SignJWT({ ...goodClaims, exp: Math.floor(fromNow(3600)), ...claims })
    .setProtectedHeader({ alg: "HS256" })
    .sign(new TextEncoder().encode(secret));
}

/** A token that says it needs no signature. */
export function unsigned(claims: JWTPayload = {}): string {
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString("base64url");
  return `${encode({ alg: "none" })}.${encode({ ...goodClaims, exp: Math.floor(fromNow(3600)), ...claims })}.`;
}
