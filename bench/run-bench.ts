import { Client } from "pg";
import { type ContestantName, cards, contestantNames } from "./cards.ts";
import { startChild } from "./child.ts";
import type { Contestant } from "./contestant.ts";
import { describeMachine } from "./describe-machine.ts";
import { findH2load } from "./h2load.ts";
import {
  type Bystanders,
  type Measurement,
  measure,
  type Shape,
  type ShapeName,
  shapes,
  type Task,
} from "./measure.ts";
import { median } from "./median.ts";
import type { LastUnits, Pools, Report } from "./report.ts";
import type { RivalName } from "./rivals/rivals.ts";
import { startEcho } from "./start-echo.ts";
import { startHoldfast } from "./start-holdfast.ts";
import { startRival } from "./start-rival.ts";
import { type BenchStores, startStores } from "./stores.ts";
import { type WorkloadName, workloads } from "./workloads.ts";

/** What is measured, and for how long. */
export interface BenchOptions {
  readonly contestants: readonly ContestantName[];
  readonly workloads: readonly WorkloadName[];
  readonly timing: Timing;
  /** Ends the run early. */
  readonly signal: AbortSignal;
  /** Told what goes on. */
  readonly say: (text: string) => void;
}

/** How often and how long; in milliseconds. */
export interface Timing {
  readonly roundCount: number;
  /** One hot SKU, by shape; what is missing is not measured. */
  readonly hotMs: Readonly<Partial<Record<ShapeName, number>>>;
  /** Each other workload. */
  readonly otherMs: number;
  /** Each size of a pool that is tried; 0: none is, and all pools have `usualPoolSize`. */
  readonly sweepMs: number;
  /** The last units, at most: they are sold by a number of calls. */
  readonly lastMs: number;
  /** Before anything counts. */
  readonly warmUpMs: number;
}

const poolSizes = [5, 10, 20, 50];
const usualPoolSize = 10;
const lastUnits = { supplyCount: 200, purchaseCount: 1000 };

/** Everything that is running, and what has been found out so far. */
interface Bench extends Bystanders {
  readonly options: BenchOptions;
  readonly contestants: readonly Contestant[];
  readonly pools: Map<ContestantName, Pools>;
  readonly measurements: Measurement[];
  readonly lastUnits: LastUnits[];
}

/** Starts private stores and servers, measures, checks all records, and removes everything. */
export async function runBench(options: BenchOptions, cleanUp: AsyncDisposableStack): Promise<Report> {
  const { timing, say, signal } = options;
  say("starting the stores");
  const stores = await startStores(cleanUp);
  signal.throwIfAborted();
  const database = new Client({ connectionString: stores.databaseUrl });
  await database.connect();
  cleanUp.defer(() => database.end());
  const h2load = await findH2load();
  const load = startChild("./load-process.ts", cleanUp);
  say("starting the servers");
  const contestants = await startContestants(options, stores, database, cleanUp);
  const found = { pools: new Map(), measurements: [], lastUnits: [] };
  const bench: Bench = { options, stores, load, hasH2load: h2load !== undefined, contestants, ...found };
  const time = new Date().toISOString();
  await warmUp(bench);
  await sweepPools(bench);
  for (const workload of options.workloads) {
    await measureWorkload(bench, workload);
    for (const contestant of contestants.filter((each) => takesPart(each, workload))) {
      await checkBooks(contestant);
    }
  }
  const { most = 0, half = 0, high = 0, alone = 0 } = timing.hotMs;
  return {
    time,
    machine: await describeMachine(database, stores.redisUrl),
    roundCount: timing.roundCount,
    durationsMs: { most, half, high, alone, others: timing.otherMs },
    pools: Object.fromEntries(timing.sweepMs > 0 ? bench.pools : []),
    ...(h2load === undefined ? {} : { h2load }),
    measurements: bench.measurements,
    lastUnits: bench.lastUnits,
  };
}

/** Holdfast is always there: an answer of its is what the others answer with. */
async function startContestants(
  options: BenchOptions,
  stores: BenchStores,
  database: Client,
  cleanUp: AsyncDisposableStack,
): Promise<Contestant[]> {
  const holdfast = await startHoldfast("holdfast", stores, cleanUp);
  const { response } = holdfast;
  const redis = { url: stores.redisUrl, pid: stores.redisPid };
  const start = (name: ContestantName): Contestant | Promise<Contestant> => {
    switch (name) {
      case "holdfast":
        return holdfast;
      case "holdfast-redis":
        return startHoldfast(name, stores, cleanUp);
      case "echo":
        return startEcho(response, cleanUp);
      default:
        return startRival(name satisfies RivalName, { stores, redis, database, response, cleanUp });
    }
  };
  const contestants: Contestant[] = [];
  for (const name of contestantNames.filter((each) => options.contestants.includes(each))) {
    options.signal.throwIfAborted();
    contestants.push(await start(name));
  }
  return contestants;
}

function takesPart({ name }: Contestant, workload: WorkloadName): boolean {
  return cards[name].workloads.includes(workload);
}

/** One hot SKU and one of many have different bests: the one waits for a row, the other for the disk. */
function poolSizeOf({ pools }: Bench, name: ContestantName, workload: WorkloadName): number {
  const pool = pools.get(name);
  return (workload === "skus" || workload === "cart" ? pool?.many : pool?.hot) ?? usualPoolSize;
}

async function warmUp(bench: Bench): Promise<void> {
  bench.options.say("warming up");
  for (const contestant of bench.contestants) {
    const { warmUpMs: durationMs } = bench.options.timing;
    await inTurn(bench, contestant, "hot", usualPoolSize, (run) => run({ shape: "most", round: 0, durationMs }));
  }
}

/** Tries all sizes of each pool, with one hot SKU and with many. */
async function sweepPools(bench: Bench): Promise<void> {
  const { timing, say } = bench.options;
  if (timing.sweepMs === 0) {
    return;
  }
  for (const contestant of bench.contestants.filter(({ name }) => cards[name].hasPool === true)) {
    const hot = await findBestPool(bench, contestant, "hot");
    const many = takesPart(contestant, "skus") ? await findBestPool(bench, contestant, "skus") : hot;
    bench.pools.set(contestant.name, { hot, many });
    say(`${contestant.name}: best with ${hot} connections for one hot SKU, ${many} for many`);
  }
}

async function findBestPool(bench: Bench, contestant: Contestant, workload: WorkloadName): Promise<number> {
  if (!bench.options.workloads.some((each) => takesPart(contestant, each))) {
    return usualPoolSize;
  }
  const rates = new Map<number, number>();
  for (const poolSize of poolSizes) {
    await inTurn(bench, contestant, workload, poolSize, async (run) => {
      // The first calls prepare the statements of every connection.
      const { sweepMs } = bench.options.timing;
      await run({ shape: "most", round: 0, durationMs: sweepMs / 3 });
      const { perSecond } = await run({ shape: "most", round: 0, durationMs: sweepMs });
      rates.set(poolSize, perSecond);
    });
  }
  return [...rates].reduce((best, each) => (each[1] > best[1] ? each : best))[0];
}

/** Rounds in which everybody takes a turn, each time beginning with another one. */
async function measureWorkload(bench: Bench, workload: WorkloadName): Promise<void> {
  const { timing, say } = bench.options;
  const contestants = bench.contestants.filter((each) => takesPart(each, workload));
  const roundCount = workload === "last" ? 1 : timing.roundCount;
  for (let round = 0; round < roundCount; round += 1) {
    for (let turn = 0; turn < contestants.length; turn += 1) {
      const contestant = contestants[(round + turn) % contestants.length] as Contestant;
      await inTurn(bench, contestant, workload, poolSizeOf(bench, contestant.name, workload), async (run) => {
        if (workload === "last") {
          await measureLastUnits(bench, contestant, run);
        } else if (workload === "hot") {
          await measureHot(bench, contestant, round, run);
        } else {
          bench.measurements.push(await run({ shape: "most", round, durationMs: timing.otherMs }));
        }
      });
      const last = bench.measurements.findLast(({ shape }) => shape === "most");
      const rate = workload === "last" ? "" : `: ${last?.perSecond.toFixed(0)}/s`;
      say(`${workloads[workload].title}, round ${round + 1} of ${roundCount}, ${contestant.name}${rate}`);
    }
  }
}

type Run = (task: Omit<Task, "workload">) => Promise<Measurement>;

/** Lets a contestant open its connections, and close them when `work` is done. */
async function inTurn(
  bench: Bench,
  contestant: Contestant,
  workload: WorkloadName,
  poolSize: number,
  work: (run: Run) => Promise<unknown>,
): Promise<void> {
  await contestant.enter(workload, poolSize);
  await work((task) => measureOnce(bench, contestant, { ...task, workload }));
  await contestant.leave();
}

/** All it can do, then open loops at shares of what it has shown so far, then one caller alone. */
async function measureHot(bench: Bench, contestant: Contestant, round: number, run: Run): Promise<void> {
  for (const [name, durationMs] of Object.entries(bench.options.timing.hotMs)) {
    const shape = name as ShapeName;
    const { share }: Shape = shapes[shape];
    const perSecond = share && share * mostOf(bench, contestant);
    if (perSecond === 0 || (shape !== "most" && cards[contestant.name].isBroken === true)) {
      continue;
    }
    bench.measurements.push(await run({ shape, round, durationMs, ...(perSecond && { perSecond }) }));
  }
}

function mostOf({ measurements }: Bench, { name }: Contestant): number {
  const rounds = measurements.filter((each) => each.contestant === name && each.workload === "hot");
  return median(rounds.filter(({ shape }) => shape === "most").map(({ perSecond }) => perSecond));
}

async function measureLastUnits(bench: Bench, contestant: Contestant, run: Run): Promise<void> {
  const { supplyCount, purchaseCount } = lastUnits;
  await contestant.supply(supplyCount);
  const durationMs = bench.options.timing.lastMs;
  const { doneCount, refusedCount, busyCount } = await run({ shape: "most", round: 0, durationMs, purchaseCount });
  const { name } = contestant;
  bench.lastUnits.push({ contestant: name, supplyCount, soldCount: doneCount, refusedCount, busyCount });
  if (doneCount > supplyCount && cards[name].isBroken !== true) {
    throw new Error(`${name} sold ${doneCount} units of ${supplyCount}`);
  }
}

async function measureOnce(bench: Bench, contestant: Contestant, task: Task): Promise<Measurement> {
  const { signal } = bench.options;
  signal.throwIfAborted();
  const interrupted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  const measurement = await Promise.race([measure(bench, contestant, task), interrupted]);
  const { failedCount, doneCount } = measurement;
  if (failedCount > 0) {
    bench.options.say(`${contestant.name} failed ${failedCount} calls: their outcome is unknown`);
  }
  if (failedCount > doneCount) {
    throw new Error(`${contestant.name} failed more calls than it answered`);
  }
  return measurement;
}

/** All records of a contestant must tell the same; a broken one's stock need not add up. */
async function checkBooks(contestant: Contestant): Promise<void> {
  const books = await contestant.audit();
  if (books === undefined) {
    return;
  }
  const { units, orders, money, wrongSkuCount } = books;
  for (const [what, records] of Object.entries({ units, orders, money })) {
    if (new Set(Object.values(records)).size > 1) {
      throw new Error(`${contestant.name}: its records of ${what} differ: ${JSON.stringify(records)}`);
    }
  }
  if (wrongSkuCount > 0 && cards[contestant.name].isBroken !== true) {
    throw new Error(`${contestant.name}: the stock of ${wrongSkuCount} SKUs does not add up`);
  }
}
