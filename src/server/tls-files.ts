import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createSecureContext, type PeerCertificate, TLSSocket } from "node:tls";
import type { Logger } from "pino";
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
}

/** The certificates of the doors, as they are now. */
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
    throw new StartError(`HOLDFAST_TLS_CERT, _KEY or _CLIENT_CA cannot be used: ${error.message}`);
  });
  const listeners: ((material: TlsMaterial) => void)[] = [];

  async function look(): Promise<void> {
    try {
      const next = await readMaterial(config);
      if (isSame(current, next)) return;
      for (const listener of listeners) listener(next);
      // Last: what a door did not take is tried again.
      current = next;
      logger.info({ file: config.certFile }, "the doors listen with new certificates");
    } catch (error) {
      // A certificate and its key are two files: for a moment they do not fit each other.
      logger.error({ err: error, file: config.certFile }, "the new certificates cannot be used; the old ones stay");
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

async function readMaterial({ certFile, keyFile, clientCaFile }: TlsConfig): Promise<TlsMaterial> {
  const [cert, key, ca] = await Promise.all([
    readFile(certFile),
    readFile(keyFile),
    clientCaFile === undefined ? undefined : readFile(clientCaFile),
  ]);
  const material = { cert, key, ...(ca === undefined ? {} : { ca }) };
  // Throws when the parts are not what they should be, or do not belong together.
  createSecureContext(material);
  if (ca !== undefined) checkAuthority(ca);
  return material;
}

/** Throws when a file holds no certificate, or one that is none: TLS would leave it out, and refuse every client. */
function checkAuthority(pem: Buffer): void {
  const certificates = pem.toString().match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (certificates.length === 0) throw new Error("the file of client CAs holds no certificate");
  for (const certificate of certificates) new X509Certificate(certificate);
}

function isSame(left: TlsMaterial, right: TlsMaterial): boolean {
  const text = ({ cert, key, ca }: TlsMaterial) => [cert, key, ca].map(String).join();
  return text(left) === text(right);
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
