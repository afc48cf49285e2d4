import { createPublicKey, type KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Logger } from "pino";
import type { JwtConfig } from "../config.ts";
import { StartError } from "../start-error.ts";
import { createKeySet } from "./key-set.ts";
import { createTokenVerifier, type TokenOptions, type TokenVerifier } from "./tokens.ts";

/** Makes the verifier that the settings describe. Throws a StartError when a public key cannot be read. */
export async function openTokenVerifier({ key, ...checks }: JwtConfig, logger: Logger): Promise<TokenVerifier> {
  return createTokenVerifier({ ...checks, key: await openKey(key, logger) });
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
