import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Config, isLoopback } from "./config.ts";
import { formatAddress } from "./server/listen-error.ts";
import { StartError } from "./start-error.ts";
import { tellCertificate } from "./untrusted-certificate.ts";

/** Reads `--target`: `host:port`, or `http://host:port`; returns `host:port`. Throws StartError. */
export function parseTarget(target: string): string {
  const [, address] = /^(?:http:\/\/)?([^\s:/@]+:\d{1,5}|\[[0-9A-Fa-f:.]+\]:\d{1,5})\/?$/.exec(target) ?? [];
  if (address === undefined || !URL.canParse(`http://${address}`)) {
    throw new StartError(`--target is ${JSON.stringify(target)}, accepted is host:port, such as 127.0.0.1:50051`);
  }
  return address;
}

/** The `host:port` of the server that a command calls: `--target`, or else where a server of these settings listens. */
export function targetOf(target: string | undefined, { grpcAddress }: Pick<Config, "grpcAddress">): string {
  if (target !== undefined) {
    return parseTarget(target);
  }
  if (grpcAddress.port === 0) {
    throw new StartError("HOLDFAST_GRPC_ADDR takes any free port: say with --target host:port which one it is");
  }
  const here = { "0.0.0.0": "127.0.0.1", "::": "::1" }[grpcAddress.host];
  return formatAddress({ ...grpcAddress, host: here ?? grpcAddress.host });
}

/** How a server is called that guards its doors. */
export interface TargetOptions {
  /** True: over TLS. */
  readonly tls: boolean;
  /** Sent with every call. Undefined: none. */
  readonly token: string | undefined;
}

/** Refuses to send a token to another machine for all on the way to read. Throws StartError. */
export function checkToken(target: string, { tls, token }: TargetOptions): void {
  const host = new URL(`http://${target}`).hostname.replace(/^\[(.*)\]$/, "$1");
  if (token !== undefined && !tls && !isLoopback(host)) {
    throw new StartError(`HOLDFAST_TOKEN would go to ${target} unencrypted: add --tls, or unset it`);
  }
}

/** A transport to the gRPC door at `host:port`; nothing connects before the first call. */
export function openTarget(target: string, { tls, token }: TargetOptions): Transport {
  return createGrpcTransport({
    baseUrl: `${tls ? "https" : "http"}://${target}`,
    interceptors: [
      (next) => (req) => {
        if (token !== undefined) req.header.set("authorization", `Bearer ${token}`);
        return next(req);
      },
    ],
  });
}

/** The error of a call; when nobody was there to answer it, or spoke otherwise, a StartError that says so. */
export function explainTarget(error: unknown, target: string, tls: boolean): unknown {
  if (!(error instanceof ConnectError)) return error;
  const cause = error.cause instanceof Error ? error.cause : undefined;
  const code = String((cause as { code?: unknown } | undefined)?.code);
  if (/^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT)$/.test(code)) {
    return new StartError(`no Holdfast answers gRPC on ${target} (${code}): start one, or name another with --target`);
  }
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER") {
    return new StartError(`the server at ${target} does not speak TLS: call it without --tls`);
  }
  if (error.code === Code.Canceled) {
    // Nobody here cancels: it is how a door with TLS ends what is not TLS, and also how a connection is lost.
    const advice = tls ? "" : ": one that speaks TLS is called with --tls";
    return new StartError(`the server at ${target} broke the call off${advice}`);
  }
  const told = cause && tellCertificate(cause);
  return told === cause?.message ? error : new StartError(`the server at ${target} is not trusted: ${told}`);
}
