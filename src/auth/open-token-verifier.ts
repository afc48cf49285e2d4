import { createPublicKey, KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Logger } from "pino";
import type { JwtConfig } from "../config.ts";
import { StartError } from "../start-error.ts";
import { createKeySet, KEY_SET_MAX_AGE_MS } from "./key-set.ts";
import { createTokenVerifier, type TokenOptions, type TokenVerifier } from "./tokens.ts";

/** Makes the verifier that the settings describe. Throws a StartError when a public key cannot be read or serves no algorithm. */
export async function openTokenVerifier({ key, ...checks }: JwtConfig, logger: Logger): Promise<TokenVerifier> {
  const opened = await openKey(key, logger);
  if (opened instanceof KeyObject && !checks.algorithms.some((algorithm) => canServe(opened, algorithm))) {
    throw new StartError(
      `HOLDFAST_JWT_PUBLIC_KEY (${opened.asymmetricKeyType}) is no key for ${checks.algorithms.join(", ")} (HOLDFAST_JWT_ALGORITHMS)`,
    );
  }
  // A key that its issuer withdraws must not live on in the tokens it signed.
  const bounds = "jwksUrl" in key ? { maxRememberedMs: KEY_SET_MAX_AGE_MS } : {};
  return createTokenVerifier({ ...checks, ...bounds, key: opened });
}

const curves: Readonly<Record<string, string>> = { ES256: "prime256v1", ES384: "secp384r1", ES512: "secp521r1" };

/** Whether tokens signed by an algorithm can be verified with a key. */
function canServe({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject, algorithm: string): boolean {
  if (algorithm in curves) return type === "ec" && details?.namedCurve === curves[algorithm];
  if (algorithm === "EdDSA") return type === "ed25519";
  // Shorter ones are refused when a token comes (RFC 7518, 3.3).
  const isLong = (details?.modulusLength ?? 0) >= 2048;
  return isLong && (type === "rsa" || (type === "rsa-pss" && algorithm.startsWith("PS")));
}

async function openKey(key: JwtConfig["key"], logger: Logger): Promise<TokenOptions["key"]> {
  if ("jwksUrl" in key) {
    return createKeySet({ url: new URL(key.jwksUrl), logger });
  }
  return "secret" in key ? new TextEncoder().encode(key.secret) : readPublicKey(key.publicKey);
}

async function readPublicKey(pemOrPath: string): Promise<KeyObject> {
  try {
    const pem = pemOrPath.includes("-----BEGIN ") ? pemOrPath : await readFile(pemOrPath, "utf8");
    if (pem.includes("PRIVATE KEY-----")) {
      throw new Error("it is a private key");
    }
    return createPublicKey(pem);
  } catch (error) {
    throw new StartError(
      `HOLDFAST_JWT_PUBLIC_KEY is no public key in PEM and no file with one: ${error instanceof Error ? error.message : error}`,
    );
  }
}
