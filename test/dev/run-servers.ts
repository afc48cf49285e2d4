// Stands in for a Holdfast: starts both servers in the folder it is given, prints their process ids as JSON, and stays.
import { startEmbeddedPostgres } from "../../src/dev/embedded-postgres.ts";
import { startPrivateRedis } from "../../src/dev/private-redis.ts";

const dataDir = process.argv[2] ?? "";
const [postgres, redis] = await Promise.all([startEmbeddedPostgres({ dataDir }), startPrivateRedis({ dataDir })]);
process.stdout.write(`${JSON.stringify({ postgresPid: postgres.pid, redisPid: redis.pid, redisUrl: redis.url })}\n`);
setInterval(() => {}, 60_000);
