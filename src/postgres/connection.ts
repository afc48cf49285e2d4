import type { Socket } from "node:net";
import { Kysely, type LogEvent, PostgresDialect, type PostgresPool, type PostgresPoolClient } from "kysely";
import pg from "pg";
import { createAppendQueue, flushConnectionLost } from "./append-queue.ts";
import { connectionStringOf } from "./connection-string.ts";
import type { Append } from "./flush-statement.ts";
import type { Database } from "./schema.ts";
import type { Sockets } from "./sockets.ts";

const bigintOid = 20;

/** `bigint` as a safe integer: everything this project stores stays within 2^53-1 (the contract's limits see to it). */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    oid === bigintOid ? toSafeInteger : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};

function toSafeInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) {
    throw new RangeError(`Postgres returned ${text}, which is beyond 2^53-1`);
  }
  return value;
}

/** Settings of every session. A statement that is cut off by the server wrote nothing; a client-side time-out could not say. */
const sessionOptions = "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=30000 -c timezone=UTC";

/** What a pool needs. */
export interface PoolOptions {
  /** `postgres://` address; `sslmode` is honoured. */
  readonly url: string;
  /** Connections at most. */
  readonly size: number;
  /** Called with errors of idle connections; running queries report theirs to their callers. */
  readonly onError: (error: Error) => void;
  /** Told how long every query of the pool took; default: nobody. */
  readonly onQuery?: ((ms: number, sql: string) => void) | undefined;
  /** Given the pool's counts once, to be read later; default: nobody. */
  readonly onPool?: ((pool: PoolCounts) => void) | undefined;
  /** Where the sockets come from, so that an outage ends those it left dead. Default: from nowhere special. */
  readonly sockets?: Sockets;
}

/** Connections of a pool as they are now, and how many wait for one. */
export interface PoolCounts {
  readonly totalCount: number;
  readonly idleCount: number;
  readonly waitingCount: number;
}

/** Opens the pool for reads, migrations and rebuilds. A free connection is waited for at most five seconds. */
export function openDatabase(options: PoolOptions): Kysely<Database> {
  const { url, size, onError, onQuery, onPool, sockets } = options;
  const pool = new pg.Pool({
    connectionString: connectionStringOf(url),
    max: size,
    types,
    options: sessionOptions,
    connectionTimeoutMillis: 5000,
    query_timeout: 150_000,
    application_name: "holdfast",
    ...(sockets === undefined ? {} : { stream: () => sockets.open() }),
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  });
  pool.on("error", onError);
  // The pool listens to idle clients only. One that is lost in a transaction tells whoever uses it, with the next query;
  // without a listener the event would end the process.
  pool.on("connect", (client) => client.on("error", () => {}));
  onPool?.(pool);
  const log = onQuery && (({ queryDurationMillis, query }: LogEvent) => onQuery(queryDurationMillis, query.sql));
  return new Kysely<Database>({ dialect: new PostgresDialect({ pool }), ...(log === undefined ? {} : { log }) });
}

/**
 * A flush that has to wait for its shop's row, because somebody rebuilds the shop, must not keep the flushes of other shops on
 * the same connection: it is given up, and the next look at the log tells.
 */
const flushOptions = `${sessionOptions} -c lock_timeout=100`;

/** How long a flush connection may leave a statement unanswered, in milliseconds. */
const unansweredMs = 15_000;

/**
 * The server itself ends a statement after 10 s. A server that is gone ends nothing: then the connection is given up, and
 * the head tells what became of the statement.
 */
function answeredInTime<Result>(client: pg.Client, answer: Promise<Result>): Promise<Result> {
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection;
  const giveUp = () => stream.destroy(new Error("the flush connection does not answer"));
  const timer = setTimeout(giveUp, unansweredMs);
  return answer.finally(() => clearTimeout(timer));
}

/** One connection for flushes. It is never silently replaced: `generation` counts the connections there have been. */
export interface FlushConnection {
  readonly db: Kysely<Database>;
  /** Appends a shop's commits, as `appendCommits` does, together with those of other shops that wait for the connection. */
  append(append: Append): Promise<boolean>;
  /** Connects if there is no live connection; returns the number of the connection in use. */
  ensureConnected(): Promise<number>;
  readonly generation: number;
  close(): Promise<void>;
}

/** What a flush connection needs. */
export type FlushConnectionOptions = Pick<PoolOptions, "url" | "onError" | "sockets">;

/**
 * Opens a connection on which statements are prepared once by their text and run one after the other. Kysely sees it as
 * a pool of one. Invariant: a query either runs on the connection whose number is `generation`, or fails.
 */
export function openFlushConnection({ url, onError, sockets }: FlushConnectionOptions): FlushConnection {
  let session: Session | undefined;
  let connecting: Promise<number> | undefined;
  let generation = 0;
  let lastTurn: Promise<unknown> = Promise.resolve();
  const statementNames = new Map<string, string>();

  const connect = async (): Promise<number> => {
    const client = new pg.Client({
      connectionString: connectionStringOf(url),
      types,
      options: flushOptions,
      connectionTimeoutMillis: 5000,
      application_name: "holdfast-flush",
      ...(sockets === undefined ? {} : { stream: () => sockets.open() }),
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
    });
    const drop = (): void => {
      if (session?.client === client) {
        session = undefined;
      }
    };
    client.on("error", (error) => {
      onError(error);
      drop();
    });
    client.on("end", drop);
    await client.connect().catch((error: Error & { code?: string }) => {
      // A connection that cannot be made means more than one that was lost: Postgres is away.
      throw Object.assign(new Error(`cannot connect: ${error.message}`, { cause: error }), {
        code: error.code ?? "ECONNECT",
      });
    });
    session = { client, db: poolOfOne((text, parameters) => send(client, text, parameters)) };
    generation += 1;
    return generation;
  };
  const send = (client: pg.Client, text: string, parameters: readonly unknown[]): Promise<pg.QueryResult> => {
    if (client !== session?.client) {
      return Promise.reject(flushConnectionLost());
    }
    let name = statementNames.get(text);
    if (name === undefined) {
      name = `holdfast_${statementNames.size + 1}`;
      statementNames.set(text, name);
    }
    return answeredInTime(client, client.query({ name, text, values: parameters as unknown[] }));
  };
  // Shops share the connection, and pg takes one query at a time.
  const inTurn = <Result>(work: () => Promise<Result>): Promise<Result> => {
    const result = lastTurn.then(work, work);
    lastTurn = result;
    return result;
  };
  const query = (text: string, parameters: readonly unknown[]): Promise<pg.QueryResult> => {
    const client = session?.client;
    return client === undefined ? Promise.reject(flushConnectionLost()) : inTurn(() => send(client, text, parameters));
  };
  const queue = createAppendQueue({ inTurn, session: () => session });

  return {
    db: poolOfOne(query),
    append: (append) => queue.append(append),
    get generation() {
      return generation;
    },
    ensureConnected: async () => {
      if (session !== undefined) {
        return generation;
      }
      connecting ??= connect().finally(() => {
        connecting = undefined;
      });
      return connecting;
    },
    close: async () => {
      await session?.client.end();
    },
  };
}

/** A connection while it lives. */
interface Session {
  readonly client: pg.Client;
  /** For whoever has the turn: sent at once, on this connection or not at all. */
  readonly db: Kysely<Database>;
}

/** A connection that Kysely sees as a pool. */
function poolOfOne(query: (text: string, parameters: readonly unknown[]) => Promise<pg.QueryResult>): Kysely<Database> {
  const onlyConnection = { query, release: () => {} } as unknown as PostgresPoolClient;
  const pool: PostgresPool = { connect: async () => onlyConnection, end: async () => {} } as PostgresPool;
  return new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
}
