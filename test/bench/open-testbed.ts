import { openSides, startCallers, type Testbed } from "../../bench/growth/testbed.ts";
import { readMemoryUse } from "../../bench/memory-use.ts";
import type { Holdfast } from "../helpers/holdfast.ts";
import type { Stores } from "../helpers/use-holdfast.ts";

/** The testbed of a benchmark whose server is the Holdfast of a test file. */
export async function openTestbed(holdfast: Stores & Holdfast, cleanUp: AsyncDisposableStack): Promise<Testbed> {
  const { redisUrl, databaseUrl } = holdfast.urls;
  const port = holdfast.server.grpcPort;
  const sides = await openSides(port, redisUrl, databaseUrl, cleanUp);
  const callers = startCallers(cleanUp);
  const pids = {
    server: process.pid,
    redis: holdfast.redis.pid,
    postgres: process.pid,
    load: callers.load.pid,
    watchers: callers.crowd.pid,
  };
  return { port, redisUrl, databaseUrl, ...sides, ...callers, readMemory: async () => readMemoryUse(), pids };
}
