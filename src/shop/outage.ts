import { isPostgresBusy, isPostgresDown } from "../postgres/errors.ts";
import { Refusal } from "../refusal.ts";
import { RedisUnavailable } from "./redis.ts";

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
