import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runChaos, type Totals } from "./run.ts";
import { singleFaults } from "./single-faults.ts";
import { startSingleWorld } from "./single-world.ts";

const usage = `usage: npm run chaos [-- --rounds 20] [--seed S] [--first 0] [--faults a,b] [--servers 3] [--callers 32]

Sells through several servers while servers, Redis, PostgreSQL and the networks between them break, round after round, and
checks after each that nothing was lost, sold or charged twice, and that every answer was true. --faults draws from these
only; --first R --rounds 1 repeats a round: the same things break, in whatever order the callers come.

faults: ${singleFaults.map(({ name }) => name).join(", ")}
`;

/** Undefined for options that do not exist. */
function parseOptions() {
  const options = {
    rounds: { type: "string", default: "20" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    first: { type: "string", default: "0" },
    faults: { type: "string", default: singleFaults.map(({ name }) => name).join(",") },
    servers: { type: "string", default: "3" },
    callers: { type: "string", default: "32" },
    help: { type: "boolean" },
  } as const;
  try {
    const { rounds, seed, first, faults, servers, callers, help } = parseArgs({ options }).values;
    const numbers = {
      roundCount: Number(rounds),
      seed: Number(seed),
      firstRound: Number(first),
      serverCount: Number(servers),
      callerCount: Number(callers),
    };
    const names = faults.split(",").map((name) => name.trim());
    const chosen = singleFaults.filter(({ name }) => names.includes(name));
    const isRight = Object.values(numbers).every((each) => Number.isSafeInteger(each) && each >= 0);
    return help === true || !isRight || chosen.length < names.length ? undefined : { ...numbers, faults: chosen };
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

async function main(): Promise<number> {
  const options = parseOptions();
  if (options === undefined) {
    process.stdout.write(usage);
    return 1;
  }
  const { seed, roundCount, serverCount, ...rest } = options;
  const folder = await mkdtemp(join(tmpdir(), "holdfast-chaos-"));
  // PostgreSQL does not run as root and has to reach its own, closed folder in here.
  await chmod(folder, 0o711);
  say(`seed ${seed}`);
  const world = await startSingleWorld(folder, serverCount, {});
  try {
    const totals = await runChaos({ world, seed, roundCount, ...rest, folder, say });
    process.stdout.write(describe(totals, roundCount, seed));
    await world.close();
    await rm(folder, { recursive: true, force: true });
    return 0;
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    await world.close();
    return 1;
  }
}

process.exitCode = await main();
