import { alone, type Measurement, many } from "./measure.ts";

/** Names that the tables compare with. */
export interface Baselines {
  readonly echo: string;
  readonly rowLock: string;
}

/** Both tables as Markdown. */
export function renderTables(measurements: readonly Measurement[], baselines: Baselines): string {
  return `${renderMany(measurements, baselines)}\n${renderAlone(measurements)}`;
}

function renderMany(measurements: readonly Measurement[], { echo, rowLock }: Baselines): string {
  const byName = groupByContestant(measurements, many.title);
  const rates = (name: string): number[] => (byName.get(name) ?? []).map((each) => each.perSecond);
  const rows = [...byName].map(([name, rounds]) => [
    name,
    withSpread(
      rounds.map((each) => each.perSecond),
      (value) => integer(value),
    ),
    ratio(rates(name), rates(echo)).toFixed(2),
    ratio(rates(name), rates(rowLock)).toFixed(1),
    withSpread(
      rounds.map((each) => each.p50Ms),
      (value) => value.toFixed(1),
    ),
    withSpread(
      rounds.map((each) => each.p99Ms),
      (value) => value.toFixed(1),
    ),
    ...cpuColumns(rounds),
  ]);
  return table([many.title, "calls/s", "of the echo", "x row lock", "p50 ms", "p99 ms", ...cpuTitles], rows);
}

function renderAlone(measurements: readonly Measurement[]): string {
  const rows = [...groupByContestant(measurements, alone.title)].map(([name, rounds]) => [
    name,
    withSpread(
      rounds.map((each) => each.perSecond),
      (value) => integer(value),
    ),
    withSpread(
      rounds.map((each) => each.p50Ms),
      (value) => value.toFixed(2),
    ),
    withSpread(
      rounds.map((each) => each.p99Ms),
      (value) => value.toFixed(2),
    ),
    ...cpuColumns(rounds),
  ]);
  return table([alone.title, "calls/s", "p50 ms", "p99 ms", ...cpuTitles], rows);
}

function groupByContestant(measurements: readonly Measurement[], shape: string): Map<string, Measurement[]> {
  return Map.groupBy(
    measurements.filter((each) => each.shape === shape),
    (each) => each.contestant,
  );
}

/** The median of the ratios of each round: what slows the whole machine down for a round is in both numbers. */
export function ratio(left: readonly number[], right: readonly number[]): number {
  return median(left.map((value, round) => value / (right[round] ?? Number.NaN)));
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}

function withSpread(values: readonly number[], format: (value: number) => string): string {
  return `${format(median(values))} (${format(Math.min(...values))} to ${format(Math.max(...values))})`;
}

const cpuTitles = ["server", "Redis", "PostgreSQL", "load"];

function cpuColumns(rounds: readonly Measurement[]): string[] {
  return ["server", "redis", "postgres", "load"].map((process) => cpu(rounds, process));
}

function cpu(rounds: readonly Measurement[], process: string): string {
  const values = rounds.flatMap((round) => round.cpuUs[process] ?? []);
  return values.length === 0 ? "unknown" : median(values).toFixed(0);
}

const integers = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

function integer(value: number): string {
  return integers.format(value);
}

/** Padded, so that it reads well in a terminal too. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const render = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => pad(cell, widths[column] ?? 0, column)).join(" | ")} |\n`;
  const rule = `|${widths.map((width, column) => (column === 0 ? ` ${"-".repeat(width)} ` : ` ${"-".repeat(width - 1)}: `)).join("|")}|\n`;
  return `${render(head)}${rule}${rows.map(render).join("")}`;
}

function pad(cell: string, width: number, column: number): string {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}
