import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "./callers/random.ts";
import { drawFaults, type Fault } from "./fault.ts";
import { type RoundResult, runRound } from "./round.ts";
import type { World } from "./world.ts";

/** How a run goes. */
export interface RunOptions<Kind extends World> {
  readonly world: Kind;
  readonly faults: readonly Fault<Kind>[];
  readonly seed: number;
  readonly roundCount: number;
  /** The first round; the others come after it. */
  readonly firstRound: number;
  readonly callerCount: number;
  /** What a failed round leaves is written here. */
  readonly folder: string;
  readonly say: (text: string) => void;
  /** Options, each with a space behind it, that a repetition of a round needs besides its seed and number. Default none. */
  readonly flags?: string;
}

/** What all rounds of a run came to. */
export interface Totals {
  readonly roundsOfFault: Map<string, number>;
  callCount: number;
  commitCount: number;
  acknowledgedCount: number;
  refusedCount: number;
  longestSettleMs: number;
}

/** Rounds after which database and Redis are made anew: what earlier rounds left would slow the later ones. */
const roundsPerAge = 25;

/** Runs rounds until one is violated. Throws what tells the violation and how to repeat it. */
export async function runChaos<Kind extends World>(options: RunOptions<Kind>): Promise<Totals> {
  const totals: Totals = {
    roundsOfFault: new Map(),
    callCount: 0,
    commitCount: 0,
    acknowledgedCount: 0,
    refusedCount: 0,
    longestSettleMs: 0,
  };
  for (let index = options.firstRound; index < options.firstRound + options.roundCount; index += 1) {
    if ((index - options.firstRound) % roundsPerAge === 0) await options.world.renew();
    await runOne(options, index, totals);
  }
  return totals;
}

async function runOne<Kind extends World>(options: RunOptions<Kind>, index: number, totals: Totals): Promise<void> {
  const { world, callerCount, folder, say } = options;
  const seed = options.seed * 10_007 + index;
  const faults = drawFaults(options.faults, new Random(seed));
  const names = faults.map(({ name }) => name).join(", ");
  const startedMs = performance.now();
  const plan = { world, seed, shopId: `chaos-${index}`, faults, folder, callerCount };
  const result = await runRound(plan).catch((error: Error) => {
    const logs = world.servers.flatMap((server) => server.takeLog());
    throw new Error(`${describeRound(options, index, names)}: ${error.stack}\n${logs.slice(-20).join("\n")}`);
  });
  add(totals, faults, result);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  const settled = `all known ${Math.round(result.settleMs)} ms after the last mend`;
  say(
    `round ${index}: ${names}: ${result.calls.length} calls, ${result.commits.length} commits, ${settled}; ${seconds} s`,
  );
  if (result.violations.length > 0) {
    const kept = await keep(folder, index, result);
    const shown = result.violations.slice(0, 20).join("\n");
    throw new Error(
      `${describeRound(options, index, names)}: ${result.violations.length} violations\n${shown}\nkept in ${kept}`,
    );
  }
}

function describeRound<Kind extends World>(
  { seed, flags = "" }: RunOptions<Kind>,
  index: number,
  names: string,
): string {
  return `seed ${seed}, round ${index} (${names}), again with: npm run chaos -- ${flags}--seed ${seed} --first ${index} --rounds 1`;
}

function add<Kind extends World>(totals: Totals, faults: readonly Fault<Kind>[], result: RoundResult): void {
  for (const { name } of faults) totals.roundsOfFault.set(name, (totals.roundsOfFault.get(name) ?? 0) + 1);
  totals.callCount += result.calls.length;
  totals.commitCount += result.commits.length;
  totals.acknowledgedCount += result.acknowledgedCount;
  totals.refusedCount += result.calls.filter(({ outcome }) => outcome?.kind === "refused").length;
  totals.longestSettleMs = Math.max(totals.longestSettleMs, result.settleMs);
}

/** Keeps what a failed round left: calls, commits and what the servers logged. Returns the folder. */
async function keep(folder: string, index: number, { calls, commits, serverLogs, violations }: RoundResult) {
  const kept = join(folder, `round-${index}`);
  await mkdir(kept, { recursive: true });
  const lines = (items: readonly unknown[]): string => items.map((item) => `${JSON.stringify(item)}\n`).join("");
  await writeFile(join(kept, "calls.jsonl"), lines(calls));
  await writeFile(join(kept, "commits.jsonl"), lines(commits));
  await writeFile(join(kept, "servers.log"), `${serverLogs.join("\n")}\n`);
  await writeFile(join(kept, "violations.txt"), `${violations.join("\n")}\n`);
  return kept;
}
