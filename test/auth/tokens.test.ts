import type { JWTPayload } from "jose";
import { expect, test } from "vitest";
import type { Identity } from "../../src/auth/identity.ts";
import { createTokenVerifier, type TokenOptions } from "../../src/auth/tokens.ts";
import { Refusal } from "../../src/refusal.ts";
import { audience, createSigningKey, fromNow, issuer, sign, signWithSecret, unsigned } from "../helpers/issuer.ts";

const key = createSigningKey();
const otherKey = createSigningKey();
const secret = "a secret of more than thirty-two bytes";

function createVerifier(options: Partial<TokenOptions> = {}) {
  return createTokenVerifier({ key: key.publicKey, algorithms: ["ES256"], issuer, audience, ...options });
}

/** What a verifier says of a token, in one line. */
async function verdict(token: string, options: Partial<TokenOptions> = {}): Promise<string> {
  try {
    await createVerifier(options)(token);
    return "accepted";
  } catch (error) {
    return error instanceof Refusal ? `${error.reason}: ${error.message}` : String(error);
  }
}

test("an accepted token says who calls, in which shops, with which scopes, and until when", async () => {
  const exp = Math.floor(fromNow(60));
  const identity = await createVerifier()(
    await sign(key, { sub: "bob", shops: ["berlin", "rome"], scope: "openid holdfast.read", exp }),
  );

  expect(identity).toEqual({
    principal: "bob",
    shops: new Set(["berlin", "rome"]),
    scopes: new Set(["openid", "holdfast.read"]),
    expiresMs: exp * 1000,
  } satisfies Identity);
});

test.each([
  ["is expired", { exp: fromNow(-1) }, "the token has expired"],
  ["never expires", { exp: undefined }, 'the token\'s claim "exp" is missing'],
  ["expires at no time", { exp: "soon" }, 'the token\'s claim "exp" is not what is accepted here'],
  ["is of the future", { nbf: fromNow(60) }, 'the token\'s claim "nbf" is in the future'],
  ["is of another issuer", { iss: "https://other.example" }, 'the token\'s claim "iss" is not what is accepted here'],
  ["is of no issuer", { iss: undefined }, 'the token\'s claim "iss" is missing'],
  ["is for another audience", { aud: "other" }, 'the token\'s claim "aud" is not what is accepted here'],
  ["is for no audience", { aud: undefined }, 'the token\'s claim "aud" is missing'],
  ["names nobody", { sub: undefined }, 'the token\'s claim "sub" is missing'],
])("a token that %s is refused", async (_name, claims, message) => {
  expect(await verdict(await sign(key, claims as JWTPayload))).toBe(`UNAUTHENTICATED: ${message}`);
});

test.each([
  ["is empty", ""],
  ["is too long", "x".repeat(257)],
  ["holds a NUL, which PostgreSQL refuses", "a\0b"],
  ["holds half a surrogate pair, which PostgreSQL refuses", "a\ud800"],
  ["turns the direction of what follows", "ann\u202e"],
  ["holds a space that nobody sees", "an\u200bn"],
  ["is the payment worker's", "payment-worker"],
  ["is that of seeding", "seed"],
  ["is a number", 17],
])("a token whose sub %s is refused", async (_name, sub) => {
  expect(await verdict(await sign(key, { sub: sub as string }))).toMatch(/^UNAUTHENTICATED: .*"sub"/);
});

test.each([
  ["another key", () => sign(otherKey)],
  ["no key", async () => unsigned()],
  ["the public key as if it were a secret", () => signWithSecret(key.publicPem)],
  ["an algorithm that is not in the settings", () => signWithSecret(secret)],
])("a token signed with %s is refused", async (_name, make) => {
  expect(await verdict(await make())).toMatch(/^UNAUTHENTICATED: the token is /);
});

test("a token with a foreign signature is refused", async () => {
  const [head, claims] = (await sign(key)).split(".");
  const [, , signature] = (await sign(key, { sub: "eve" })).split(".");

  expect(await verdict(`${head}.${claims}.${signature}`)).toBe("UNAUTHENTICATED: the token is not valid");
  expect(await verdict("no token")).toBe("UNAUTHENTICATED: the token is not valid");
});

test("a secret accepts what was signed with it, and only by its algorithm", async () => {
  const options = { key: new TextEncoder().encode(secret), algorithms: ["HS256"] };

  expect(await verdict(await signWithSecret(secret), options)).toBe("accepted");
  expect(await verdict(await signWithSecret(secret.slice(1)), options)).toBe("UNAUTHENTICATED: the token is not valid");
  expect(await verdict(await sign(key), options)).toContain("an algorithm that is not accepted");
});

test.each([
  ["*", "*"],
  [["*"], "*"],
  [["a"], new Set(["a"])],
  ["a", new Set()],
  [undefined, new Set()],
  [[1], new Set()],
  [{ a: true }, new Set()],
])("the claim shops of %j gives the shops %j", async (shops, expected) => {
  expect(await createVerifier()(await sign(key, { shops }))).toMatchObject({ shops: expected });
});

test("a known token is answered at once until it expires, and then refused", async () => {
  let nowMs = Date.now();
  const verify = createVerifier({ now: () => nowMs });
  const token = await sign(key, { exp: Math.floor(fromNow(60)) });
  const first = verify(token);
  expect(first).toBeInstanceOf(Promise);
  const identity = await first;

  expect(verify(token)).toBe(identity);
  nowMs = identity.expiresMs - 1;
  expect(verify(token)).toBe(identity);
  nowMs = identity.expiresMs;
  expect(() => verify(token)).toThrow("the token has expired");
  await expect(verify(token)).rejects.toThrow("the token has expired");
});

test("the oldest of too many tokens is forgotten, and refused ones are not remembered", async () => {
  const verify = createVerifier({ maxRemembered: 2 });
  const tokens = await Promise.all(["a", "b", "c"].map((sub) => sign(key, { sub })));
  const [a, b, c] = tokens as [string, string, string];
  for (const token of tokens) await verify(token);
  await expect(verify(await sign(otherKey))).rejects.toThrow("not valid");

  expect([verify(b), verify(c)].map((found) => found instanceof Promise)).toEqual([false, false]);
  expect(verify(a)).toBeInstanceOf(Promise);
});
