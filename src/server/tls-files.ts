import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createSecureContext, type PeerCertificate, TLSSocket } from "node:tls";
import { isDeepStrictEqual } from "node:util";
import type { Logger } from "pino";
import { type ClientMap, readClientMap } from "../auth/client-certificates.ts";
import type { TlsConfig } from "../config.ts";
import { StartError } from "../start-error.ts";

/** How often the files are looked at, in milliseconds. By reading them: links that are swapped are not seen by watching. */
const TLS_RELOAD_INTERVAL_MS = 10_000;

/** What both doors listen with, in PEM. */
export interface TlsMaterial {
  /** The server's certificate, and those between it and its CA. */
  readonly cert: Buffer;
  readonly key: Buffer;
  /** The CA of client certificates. Absent: none is asked for. */
  readonly ca?: Buffer;
  /** What the clients may do. Absent: their certificates say it. */
  readonly clients?: ClientMap;
}

/** The certificates of the doors, and what clients may do by theirs, as they are now. */
export interface TlsFiles {
  readonly current: TlsMaterial;
  /** True: clients are asked for certificates. */
  readonly asksClients: boolean;
  /** Tells when they are others; connections that are open keep the old ones. */
  onChange(listener: (material: TlsMaterial) => void): void;
  /** Looks at the files now. What cannot be used is logged, and the old certificates stay. */
  reload(): Promise<void>;
  /** Looks at the files no more. */
  close(): void;
}

/** Reads the files, and again from time to time. Throws a StartError when they cannot be used. */
export async function openTlsFiles(config: TlsConfig, logger: Logger): Promise<TlsFiles> {
  let current = await readMaterial(config).catch((error: Error) => {
    throw new StartError(error.message);
  });
  const listeners: ((material: TlsMaterial) => void)[] = [];

  async function look(): Promise<void> {
    try {
      const next = await readMaterial(config);
      if (isDeepStrictEqual(current, next)) return;
      for (const listener of listeners) listener(next);
      // Last: what a door did not take is tried again.
      current = next;
      logger.info({ file: config.certFile }, "the files of TLS were read again, and are others");
    } catch (error) {
      // A certificate and its key are two files: for a moment they do not fit each other.
      logger.error({ err: error, file: config.certFile }, "the new files of TLS cannot be used; the old ones stay");
    }
  }

  // One at a time: an older look that ends later would bring older files back.
  let looking: Promise<void> | undefined;
  function reload(): Promise<void> {
    looking ??= look().finally(() => {
      looking = undefined;
    });
    return looking;
  }

  const timer = setInterval(reload, TLS_RELOAD_INTERVAL_MS);
  timer.unref();
  return {
    get current() {
      return current;
    },
    asksClients: config.clientCaFile !== undefined,
    onChange: (listener) => void listeners.push(listener),
    reload,
    close: () => clearInterval(timer),
  };
}

async function readMaterial({ certFile, keyFile, clientCaFile, clientsFile }: TlsConfig): Promise<TlsMaterial> {
  const [cert, key, ca, clients] = await Promise.all([
    asSetting("HOLDFAST_TLS_CERT", () => readFile(certFile)),
    asSetting("HOLDFAST_TLS_KEY", () => readFile(keyFile)),
    clientCaFile === undefined ? undefined : asSetting("HOLDFAST_TLS_CLIENT_CA", () => readFile(clientCaFile)),
    clientsFile === undefined ? undefined : readClientMap(clientsFile),
  ]);
  if (ca !== undefined) {
    await asSetting("HOLDFAST_TLS_CLIENT_CA", () => checkCertificates(ca, `${clientCaFile}`));
  }
  const material = { cert, key, ...(ca === undefined ? {} : { ca }), ...(clients === undefined ? {} : { clients }) };
  try {
    // Throws when the parts are not what they should be, or do not belong together.
    createSecureContext(material);
  } catch (error) {
    await asSetting("HOLDFAST_TLS_CERT", () => checkCertificates(cert, certFile));
    await asSetting("HOLDFAST_TLS_KEY", () => checkKey(key, keyFile, new X509Certificate(cert), certFile));
    throw cannotBeUsed("HOLDFAST_TLS_CERT, _KEY or _CLIENT_CA", error);
  }
  return material;
}

/** What `use` gives; an error of it says which setting is wrong. */
async function asSetting<Value>(name: string, use: () => Value | Promise<Value>): Promise<Value> {
  try {
    return await use();
  } catch (error) {
    throw cannotBeUsed(name, error);
  }
}

function cannotBeUsed(name: string, error: unknown): Error {
  return new Error(`${name} cannot be used: ${error instanceof Error ? error.message : error}`, { cause: error });
}

/** Throws when a file holds no certificate, or one that is none: of a CA, TLS would leave it out, and refuse every client. */
function checkCertificates(pem: Buffer, file: string): void {
  const certificates = pem.toString().match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (certificates.length === 0) throw new Error(`${file} holds no certificate in PEM`);
  for (const [index, certificate] of certificates.entries()) {
    try {
      new X509Certificate(certificate);
    } catch (error) {
      throw new Error(`certificate ${index + 1} in ${file} is none`, { cause: error });
    }
  }
}

/** Throws when a file holds no private key in the clear, or that of another certificate. */
function checkKey(pem: Buffer, file: string, certificate: X509Certificate, certFile: string): void {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (error) {
    throw new Error(`${file} holds no private key in PEM, or one with a passphrase`, { cause: error });
  }
  if (!certificate.checkPrivateKey(key)) throw new Error(`${file} is not the key of the certificate in ${certFile}`);
}

/** What a connection is listened to with. Who comes without a certificate is refused by call: probes have none. */
export function clientOptions({ asksClients }: TlsFiles) {
  return { requestCert: asksClients, rejectUnauthorized: false };
}

/** The certificate a connection came with; undefined when there is none, or its CA is not ours. */
export function peerCertificateOf(socket: unknown): PeerCertificate | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) {
    return undefined;
  }
  const certificate = peerCertificates.get(socket) ?? readPeerCertificate(socket);
  if (certificate !== undefined) peerCertificates.set(socket, certificate);
  return certificate;
}

/** Undefined for a connection that is closing: Node then gives null, or throws, and there is nobody left to answer. */
function readPeerCertificate(socket: TLSSocket): PeerCertificate | undefined {
  try {
    return socket.getPeerCertificate() ?? undefined;
  } catch {
    return undefined;
  }
}

/** Taking a certificate apart takes 31 us (November 2026), as long as the rest of a call, and a connection makes many calls. */
const peerCertificates = new WeakMap<TLSSocket, PeerCertificate>();
