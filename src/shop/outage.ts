import { isPostgresBusy, isPostgresDown } from "../postgres/errors.ts";
import { Refusal } from "../refusal.ts";
import { RedisUnavailable } from "./redis.ts";

const inMotion = /^(LOADING|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|MOVED|ASK|READONLY)\b/;

/** Whether an error says that a store is away, which its StoreState logs: everybody else has nothing to add. */
export function isStoreAway(error: unknown): boolean {
  if (!(error instanceof RedisUnavailable)) {
    return isPostgresDown(error);
  }
  const { cause } = error;
  // A Redis that answers with an error is there, unless it is still reading its file, or its cluster is in motion.
  return !(cause instanceof Error && cause.name === "ReplyError") || inMotion.test(cause.message);
}

/** A store that does not answer, as the caller should be told; any other error as it is. */
export function explainOutage(error: unknown): unknown {
  if (error instanceof RedisUnavailable || isPostgresDown(error) || isPostgresBusy(error)) {
    const store = error instanceof RedisUnavailable ? "Redis" : "Postgres";
    return new Refusal("SHOP_UNAVAILABLE", `${store} does not answer; repeat a mutation with its request id`, {
      retryMs: 1000,
    });
  }
  return error;
}
