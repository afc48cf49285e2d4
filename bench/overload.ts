import { parseArgs } from "node:util";
import { startTestbed } from "./growth/testbed.ts";
import { type GuardedRates, measureGuards } from "./overload/measure-guards.ts";
import { measureOverload, type OverloadPlan, type OverloadRound } from "./overload/measure-overload.ts";
import { renderGuards } from "./overload/render-guards.ts";
import { renderOverload } from "./overload/render-overload.ts";
import { type Command, runCommand, UsageError, writeResults } from "./run-command.ts";

const partNames = ["guards", "load"] as const;

const usage = `usage: npm run overload [-- OPTIONS]

On private servers; takes about three minutes. Two parts:

guards  256 orders of one hot shop in flight, on a server with default settings that logs nothing, and in turn on one that asks
        for tokens, counts calls for rates, logs, and has its metrics read every second: what of the orders is left.
load    Open-loop load of one hot shop at several times what a server can do, beside 100 calm shops with 200 orders a second in
        all: what is sold, what the calm shops notice, how fast calls are refused, and how long it takes to be back to normal.
        Callers have the first core to themselves (taskset, so Linux only), everything else the others.

  --only PART     guards or load; default both
  --factors A,B   load in times of the capacity; default 2,5,10
  --rounds N      default 3; the medians are shown
  --seconds N     of each measurement; default 4
`;

type PartName = (typeof partNames)[number];

/** What a run measures. */
interface Plan extends OverloadPlan {
  readonly parts: readonly PartName[];
}

function parsePlan(): Plan | undefined {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: "string" },
        factors: { type: "string", default: "2,5,10" },
        rounds: { type: "string", default: "3" },
        seconds: { type: "string", default: "4" },
        help: { type: "boolean" },
      },
    });
    if (values.help === true) return undefined;
    return {
      parts: parseParts(values.only),
      factors: values.factors.split(",").map((text) => parseNumber("--factors", text)),
      roundCount: parseNumber("--rounds", values.rounds),
      durationMs: parseNumber("--seconds", values.seconds) * 1000,
    };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function parseParts(only: string | undefined): readonly PartName[] {
  const parts = partNames.filter((name) => only === undefined || only === name);
  if (parts.length === 0) {
    throw new Error(`--only takes ${partNames.join(" or ")}, not ${only}`);
  }
  return parts;
}

function parseNumber(option: string, text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text.trim())) {
    throw new Error(`${option} takes whole numbers from 1 to 999, not ${text}`);
  }
  return Number(text);
}

/** One part after the other, each with servers of its own. */
async function measure(plan: Plan, command: Command): Promise<Results> {
  return {
    guards: plan.parts.includes("guards") ? await measureGuardsAlone(plan, command) : undefined,
    load: plan.parts.includes("load") ? await measureLoadAlone(plan, command) : undefined,
  };
}

/** What was measured; undefined: not asked for. */
interface Results {
  readonly guards: readonly GuardedRates[] | undefined;
  readonly load: readonly OverloadRound[] | undefined;
}

/** Before the other part: that one keeps this process, and those that it starts from then on, to some of the cores. */
async function measureGuardsAlone(plan: Plan, command: Command): Promise<readonly GuardedRates[]> {
  await using cleanUp = new AsyncDisposableStack();
  const plain = await startTestbed(cleanUp, { logLevel: "fatal" });
  return await measureGuards(plain, { ...plan, ...command }, cleanUp);
}

async function measureLoadAlone(plan: Plan, command: Command): Promise<readonly OverloadRound[]> {
  await using cleanUp = new AsyncDisposableStack();
  return await measureOverload(plan, command, cleanUp);
}

function render({ guards, load }: Results): string {
  return [guards && renderGuards(guards), load && renderOverload(load)].filter(Boolean).join("\n");
}

process.exitCode = await runCommand({ name: "overload", usage }, async (command) => {
  const plan = parsePlan();
  if (plan === undefined) {
    process.stdout.write(usage);
    return;
  }
  const results = await measure(plan, command);
  const markdown = render(results);
  const json = `${JSON.stringify(results, undefined, 2)}\n`;
  const files = await writeResults(`overload-${new Date().toISOString()}`, { json, md: markdown });
  process.stdout.write(`\n${markdown}\nAlso, with every number: ${files}\n`);
});
