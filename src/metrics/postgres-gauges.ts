import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { lookAtPostgres, type PostgresLook } from "../postgres/looks.ts";
import type { Database } from "../postgres/schema.ts";
import { isStoreAway } from "../shop/outage.ts";
import { createGauge } from "./gauge.ts";

/** What the gauges need. */
export interface PostgresGaugesOptions {
  readonly registry: Registry;
  readonly db: Kysely<Database>;
  /** How often PostgreSQL is looked at, in milliseconds. Default 15,000. */
  readonly lookMs?: number;
  readonly logger: Logger;
}

/** What is shown as long as nobody knows. */
const unseen: PostgresLook = { consumerCount: 0, consumerLagCount: 0, oldestTransactionSeconds: 0 };

/**
 * Shows what only PostgreSQL knows, as it was at the last look: whoever asks for the metrics never waits for a store. While it
 * is away, everything is 0: what was true before would raise alarms that nobody can end. Gives what ends the looks.
 */
export function createPostgresGauges({ registry, db, lookMs = 15_000, logger }: PostgresGaugesOptions): () => void {
  let found = unseen;
  let looking = false;
  const gauge = (name: string, help: string, read: () => number): void => createGauge({ registry, name, help, read });
  gauge("holdfast_consumers", "Consumers of all shops that moved on within the last day.", () => found.consumerCount);
  gauge(
    "holdfast_consumer_lag_commits",
    "Durable commits that the one of them that is furthest behind has not acknowledged.",
    () => found.consumerLagCount,
  );
  gauge(
    "holdfast_postgres_oldest_transaction_seconds",
    "Age of the oldest transaction of a client on the database: while it is open, PostgreSQL cleans nothing up.",
    () => found.oldestTransactionSeconds,
  );
  const look = async (): Promise<void> => {
    looking = true;
    try {
      found = await lookAtPostgres(db);
    } catch (error) {
      if (isStoreAway(error)) found = unseen;
      logger[isStoreAway(error) ? "debug" : "warn"](
        { err: error },
        "PostgreSQL could not be looked at for the metrics",
      );
    } finally {
      looking = false;
    }
  };
  const timer = setInterval(() => looking || void look(), lookMs);
  return () => clearInterval(timer);
}
