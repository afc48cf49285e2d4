import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism, cpus, platform, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Client } from "pg";
import { startChild } from "./child.ts";
import {
  type Contestant,
  createRivalTables,
  type RivalOptions,
  startEcho,
  startHoldfast,
  startRival,
} from "./contestants.ts";
import { alone, type Bystanders, type Measurement, many, measure } from "./measure.ts";
import { startStores } from "./stores.ts";
import { renderTables } from "./tables.ts";

const usage = `usage: npm run bench [-- --quick]

Compares Holdfast with a bare gRPC echo and with two ways to sell on PostgreSQL alone, in interleaved rounds on private
servers. Prints Markdown; bench/results/ gets every number as JSON. Takes about two minutes, half a minute with --quick.
`;

/** How long everything takes. */
interface Timing {
  readonly roundCount: number;
  readonly manyMs: number;
  readonly aloneMs: number;
  readonly sweepMs: number;
  readonly warmUpMs: number;
}

const thorough: Timing = { roundCount: 5, manyMs: 2500, aloneMs: 1000, sweepMs: 1000, warmUpMs: 2000 };
const quick: Timing = { roundCount: 2, manyMs: 1000, aloneMs: 500, sweepMs: 400, warmUpMs: 1000 };
const poolSizes = [5, 10, 20, 50];

const baselines = { echo: "echo", rowLock: "row lock" };

/** Everything that is running, and what has been sold so far by whom. */
interface Bench extends Bystanders {
  readonly timing: Timing;
  readonly sold: Map<string, number>;
  readonly signal: AbortSignal;
}

async function run(timing: Timing, signal: AbortSignal, cleanUp: AsyncDisposableStack): Promise<void> {
  say("starting the stores");
  const stores = await startStores(cleanUp);
  signal.throwIfAborted();
  const database = new Client({ connectionString: stores.databaseUrl });
  await database.connect();
  cleanUp.defer(() => database.end());
  const load = startChild("./load-process.ts", cleanUp);
  const bench: Bench = { timing, stores, load, sold: new Map(), signal };

  say("starting the servers");
  const holdfast = await startHoldfast(stores, database, cleanUp);
  const { response } = holdfast;
  const echo = await startEcho(response, cleanUp);
  await measureOnce(bench, echo, timing.warmUpMs);
  const shared = { response, databaseUrl: stores.databaseUrl, database, cleanUp };
  const rowLock = await startBestRival(bench, { ...shared, name: baselines.rowLock, purchase: "row lock" });
  const statement = await startBestRival(bench, { ...shared, name: "one statement", purchase: "one statement" });
  await measureOnce(bench, holdfast, timing.warmUpMs);

  const contestants = [echo, rowLock.contestant, statement.contestant, holdfast];
  const measurements = await measureRounds(bench, contestants);
  await verify(bench, contestants);
  const poolSize = { [rowLock.contestant.name]: rowLock.poolSize, [statement.contestant.name]: statement.poolSize };
  await report(measurements, { machine: await describeMachine(database), poolSize, timing });
}

/** Tries all pool sizes side by side, twice each, and keeps the rival with the best one. */
async function startBestRival(bench: Bench, options: Omit<RivalOptions, "poolSize">) {
  await createRivalTables(options.database, options.purchase);
  const tried: { readonly poolSize: number; readonly contestant: Contestant; perSecond: number }[] = [];
  for (const poolSize of poolSizes) {
    const contestant = await startRival({ ...options, poolSize });
    await measureOnce(bench, contestant, bench.timing.sweepMs);
    tried.push({ poolSize, contestant, perSecond: 0 });
  }
  for (const each of [...tried, ...tried]) {
    const { perSecond } = await measureOnce(bench, each.contestant, bench.timing.sweepMs);
    each.perSecond = Math.max(each.perSecond, perSecond);
  }
  const [best, ...others] = tried.sort((left, right) => right.perSecond - left.perSecond);
  await Promise.all(others.map(({ contestant }) => contestant.stop()));
  const rates = tried.map(({ poolSize, perSecond }) => `${perSecond.toFixed(0)}/s with ${poolSize}`);
  say(`${options.name} by pool size: ${rates.join(", ")}`);
  return best as (typeof tried)[number];
}

/** Rounds in which everybody takes a turn, each time beginning with another one. */
async function measureRounds(bench: Bench, contestants: readonly Contestant[]): Promise<Measurement[]> {
  const { roundCount, manyMs, aloneMs } = bench.timing;
  const measurements: Measurement[] = [];
  for (let round = 0; round < roundCount; round += 1) {
    for (let turn = 0; turn < contestants.length; turn += 1) {
      const contestant = contestants[(round + turn) % contestants.length] as Contestant;
      const measurement = await measureOnce(bench, contestant, manyMs);
      measurements.push(measurement, await measureOnce(bench, contestant, aloneMs, alone));
      say(`round ${round + 1} of ${roundCount}, ${contestant.name}: ${measurement.perSecond.toFixed(0)}/s`);
    }
  }
  const order = new Map(contestants.map(({ name }, index) => [name, index]));
  return measurements.sort((left, right) => (order.get(left.contestant) ?? 0) - (order.get(right.contestant) ?? 0));
}

async function measureOnce(
  bench: Bench,
  contestant: Contestant,
  durationMs: number,
  shape = many,
): Promise<Measurement> {
  bench.signal.throwIfAborted();
  const interrupted = new Promise<never>((_, reject) => {
    bench.signal.addEventListener("abort", () => reject(bench.signal.reason), { once: true });
  });
  const measurement = await Promise.race([measure(bench, contestant, shape, durationMs), interrupted]);
  if (measurement.failureCount > 0) {
    throw new Error(`${contestant.name} failed ${measurement.failureCount} of its calls`);
  }
  bench.sold.set(contestant.name, (bench.sold.get(contestant.name) ?? 0) + measurement.successCount);
  return measurement;
}

/** What the callers were told must be what the records say. */
async function verify({ sold }: Bench, contestants: readonly Contestant[]): Promise<void> {
  for (const contestant of contestants) {
    const told = sold.get(contestant.name);
    for (const [record, count] of Object.entries((await contestant.countSold()) ?? {})) {
      if (count !== told) {
        throw new Error(`${contestant.name} told its callers of ${told} orders, ${record} says ${count}`);
      }
    }
  }
}

interface About {
  readonly machine: string;
  /** By contestant. */
  readonly poolSize: Readonly<Record<string, number>>;
  readonly timing: Timing;
}

async function report(measurements: readonly Measurement[], about: About): Promise<void> {
  const now = new Date().toISOString();
  const folder = fileURLToPath(new URL("./results/", import.meta.url));
  await mkdir(folder, { recursive: true });
  const file = `hot-sku-${now.replaceAll(/[:.]/g, "-")}.json`;
  await writeFile(`${folder}${file}`, `${JSON.stringify({ time: now, ...about, measurements }, undefined, 2)}\n`);
  const pools = Object.entries(about.poolSize).map(([name, size]) => `${name} ${size}`);
  const { roundCount, manyMs, aloneMs } = about.timing;
  process.stdout.write(
    `\n${now.slice(0, 10)}, ${about.machine}. ${roundCount} rounds of ${manyMs / 1000} s and ${aloneMs / 1000} s; ` +
      `median (least to most) over the rounds; best pools: ${pools.join(", ")}. ` +
      `The four columns on the right: CPU time per call in µs, of whole process trees.\n\n` +
      `${renderTables(measurements, baselines)}\nEvery number: bench/results/${file}\n`,
  );
}

async function describeMachine(database: Client): Promise<string> {
  const { rows } = await database.query<{ version: string }>("select split_part(version(), ' on ', 1) as version");
  const gigabytes = Math.round(totalmem() / 2 ** 30);
  const model = cpus()[0]?.model.trim() ?? "unknown CPU";
  const system = `${platform()} ${release().split("-")[0]}`;
  return `${availableParallelism()} cores of ${model}, ${gigabytes} GiB, ${system}, Node ${process.versions.node}, ${rows[0]?.version}`;
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

/** Undefined for options that do not exist. */
function parseOptions() {
  try {
    return parseArgs({ options: { quick: { type: "boolean" }, help: { type: "boolean" } } }).values;
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

async function main(): Promise<number> {
  const values = parseOptions();
  if (values === undefined || values.help === true) {
    process.stdout.write(usage);
    return values === undefined ? 1 : 0;
  }
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  const cleanUp = new AsyncDisposableStack();
  try {
    await run(values.quick === true ? quick : thorough, interrupt.signal, cleanUp);
    return 0;
  } catch (error) {
    say(
      interrupt.signal.aborted
        ? "interrupted"
        : error instanceof Error
          ? (error.stack ?? error.message)
          : String(error),
    );
    return interrupt.signal.aborted ? 130 : 1;
  } finally {
    await cleanUp.disposeAsync();
  }
}

process.exitCode = await main();
