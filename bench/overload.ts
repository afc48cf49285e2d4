import { parseArgs } from "node:util";
import { measureOverload, type OverloadPlan } from "./overload/measure-overload.ts";
import { renderOverload } from "./overload/render-overload.ts";
import { runCommand, UsageError, writeResults } from "./run-command.ts";

const usage = `usage: npm run overload [-- OPTIONS]

Open-loop load of one hot shop at several times what a server can do, beside 100 calm shops with 200 orders a second in all:
what is sold, what the calm shops notice, how fast calls are refused, and how long it takes to be back to normal. Callers
have the first core to themselves (taskset, so Linux only), everything else the others. On private servers; takes about two
minutes.

  --factors A,B   load in times of the capacity; default 2,5,10
  --rounds N      default 3; the medians are shown
  --seconds N     of each measurement; default 4
`;

function parsePlan(): OverloadPlan | undefined {
  try {
    const { values } = parseArgs({
      options: {
        factors: { type: "string", default: "2,5,10" },
        rounds: { type: "string", default: "3" },
        seconds: { type: "string", default: "4" },
        help: { type: "boolean" },
      },
    });
    if (values.help === true) return undefined;
    return {
      factors: values.factors.split(",").map((text) => parseNumber("--factors", text)),
      roundCount: parseNumber("--rounds", values.rounds),
      durationMs: parseNumber("--seconds", values.seconds) * 1000,
    };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function parseNumber(option: string, text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text.trim())) {
    throw new Error(`${option} takes whole numbers from 1 to 999, not ${text}`);
  }
  return Number(text);
}

process.exitCode = await runCommand({ name: "overload", usage }, async (command) => {
  const plan = parsePlan();
  if (plan === undefined) {
    process.stdout.write(usage);
    return;
  }
  await using cleanUp = new AsyncDisposableStack();
  const rounds = await measureOverload(plan, command, cleanUp);
  const markdown = renderOverload(rounds);
  const json = `${JSON.stringify(rounds, undefined, 2)}\n`;
  const files = await writeResults(`overload-${new Date().toISOString()}`, { json, md: markdown });
  process.stdout.write(`\n${markdown}\nAlso, with every number: ${files}\n`);
});
