/** SQLSTATE classes that mean the server cannot be used now: connection, resources, system, shutting down, and being read-only. */
const down = /^(08|53|58|57P0|25006)/;

/** Whether an error means that Postgres cannot be reached or used now, rather than that a statement is wrong. */
export function isPostgresDown(error: unknown): boolean {
  const code = codeOf(error);
  if (error instanceof Error && error.name === "RedisUnavailable") {
    return false;
  }
  // EPIPE has the form of a SQLSTATE, but no class begins with E.
  if (code !== undefined && /^[0-9A-DF-Z][0-9A-Z]{4}$/.test(code)) {
    return down.test(code);
  }
  // Socket errors have codes like ECONNREFUSED; a connection cut while a query ran has none.
  return (
    error instanceof Error && (code?.startsWith("E") === true || /connection|Connection|timeout/.test(error.message))
  );
}

/**
 * Whether just a connection was lost: cut, or ended by an administrator. Whether Postgres itself is away shows when the next
 * one is made, which fails with "cannot connect".
 */
export function isConnectionLost(error: unknown): boolean {
  if (!(error instanceof Error) || error.message.startsWith("cannot connect")) {
    return false;
  }
  const code = codeOf(error);
  return code === undefined
    ? /Connection terminated|flush connection/.test(error.message)
    : ["ECONNRESET", "EPIPE", "57P01"].includes(code);
}

/** Whether Postgres cut a statement off, because it took too long or waited too long for a lock. */
export function isPostgresBusy(error: unknown): boolean {
  return ["57014", "55P03"].includes(codeOf(error) ?? "");
}

/** Whether Postgres gave up on a lock that somebody else had for too long. */
export function isLockTimeout(error: unknown): boolean {
  return codeOf(error) === "55P03";
}

/** Whether Postgres refused values (class 22) or a constraint (class 23): trying again cannot help. */
export function isDataError(error: unknown): boolean {
  const code = codeOf(error);
  return code !== undefined && /^2[23][0-9A-Z]{3}$/.test(code);
}

function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : undefined;
}
