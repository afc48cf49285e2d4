import type { EventEmitter } from "node:events";
import type { DoorLimits } from "../config.ts";

/** The `endingOf` a connection whose age nobody counts: never aborted. */
export const noEnding: AbortSignal = new AbortController().signal;

/** How old the connections of a door may get. */
export interface Ages<Connection> {
  /** Begins to count. */
  begin(connection: Connection): void;
  /** Aborted when a connection is too old: its streams are to end, and its caller to connect anew. Undefined: it is gone. */
  endingOf(connection: Connection | undefined): AbortSignal;
}

/** What is done to a connection that is too old. */
export interface AgesOptions<Connection> extends Pick<DoorLimits, "ageMs" | "ageGraceMs"> {
  /** Lets the calls in flight finish. */
  close(connection: Connection): void;
  /** Cuts it, because they have not. */
  destroy(connection: Connection): void;
}

/** Connections that were opened together, after a server came back, are not to end together. */
const JITTER = 0.1;

/** Ends connections at their age, so that callers spread over all servers again. */
export function createAges<Connection extends EventEmitter>(options: AgesOptions<Connection>): Ages<Connection> {
  const { ageMs, ageGraceMs, close, destroy } = options;
  const endings = new WeakMap<Connection, AbortController>();

  return {
    begin: (connection) => {
      const ending = new AbortController();
      endings.set(connection, ending);
      const end = (): void => {
        ending.abort();
        close(connection);
        timer = setTimeout(() => destroy(connection), ageGraceMs).unref();
      };
      let timer = setTimeout(end, ageMs * (1 + JITTER * (2 * Math.random() - 1))).unref();
      connection.once("close", () => clearTimeout(timer));
    },
    endingOf: (connection) => (connection === undefined ? undefined : endings.get(connection))?.signal ?? noEnding,
  };
}
