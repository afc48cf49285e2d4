import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK } from "jose";
import { pino } from "pino";
import { expect, onTestFinished, test, vi } from "vitest";
import { createKeySet, KEY_SET_COOLDOWN_MS, KEY_SET_MAX_AGE_MS } from "../../src/auth/key-set.ts";
import { openTokenVerifier } from "../../src/auth/open-token-verifier.ts";
import { createTokenVerifier } from "../../src/auth/tokens.ts";
import { Refusal } from "../../src/refusal.ts";
import { audience, createSigningKey, issuer, type SigningKey, sign } from "../helpers/issuer.ts";

/** An issuer that publishes keys, and a verifier that trusts it, with a clock of its own. */
async function openIssuer(...keys: SigningKey[]) {
  const state = { keys, status: 200, body: undefined as string | undefined, fetchCount: 0, nowMs: Date.now() };
  const server = createServer(async (_req, res) => {
    state.fetchCount += 1;
    const jwks = await Promise.all(
      state.keys.map(async ({ kid, publicKey }) => ({ ...(await exportJWK(publicKey)), kid })),
    );
    res.statusCode = state.status;
    res.end(state.body ?? JSON.stringify({ keys: jwks }));
  }).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`);
  const now = () => state.nowMs;
  const key = createKeySet({ url, logger: pino({ level: "silent" }), now });
  const verify = createTokenVerifier({ key, algorithms: ["ES256", "RS256"], issuer, audience, now });
  /** `accepted`, or why not. */
  const verdict = async (token: string): Promise<string> => {
    try {
      await verify(token);
      return "accepted";
    } catch (error) {
      return error instanceof Refusal ? error.reason : String(error);
    }
  };
  return { state, verdict, url };
}

const [first, second] = [createSigningKey("first"), createSigningKey("second")];
/** A token that nobody has seen yet. */
const fresh = (key: SigningKey, header: Record<string, unknown> = {}) =>
  sign(key, { jti: crypto.randomUUID() }, header);

test("the keys are fetched once for many tokens", async () => {
  const { state, verdict } = await openIssuer(first, second);
  const tokens = await Promise.all([fresh(first), fresh(second), fresh(first)]);

  expect(await Promise.all(tokens.map(verdict))).toEqual(["accepted", "accepted", "accepted"]);
  expect(state.fetchCount).toBe(1);
});

test("a new key is fetched when a token names it, but not more often than the cooldown says", async () => {
  const { state, verdict } = await openIssuer(first);
  await verdict(await fresh(first));
  state.keys = [first, second];
  const token = await fresh(second);

  expect([await verdict(token), state.fetchCount]).toEqual(["UNAUTHENTICATED", 1]);
  state.nowMs += KEY_SET_COOLDOWN_MS;
  expect([await verdict(token), state.fetchCount]).toEqual(["accepted", 2]);
});

test("tokens that name keys nobody has cost the issuer one request per cooldown", async () => {
  const { state, verdict } = await openIssuer(first);
  await verdict(await fresh(first));
  state.nowMs += KEY_SET_COOLDOWN_MS;
  const tokens = await Promise.all(Array.from({ length: 20 }, (_, index) => fresh(second, { kid: `k${index}` })));

  expect(new Set(await Promise.all(tokens.map(verdict)))).toEqual(new Set(["UNAUTHENTICATED"]));
  expect(state.fetchCount).toBe(2);
});

test("a key that the issuer withdraws is not taken any more when the keys are old", async () => {
  const { state, verdict } = await openIssuer(first, second);
  await verdict(await fresh(first));
  state.keys = [second];

  expect(await verdict(await fresh(first))).toBe("accepted");
  state.nowMs += KEY_SET_MAX_AGE_MS;
  expect(await verdict(await fresh(first))).toBe("UNAUTHENTICATED");
  expect(await verdict(await fresh(second))).toBe("accepted");
});

test("the address of the keys is logged without what may be secret in it", async () => {
  const lines: string[] = [];
  const logger = pino({}, { write: (line: string) => void lines.push(line) });
  const getKey = createKeySet({ url: new URL("http://127.0.0.1:1/jwks?key=hidden"), logger });
  await expect(Promise.resolve(getKey({ alg: "ES256" }, { payload: "", signature: "" }))).rejects.toThrow(Refusal);

  expect(lines).toHaveLength(1);
  expect(JSON.parse(lines[0] as string).url).toBe("http://127.0.0.1:1/jwks");
  expect(lines.join()).not.toContain("hidden");
});

test("a token that was verified is verified again when the keys may have changed", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  onTestFinished(() => void vi.useRealTimers());
  const { url, state } = await openIssuer(first);
  const verify = await openTokenVerifier(
    { key: { jwksUrl: url.href }, algorithms: ["ES256"], issuer, audience },
    pino({ level: "silent" }),
  );
  const token = await sign(first, { exp: Math.floor(Date.now() / 1000) + 86_400 });
  await verify(token);
  state.keys = [second];
  vi.setSystemTime(Date.now() + KEY_SET_MAX_AGE_MS - 1000);
  expect(verify(token)).not.toBeInstanceOf(Promise);
  vi.setSystemTime(Date.now() + 2000);

  await expect(verify(token)).rejects.toThrow("the token is not valid");
});

test.each([
  ["answers with an error", { status: 500 }],
  ["answers with no JSON", { body: "<html>" }],
  ["answers with no keys", { body: '{"keys":1}' }],
])("an issuer that %s: known keys go on working, for old and new tokens", async (_name, fault) => {
  const { state, verdict } = await openIssuer(first);
  await verdict(await fresh(first));
  Object.assign(state, fault);
  state.nowMs += KEY_SET_MAX_AGE_MS;

  expect(await verdict(await fresh(first))).toBe("accepted");
  expect(await verdict(await fresh(first))).toBe("accepted");
  expect(state.fetchCount).toBe(2);
});

test("while nobody can say whether a key is good, its token is neither good nor bad", async () => {
  const { state, verdict } = await openIssuer(first);
  state.status = 503;
  const token = await fresh(first);
  expect([await verdict(token), await verdict(token)]).toEqual(["SHOP_UNAVAILABLE", "SHOP_UNAVAILABLE"]);
  expect(state.fetchCount).toBe(1);

  state.status = 200;
  state.nowMs += KEY_SET_COOLDOWN_MS;
  expect(await verdict(token)).toBe("accepted");
  state.status = 503;
  state.nowMs += KEY_SET_COOLDOWN_MS;
  expect(await verdict(await fresh(second))).toBe("SHOP_UNAVAILABLE");
});

test.each(["../../etc/passwd", "http://127.0.0.1/evil.json", "first\0", "__proto__", "first' or '1'='1"])(
  "a foreign kid, %j, is a name and nothing else",
  async (kid) => {
    const { state, verdict } = await openIssuer(first);

    expect(await verdict(await fresh(second, { kid }))).toBe("UNAUTHENTICATED");
    expect(state.fetchCount).toBe(1);
  },
);

test("a token does not bring its own key", async () => {
  const { verdict } = await openIssuer(first);
  const jwk = await exportJWK(second.publicKey);

  expect(await verdict(await fresh(second, { kid: "first", jwk, jku: "http://127.0.0.1/evil.json" }))).toBe(
    "UNAUTHENTICATED",
  );
});
