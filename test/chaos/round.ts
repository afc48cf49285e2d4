import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Redis } from "ioredis";
import type { Client } from "pg";
import { openDoors } from "../helpers/holdfast.ts";
import { until } from "../helpers/until.ts";
import { checkHistory } from "../history/check-history.ts";
import type { CallRecord, CommitRecord } from "../history/history.ts";
import { readCommits } from "../history/read-commits.ts";
import { holdMs } from "./basis.ts";
import { Random } from "./callers/random.ts";
import { startWorkload, type Workload } from "./callers/workload.ts";
import { checkShop } from "./check-shop.ts";
import type { Fault } from "./fault.ts";
import { checkVerification } from "./verification.ts";
import type { World } from "./world.ts";

/** What a round is to do. */
export interface RoundPlan<Kind extends World> {
  readonly world: Kind;
  readonly seed: number;
  readonly shopId: string;
  readonly faults: readonly Fault<Kind>[];
  /** Where the ledger of the callers is written. */
  readonly folder: string;
  readonly callerCount: number;
}

/** How a round went. */
export interface RoundResult {
  readonly violations: readonly string[];
  readonly calls: readonly CallRecord[];
  readonly commits: readonly CommitRecord[];
  readonly acknowledgedCount: number;
  /** From the moment all was mended to the moment when every outcome was known, in milliseconds. */
  readonly settleMs: number;
  readonly serverLogs: readonly string[];
}

/** Sells in a new shop while things break, and checks what is left. Throws when the harness itself cannot go on. */
export async function runRound<Kind extends World>(plan: RoundPlan<Kind>): Promise<RoundResult> {
  const { world, seed, shopId, faults } = plan;
  const random = new Random(seed);
  await createShop(world, shopId);
  for (const fault of faults) await fault.prepare?.({ world, shopId, random });
  const workload = await startWorkload({
    seed,
    shopId,
    callerCount: plan.callerCount,
    watcherCount: 4,
    consumerCount: 2,
    servers: world.servers.map(({ address }) => address),
    ledgerPath: join(plan.folder, `${shopId}.ledger`),
  });
  try {
    workload.resume();
    await breakThings(plan, random);
    await world.mend();
    const mendedMs = performance.now();
    await pause(random.between(200, 500));
    await workload.settle();
    const settleMs = performance.now() - mendedMs;
    const serverLogs = world.servers.flatMap((server) => server.takeLog());
    const { violations, commits } = await check(plan, workload, random, serverLogs);
    serverLogs.push(...world.servers.flatMap((server) => server.takeLog()));
    return {
      violations: [...violations, ...serverLogs.filter(isUnexpected).map((line) => `a server logged ${line}`)],
      calls: workload.calls,
      commits,
      acknowledgedCount: workload.acknowledged.length,
      settleMs,
      serverLogs,
    };
  } finally {
    await workload.close();
  }
}

async function createShop(world: World, shopId: string): Promise<void> {
  const [server] = world.servers;
  const { grpc, http } = (server as World["servers"][number]).address;
  const doors = openDoors(grpc, http);
  const isMade = async (): Promise<boolean> => {
    await doors.grpc.admin.createShop({ shopId, currencyCode: "USD", requestId: "birth" });
    return true;
  };
  await until("a shop was made", () => isMade().catch(() => false), 30_000).finally(() => doors.close());
}

/** All faults of the round, each beginning when it likes. */
async function breakThings<Kind extends World>({ world, shopId, faults }: RoundPlan<Kind>, random: Random) {
  await pause(random.between(150, 500));
  await Promise.all(
    faults.map(async (fault) => {
      const ownRandom = new Random(random.below(2 ** 31));
      await pause(ownRandom.between(0, 600));
      await fault.run({ world, shopId, random: ownRandom });
    }),
  );
}

/** What is wrong when nothing moves any more. */
async function check<Kind extends World>(
  plan: RoundPlan<Kind>,
  workload: Workload,
  random: Random,
  serverLogs: readonly string[],
) {
  const { world, shopId, seed } = plan;
  return world.postgres.use((postgres) =>
    world.useRedis(shopId, async (redis) => {
      const evidence = { shopId, postgres, redis, stripe: world.stripe, acknowledged: workload.acknowledged };
      const { commits, found } = await atRest(postgres, redis, shopId, async () => {
        const commits = await readCommits(postgres, shopId);
        return { commits, found: await checkShop({ ...evidence, commits }) };
      });
      const violations = [
        ...found,
        ...(await workload.checkWatchers(commits)),
        ...checkHistory({
          shopId,
          currencyCode: "USD",
          calls: workload.calls,
          commits,
          holdMs,
          mayLackRedis: mayHaveLackedRedis(plan.faults, serverLogs),
          mayFork: plan.faults.some(({ forks }) => forks === true),
        }).map(({ kind, position, text }) => `${kind} at ${position}: ${text}`),
        ...world.servers.flatMap(({ diedAlone = [] }) => diedAlone),
      ];
      const server = random.from(world.servers).address;
      const isRight = violations.length === 0;
      const later = isRight ? await checkVerification({ shopId, server, redis, random: new Random(seed) }) : [];
      return { violations: [...violations, ...later], commits };
    }),
  );
}

/** Whether a server may have answered without Redis: a fault took it away, or the machine was so slow that it seemed away. */
function mayHaveLackedRedis<Kind extends World>(
  faults: readonly Fault<Kind>[],
  serverLogs: readonly string[],
): boolean {
  const isTakenAway = faults.some(({ uses }) => uses.some((used) => used.startsWith("redis")));
  return isTakenAway || serverLogs.some((line) => line.includes('"store":"Redis"'));
}

/** Looks while nothing is committed: holds that become due meanwhile make it look again. */
async function atRest<Value>(
  postgres: Client,
  redis: Redis,
  shopId: string,
  look: () => Promise<Value>,
): Promise<Value> {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const isAtRest = async (): Promise<boolean> => {
      const { position, isDone } = await headOf(postgres, redis, shopId);
      return isDone && position !== undefined;
    };
    const what = "both stores have the same head, and the gateway was asked for everything";
    await until(what, () => isAtRest().catch(() => false), 30_000);
    const before = await headOf(postgres, redis, shopId);
    const seen = await look();
    if ((await headOf(postgres, redis, shopId)).position === before.position) return seen;
  }
  throw new Error(`shop ${shopId} does not come to rest`);
}

/** The head that both stores agree on, and whether the payment worker has nothing left to do. */
async function headOf(postgres: Client, redis: Redis, shopId: string) {
  const { rows } = await postgres.query(
    `select head_position, head_commit_id, (select count(*) from orders o where o.shop_id = s.shop_id and state = 1
       and payment_method = 4) + (select count(*) from refunds r where r.shop_id = s.shop_id and not r.settled) as open
     from shops s where shop_id = $1`,
    [shopId],
  );
  const [position, commitId] = await redis.hmget(`{${shopId}}:meta`, "position", "commit_id");
  const { head_position, head_commit_id, open } = rows[0];
  const agree = head_position === position && head_commit_id === commitId;
  return { position: agree ? position : undefined, isDone: open === "0" };
}

/** pino's number of the level error. */
const errorLevel = 50;

function isUnexpected(line: string): boolean {
  return JSON.parse(line).level >= errorLevel;
}
