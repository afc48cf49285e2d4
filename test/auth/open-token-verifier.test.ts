import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { pino } from "pino";
import { expect, test } from "vitest";
import { openTokenVerifier } from "../../src/auth/open-token-verifier.ts";
import { audience, issuer } from "../helpers/issuer.ts";

const pem = ({ publicKey }: { readonly publicKey: KeyObject }) =>
  publicKey.export({ type: "spki", format: "pem" }) as string;
const keys = {
  "P-256": pem(generateKeyPairSync("ec", { namedCurve: "P-256" })),
  "P-384": pem(generateKeyPairSync("ec", { namedCurve: "P-384" })),
  Ed25519: pem(generateKeyPairSync("ed25519")),
  X25519: pem(generateKeyPairSync("x25519")),
  "RSA 2048": pem(generateKeyPairSync("rsa", { modulusLength: 2048 })),
  "RSA 1024": pem(generateKeyPairSync("rsa", { modulusLength: 1024 })),
};

const usual = ["RS256", "ES256", "EdDSA"];

test.each<[keyof typeof keys, readonly string[], boolean]>([
  ["P-256", usual, true],
  ["P-384", usual, false],
  ["P-384", ["ES384"], true],
  ["Ed25519", usual, true],
  ["X25519", usual, false],
  ["RSA 2048", usual, true],
  ["RSA 2048", ["PS384"], true],
  ["RSA 2048", ["ES256", "EdDSA"], false],
  ["RSA 1024", usual, false],
])("a public key of %s for %j lets the server start: %s", async (name, algorithms, starts) => {
  const opening = openTokenVerifier(
    { key: { publicKey: keys[name] }, algorithms, issuer, audience },
    pino({ level: "silent" }),
  );
  await (starts
    ? opening
    : expect(opening).rejects.toThrow(/^HOLDFAST_JWT_PUBLIC_KEY .+ is no key for .+HOLDFAST_JWT_ALGORITHMS/));
});
