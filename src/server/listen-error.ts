import type { ListenAddress } from "../config.ts";
import { StartError } from "../start-error.ts";

/** The address as people write it: `127.0.0.1:8080`, `[::1]:8080`. */
export function formatAddress({ host, port }: ListenAddress): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** One line for the operator: which door cannot listen, why, and which setting to change. */
export function listenError(door: string, address: ListenAddress, setting: string, cause: unknown): Error {
  const where = `The ${door} door cannot listen on ${formatAddress(address)}`;
  return new StartError(`${where}: ${explain(cause)} set ${setting} to another address.`, { cause });
}

function explain(cause: unknown): string {
  const text = cause instanceof Error ? cause.message : String(cause);
  if (text.includes("EADDRINUSE")) {
    return "the port is in use. Stop what uses it, or";
  }
  if (text.includes("EACCES")) {
    return "this user may not use the port. Run as another user, or";
  }
  return `${text.replaceAll(/\s+/g, " ")}. Correct it, or`;
}
