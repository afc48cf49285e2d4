import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { type ContestantName, contestantNames } from "./cards.ts";
import { publish } from "./publish.ts";
import { renderChart } from "./render-chart.ts";
import { renderMarkdown } from "./render-markdown.ts";
import type { Report } from "./report.ts";
import { runBench, type Timing } from "./run-bench.ts";
import { runCommand, UsageError, writeResults } from "./run-command.ts";
import { type WorkloadName, workloads } from "./workloads.ts";

const workloadNames = Object.keys(workloads) as WorkloadName[];

const usage = `usage: npm run bench [-- OPTIONS]

Holdfast and other ways to sell, side by side on private servers, in interleaved rounds. Prints Markdown; bench/results/
gets the same, a chart (SVG) and every number (JSON). Takes about 20 minutes.

  --quick            one short round of everything; less than two minutes
  --only A,B         these contestants only
  --workloads A,B    these workloads only
  --rounds N         rounds in which everybody takes a turn; default 5, with --quick 1
  --publish FILE     measures nothing: puts an earlier run (a JSON file) into docs/benchmarks.md and README.md

contestants: ${contestantNames.join(", ")}
workloads: ${workloadNames.join(", ")}
`;

const thorough: Timing = {
  roundCount: 5,
  hotMs: { most: 2000, half: 2000, high: 2000, alone: 1000 },
  otherMs: 1500,
  sweepMs: 600,
  lastMs: 10_000,
  warmUpMs: 1000,
};

const quick: Timing = {
  roundCount: 1,
  hotMs: { most: 500, half: 400, alone: 250 },
  otherMs: 300,
  sweepMs: 0,
  lastMs: 5000,
  warmUpMs: 250,
};

function parseOptions() {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: "boolean" },
        only: { type: "string" },
        workloads: { type: "string" },
        rounds: { type: "string" },
        publish: { type: "string" },
        help: { type: "boolean" },
      },
    });
    const timing = values.quick === true ? quick : thorough;
    return {
      contestants: choose<ContestantName>("contestant", contestantNames, values.only),
      workloads: choose<WorkloadName>("workload", workloadNames, values.workloads),
      timing: values.rounds === undefined ? timing : { ...timing, roundCount: parseCount(values.rounds) },
      publish: values.publish,
      wantsHelp: values.help === true,
    };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** In the order of `names`, whatever the order on the command line. */
function choose<Name extends string>(what: string, names: readonly Name[], text: string | undefined): readonly Name[] {
  if (text === undefined) {
    return names;
  }
  const wanted = text.split(",").map((name) => name.trim());
  for (const name of wanted) {
    if (!(names as readonly string[]).includes(name)) {
      throw new Error(`there is no ${what} ${name}: there are ${names.join(", ")}`);
    }
  }
  return names.filter((name) => wanted.includes(name));
}

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) {
    throw new Error(`--rounds takes a number from 1 to 999, not ${text}`);
  }
  return Number(text);
}

process.exitCode = await runCommand({ name: "bench", usage }, async (command) => {
  const { wantsHelp, publish: file, ...options } = parseOptions();
  if (wantsHelp) {
    process.stdout.write(usage);
  } else if (file !== undefined) {
    await publish(JSON.parse(await readFile(file, "utf8")) as Report);
  } else {
    await using cleanUp = new AsyncDisposableStack();
    const report = await runBench({ ...options, ...command }, cleanUp);
    const markdown = renderMarkdown(report);
    const json = `${JSON.stringify(report, undefined, 2)}\n`;
    const files = await writeResults(report.time, { json, md: markdown, svg: renderChart(report) });
    process.stdout.write(`\n${markdown}\nAlso, with every number: ${files}\n`);
  }
});
