import { parseArgs } from "node:util";
import { startStores } from "../../bench/stores.ts";
import { startHoldfast } from "../helpers/holdfast.ts";
import { Coverage, renderCoverage, uncovered, wrongEntries } from "./coverage.ts";
import { simulate, subjectSettings } from "./simulate.ts";

const usage = `usage: npm run model [-- --commands 20000] [--seed S] [--run R]

Sends random calls of several callers to a Holdfast on private stores and compares every answer with a model. Fails with
the seed when they do not agree, and when an RPC or a reason of the contract was not reached. --run repeats one run.
`;

/** Undefined for `--help`, and for options that do not exist. */
function parseOptions() {
  const options = {
    commands: { type: "string", default: "20000" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    run: { type: "string" },
    help: { type: "boolean" },
  } as const;
  try {
    const { commands, seed, run, help } = parseArgs({ options }).values;
    const numbers = {
      commandCount: Number(commands),
      seed: Number(seed),
      run: run === undefined ? undefined : Number(run),
    };
    const isRight = Object.values(numbers).every((each) => each === undefined || Number.isSafeInteger(each));
    return help === true || !isRight ? undefined : numbers;
  } catch {
    return undefined;
  }
}

function say(text: string): void {
  process.stderr.write(`model: ${text}\n`);
}

async function main(): Promise<number> {
  const options = parseOptions();
  if (options === undefined) {
    process.stdout.write(usage);
    return process.argv.includes("--help") ? 0 : 1;
  }
  const { seed, commandCount, run } = options;
  const cleanUp = new AsyncDisposableStack();
  const coverage = new Coverage();
  const startedMs = performance.now();
  try {
    const { redisUrl, databaseUrl } = await startStores(cleanUp);
    const clock = { nowMs: Date.now() };
    const settings = subjectSettings;
    const doors = await startHoldfast({ redisUrl, databaseUrl, settings, clock: () => clock.nowMs });
    cleanUp.defer(() => doors.stop());
    say(`seed ${seed}`);
    const onRun = (index: number, madeCount: number): void => {
      if (index % 20 === 19)
        say(`run ${index}: ${madeCount} calls, ${Math.round((performance.now() - startedMs) / 1000)} s`);
    };
    const isRepeat = run !== undefined;
    const wanted = { seed, commandCount: isRepeat ? 0 : commandCount, firstRun: run ?? 0, onRun };
    const madeCount = await simulate({ doors, clock, faults: doors.faults }, coverage, wanted);
    for (const fault of doors.faults) say(`the server logged ${fault}`);
    const missed = isRepeat ? [] : [...wrongEntries(), ...uncovered(coverage)];
    process.stdout.write(
      `${renderCoverage(coverage)}\n\n${madeCount} calls with seed ${seed}; the model agrees with all\n`,
    );
    for (const each of missed) say(each);
    return missed.length === 0 && doors.faults.length === 0 ? 0 : 1;
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    return 1;
  } finally {
    await cleanUp.disposeAsync();
  }
}

process.exitCode = await main();
