/** One line for the operator: which door cannot listen, why, and which setting to change. */
export function listenError(door: string, address: string, setting: string, cause: unknown): Error {
  const text = cause instanceof Error ? cause.message : String(cause);
  const why = /EADDRINUSE/.test(text)
    ? "the port is in use; stop what uses it or"
    : /EACCES/.test(text)
      ? "this user may not use the port;"
      : `${text.replaceAll(/\s+/g, " ")};`;
  return new Error(`The ${door} door cannot listen on ${address}: ${why} set ${setting} to another address.`, { cause });
}
