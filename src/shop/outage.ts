import { isPostgresBusy, isPostgresDown } from "../postgres/errors.ts";
import { RedisUnavailable } from "./redis.ts";
import { StoreUnavailable } from "./store-unavailable.ts";

/** How a Redis refuses that is still reading its file, or whose cluster is in motion. */
const inMotion: ReadonlySet<string> = new Set("LOADING CLUSTERDOWN MASTERDOWN TRYAGAIN MOVED ASK READONLY".split(" "));

/** Whether an error says that a store is away, which its StoreState logs: everybody else has nothing to add. */
export function isStoreAway(error: unknown): boolean {
  if (!(error instanceof RedisUnavailable)) {
    return isPostgresDown(error);
  }
  // A Redis that answers with another error is there.
  return error.errorCode === undefined || inMotion.has(error.errorCode);
}

/** A store that does not answer or refuses, as the caller should be told; any other error as it is. */
export function explainOutage(error: unknown): unknown {
  const advice = "repeat a mutation with its request id";
  if (error instanceof RedisUnavailable) {
    return new StoreUnavailable("Redis", advice, error.errorCode);
  }
  return isPostgresDown(error) || isPostgresBusy(error) ? new StoreUnavailable("Postgres", advice) : error;
}
