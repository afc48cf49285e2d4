import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { clusterFaults } from "./cluster-faults.ts";
import { startClusterWorld } from "./cluster-world.ts";
import type { Fault } from "./fault.ts";
import { runChaos, type Totals } from "./run.ts";
import { singleFaults } from "./single-faults.ts";
import { startSingleWorld } from "./single-world.ts";
import type { World } from "./world.ts";

const usage = `usage: npm run chaos [-- --cluster] [--rounds 20] [--seed S] [--first 0] [--faults a,b] [--servers 3] [--callers 32]

Sells through several servers while servers, Redis, PostgreSQL and the networks between them break, round after round, and
checks after each that nothing was lost, sold or charged twice, and that every answer was true. --faults draws from these
only; --first R --rounds 1 repeats a round: the same things break, in whatever order the callers come.

With --cluster, Redis is a Redis Cluster of three masters and three replicas, all on this machine.

faults: ${namesOf(singleFaults)}

faults of a cluster: ${namesOf(clusterFaults)}
`;

function namesOf<Kind extends World>(faults: readonly Fault<Kind>[]): string {
  return faults.map(({ name }) => name).join(", ");
}

/** Undefined for `--help`, and for options that do not exist. */
function parseOptions() {
  const options = {
    rounds: { type: "string", default: "20" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    first: { type: "string", default: "0" },
    faults: { type: "string" },
    cluster: { type: "boolean", default: false },
    servers: { type: "string", default: "3" },
    callers: { type: "string", default: "32" },
    help: { type: "boolean" },
  } as const;
  try {
    const { rounds, seed, first, faults, cluster, servers, callers, help } = parseArgs({ options }).values;
    const numbers = {
      roundCount: Number(rounds),
      seed: Number(seed),
      firstRound: Number(first),
      serverCount: Number(servers),
      callerCount: Number(callers),
    };
    const known = (cluster ? clusterFaults : singleFaults).map(({ name }) => name);
    const names = faults?.split(",").map((name) => name.trim()) ?? known;
    const isRight =
      Object.values(numbers).every((each) => Number.isSafeInteger(each) && each >= 0) &&
      names.every((name) => known.includes(name));
    return help === true || !isRight ? undefined : { ...numbers, isCluster: cluster, names };
  } catch {
    return undefined;
  }
}

function say(text: string): void {
  process.stderr.write(`chaos: ${text}\n`);
}

function describe(totals: Totals, roundCount: number, seed: number): string {
  const rows = [...totals.roundsOfFault]
    .sort()
    .map(([name, count]) => `  ${name.padEnd(30)}${String(count).padStart(6)}`);
  const { callCount, commitCount, acknowledgedCount, refusedCount, longestSettleMs } = totals;
  return [
    "rounds with",
    ...rows,
    `${roundCount} rounds with seed ${seed}: ${callCount} calls, ${commitCount} commits, ${acknowledgedCount} acknowledged mutations,`,
    `${refusedCount} refusals; longest time from the last mend to the last answer ${(longestSettleMs / 1000).toFixed(1)} s; 0 violations`,
    "",
  ].join("\n");
}

type Options = NonNullable<ReturnType<typeof parseOptions>>;

/** Runs the rounds in a world and takes it away again. */
async function runIn<Kind extends World>(
  world: Kind,
  faults: readonly Fault<Kind>[],
  { names, ...options }: Options,
  folder: string,
): Promise<number> {
  const drawn = faults.filter(({ name }) => names.includes(name));
  try {
    const flags = options.isCluster ? "--cluster " : "";
    const totals = await runChaos({ ...options, world, faults: drawn, folder, say, flags });
    process.stdout.write(describe(totals, options.roundCount, options.seed));
    await world.close();
    await rm(folder, { recursive: true, force: true });
    return 0;
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    await world.close();
    return 1;
  }
}

async function main(): Promise<number> {
  const options = parseOptions();
  if (options === undefined) {
    process.stdout.write(usage);
    return process.argv.includes("--help") ? 0 : 1;
  }
  const folder = await mkdtemp(join(tmpdir(), "holdfast-chaos-"));
  // PostgreSQL does not run as root and has to reach its own, closed folder in here.
  await chmod(folder, 0o711);
  say(`seed ${options.seed}`);
  return options.isCluster
    ? runIn(await startClusterWorld(folder, options.serverCount, {}), clusterFaults, options, folder)
    : runIn(await startSingleWorld(folder, options.serverCount, {}), singleFaults, options, folder);
}

process.exitCode = await main();
