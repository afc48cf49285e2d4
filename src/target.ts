import { ConnectError } from "@connectrpc/connect";
import type { Config } from "./config.ts";
import { formatAddress } from "./server/listen-error.ts";
import { StartError } from "./start-error.ts";

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

/** The error of a call, or when nobody was there to answer it, where a server was looked for. */
export function explainTarget(error: unknown, target: string): unknown {
  const code = error instanceof ConnectError ? (error.cause as { code?: unknown } | undefined)?.code : undefined;
  if (!/^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT)$/.test(String(code))) {
    return error;
  }
  return new StartError(`no Holdfast answers gRPC on ${target} (${code}): start one, or name another with --target`);
}
