import { parseArgs } from "node:util";
import { UsageError } from "../run-command.ts";
import { type PartName, partNames } from "./report.ts";

/** What a run measures. */
export interface GrowthPlan {
  readonly parts: readonly PartName[];
  /** Ascending. */
  readonly sizes: Readonly<Record<PartName, readonly number[]>>;
  readonly roundCount: number;
  /** Of each measurement, in milliseconds. */
  readonly durationMs: number;
}

const thorough: GrowthPlan = {
  parts: partNames,
  sizes: {
    shops: [1, 10, 100, 1000],
    history: [0, 100_000, 1_000_000, 5_000_000],
    size: [1000, 10_000, 100_000, 1_000_000],
    watchers: [1, 100, 1000],
    processes: [1, 2, 4],
  },
  roundCount: 5,
  durationMs: 2000,
};

const quick: GrowthPlan = {
  parts: partNames,
  sizes: { shops: [1, 10, 100], history: [0, 20_000], size: [1000, 10_000], watchers: [1, 100], processes: [1, 2] },
  roundCount: 1,
  durationMs: 250,
};

const leastSizes: Readonly<Record<PartName, number>> = { shops: 1, history: 0, size: 1, watchers: 1, processes: 1 };

/** What `--help` prints. */
export const usage = `usage: npm run bench:growth [-- OPTIONS]

What grows with a shop and what does not: orders per second and their latencies on private servers, in interleaved rounds.
Prints Markdown; bench/results/ gets the same and every number (JSON). Takes about a quarter of an hour,
10 GB of disk and 3 GB of memory.

  --only A,B         these parts only: ${partNames.join(", ")}
  --quick            small sizes and one short round of each; less than a minute
  --rounds N         rounds in which every size takes a turn; default ${thorough.roundCount}, with --quick ${quick.roundCount}
  --ms N             how long each measurement takes; default ${thorough.durationMs}, with --quick ${quick.durationMs}
${partNames.map((name) => `  --${name.padEnd(9)} A,B  sizes of this part; default ${thorough.sizes[name].join(",")}`).join("\n")}
  --publish FILE     measures nothing: puts an earlier run (a JSON file) into docs/benchmarks.md
`;

/** Reads the command line; undefined when it asks for help. */
export function parseOptions(args?: readonly string[]): { plan: GrowthPlan; publish: string | undefined } | undefined {
  const values = readValues(args);
  if (values.help === true) {
    return undefined;
  }
  const base = values.quick === true ? quick : thorough;
  const sizes = Object.fromEntries(
    partNames.map((name) => [name, parseSizes(name, values[name]) ?? base.sizes[name]]),
  ) as Record<PartName, readonly number[]>;
  return {
    plan: {
      parts: parseParts(values.only) ?? base.parts,
      sizes,
      roundCount: parseCount("rounds", values.rounds, 1) ?? base.roundCount,
      durationMs: parseCount("ms", values.ms, 1) ?? base.durationMs,
    },
    publish: values.publish,
  };
}

const options = {
  only: { type: "string" },
  quick: { type: "boolean" },
  rounds: { type: "string" },
  ms: { type: "string" },
  shops: { type: "string" },
  history: { type: "string" },
  size: { type: "string" },
  watchers: { type: "string" },
  processes: { type: "string" },
  publish: { type: "string" },
  help: { type: "boolean" },
} as const;

function readValues(args: readonly string[] | undefined) {
  try {
    return parseArgs({ options, ...(args && { args: [...args] }) }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function parseParts(text: string | undefined): readonly PartName[] | undefined {
  const wanted = text?.split(",");
  const unknown = wanted?.find((name) => !(partNames as readonly string[]).includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`there is no part ${unknown}: there are ${partNames.join(", ")}`);
  }
  return wanted && partNames.filter((name) => wanted.includes(name));
}

function parseSizes(name: PartName, text: string | undefined): readonly number[] | undefined {
  return text
    ?.split(",")
    .map((size) => parseCount(name, size, leastSizes[name]) as number)
    .sort((left, right) => left - right);
}

function parseCount(name: string, text: string | undefined, least: number): number | undefined {
  if (text !== undefined && (!/^\d{1,8}$/.test(text) || Number(text) < least)) {
    throw new UsageError(`--${name} takes whole numbers from ${least} to 99999999, not ${text}`);
  }
  return text === undefined ? undefined : Number(text);
}
