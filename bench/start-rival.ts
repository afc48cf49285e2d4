import type { Client } from "pg";
import { startChild } from "./child.ts";
import type { Contestant } from "./contestant.ts";
import { openRivalShop, schemaOf } from "./open-rival-shop.ts";
import type { RivalServerRequest } from "./rival-server.ts";
import type { RivalName } from "./rivals/rivals.ts";
import type { BenchStores, RedisStore } from "./stores.ts";

/** What a rival is started with. */
export interface RivalStart {
  readonly stores: BenchStores;
  /** The Redis of all rivals. */
  readonly redis: RedisStore;
  /** A connection to the database of all rivals. */
  readonly database: Client;
  /** The answer to every call. */
  readonly response: Uint8Array;
  readonly cleanUp: AsyncDisposableStack;
}

/** Fills a rival's shop and starts its server. */
export async function startRival(
  name: RivalName,
  { stores, redis, database, response, cleanUp }: RivalStart,
): Promise<Contestant> {
  const schema = schemaOf(name);
  const { topUp, ...records } = await openRivalShop(name, redis.url, database, cleanUp);
  const child = startChild("./rival-server.ts", cleanUp);
  const ask = <Answer>(request: RivalServerRequest) => child.ask<Answer>(request);
  const port = await ask<number>({ kind: "serve", rival: name, response });
  const { databaseUrl } = stores;
  return {
    name,
    port,
    pid: child.pid,
    redisPid: redis.pid,
    enter: async (workload, poolSize) => {
      await topUp(workload);
      await ask({ kind: "open", databaseUrl, schema, redisUrl: redis.url, poolSize });
    },
    settle: () => ask({ kind: "settle" }),
    leave: () => ask({ kind: "close" }),
    ...records,
  };
}
