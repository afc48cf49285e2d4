import { readFile } from "node:fs/promises";
import type { PeerCertificate } from "node:tls";
import { StartError } from "../start-error.ts";
import { type Identity, isPrincipal, scopesOf, shopsOf } from "./identity.ts";
import { unauthenticated } from "./tokens.ts";

/** Says who a client certificate, which its CA vouches for, belongs to. Throws the Refusal UNAUTHENTICATED. */
export type CertificateReader = (certificate: PeerCertificate) => Identity;

/** What the settings say of a certificate by its name: shops and scopes, written as in a token. */
export type ClientMap = Readonly<Record<string, { readonly shops?: unknown; readonly scope?: unknown }>>;

const defaultScopes = "holdfast.read holdfast.write";
/** Certificates whose identity is remembered; there are as many as clients. */
const maxRemembered = 10_000;

/**
 * Makes the reader; `clientsNow` gives the map as it is now. With a map only the map counts: a certificate with none of its
 * names has no shops. Without one its URIs do: `shop:<id>` for each shop (`shop:*` for all), `scope:<scope>` for each scope,
 * without any of the latter read and write.
 */
export function createCertificateReader(clientsNow: () => ClientMap | undefined = () => undefined): CertificateReader {
  const known = new Map<string, Identity>();
  let clients = clientsNow();
  return (certificate) => {
    if (clients !== clientsNow()) {
      clients = clientsNow();
      known.clear();
    }
    const { fingerprint256 } = certificate;
    const identity = known.get(fingerprint256) ?? identityOf(certificate, clients);
    if (identity.expiresMs <= Date.now()) {
      throw unauthenticated("the client certificate has expired");
    }
    if (known.size >= maxRemembered) {
      known.clear();
    }
    known.set(fingerprint256, identity);
    return identity;
  };
}

function identityOf(certificate: PeerCertificate, clients: ClientMap | undefined): Identity {
  const uris = alternativeNames(certificate, "URI");
  const suffixes = (prefix: string): string[] =>
    uris.filter((uri) => uri.startsWith(prefix)).map((uri) => uri.slice(prefix.length));
  const hosts = alternativeNames(certificate, "DNS");
  const names = [...uris.filter((uri) => !/^(shop|scope):/.test(uri)), ...hosts];
  const commonNames = [certificate.subject?.CN ?? []].flat();
  // A CA that vouches for alternative names need not have looked at the common name beside them.
  const tried = uris.length + hosts.length > 0 ? names : commonNames;
  const mapped = tried.find((name) => clients !== undefined && Object.hasOwn(clients, name));
  const principal = mapped ?? names[0] ?? commonNames[0] ?? uris[0];
  if (!isPrincipal(principal)) {
    throw unauthenticated("the client certificate has no name of 1 to 256 characters that a caller can have");
  }
  const entry = mapped === undefined ? clients && {} : clients?.[mapped];
  const scopes = suffixes("scope:");
  return {
    principal,
    shops: shopsOf(entry === undefined ? suffixes("shop:") : entry.shops),
    scopes: scopesOf(
      entry === undefined ? (scopes.length > 0 ? scopes : defaultScopes) : (entry.scope ?? defaultScopes),
    ),
    expiresMs: Date.parse(certificate.valid_to),
  };
}

/** The subject alternative names of a kind. Node writes those with special characters as JSON text, so that none can hide others. */
function alternativeNames({ subjectaltname = "" }: PeerCertificate, kind: string): string[] {
  const entries = subjectaltname.matchAll(/(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)/g);
  return [...entries].flatMap(([, type, name = ""]) =>
    type === kind ? [name.startsWith('"') ? (JSON.parse(name) as string) : name] : [],
  );
}

/** Reads the map from a JSON file. Throws a StartError. */
export async function readClientMap(file: string): Promise<ClientMap> {
  try {
    const parsed: unknown = JSON.parse(await readFile(file, "utf8"));
    const isMap = (value: unknown): value is object =>
      typeof value === "object" && value !== null && !Array.isArray(value);
    if (isMap(parsed) && Object.values(parsed).every(isMap)) {
      return parsed as ClientMap;
    }
    throw new Error("it is no object of objects");
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    throw new StartError(
      `HOLDFAST_TLS_CLIENTS: ${file} needs {"name": {"shops": ["id"], "scope": "holdfast.read"}}: ${why}`,
    );
  }
}
