import { decimal, integer, markdownTable } from "../markdown-table.ts";
import { median } from "../median.ts";
import type { Bytes } from "./bytes.ts";
import type { Point } from "./in-turns.ts";
import type { OrderRates } from "./measure-orders.ts";
import type { GrowthReport } from "./report.ts";

/** A run as Markdown: a table for each part that was measured. */
export function renderGrowth(report: GrowthReport): string {
  const { time, machine, roundCount, durationMs, shops, history, size } = report;
  const how = `${roundCount} rounds of ${decimal(durationMs / 1000, 1)} s each; medians, least and most in brackets`;
  return [
    `${time.slice(0, 10)}, ${machine}. ${how}.\n`,
    ...(shops === undefined ? [] : [ratesTable("shops", shops)]),
    ...(history === undefined ? [] : [ratesTable("events before", history.points), bytesTable(history.bytes)]),
    ...(size === undefined ? [] : [ratesTable("products and users", size.points), bytesTable(size.bytes)]),
  ].join("\n");
}

/** The rates of every size, and their ratios to those of the first. */
function ratesTable(what: string, points: readonly Point<OrderRates>[]): string {
  const bySize = [...Map.groupBy(points, ({ size }) => size)].sort(([left], [right]) => left - right);
  const first = bySize[0]?.[1] ?? [];
  const of = (rounds: readonly OrderRates[], read: (rates: OrderRates) => number): number => median(rounds.map(read));
  const rows = bySize.map(([size, rounds]) => [
    integer(size),
    spread(rounds.map(({ perSecond }) => perSecond)),
    decimal(of(rounds, rate) / of(first, rate), 2),
    decimal(
      of(rounds, ({ p50Ms }) => p50Ms),
      1,
    ),
    decimal(of(rounds, p99), 1),
    decimal(of(rounds, p99) / of(first, p99), 2),
    ...["server", "redis", "postgres"].map((name) => integer(of(rounds, ({ cpuUs }) => cpuUs[name] ?? Number.NaN))),
  ]);
  const cpu = ["CPU µs per order: server", "Redis", "PostgreSQL"];
  return markdownTable([what, "orders/s", "to the first", "p50 ms", "p99 ms", "to the first", ...cpu], rows);
}

/** What each thing takes. */
function bytesTable(bytes: readonly Bytes[]): string {
  const rows = bytes
    .toSorted((left, right) => left.thing.localeCompare(right.thing) || left.size - right.size)
    .map((each) => [
      `${each.thing}, of ${integer(each.postgresCount)}`,
      integer(each.redisBytes),
      integer(each.redisCount),
      integer(each.postgresBytes),
    ]);
  return markdownTable(["bytes for each", "Redis", "of which there are", "PostgreSQL"], rows);
}

const rate = ({ perSecond }: OrderRates): number => perSecond;
const p99 = ({ p99Ms }: OrderRates): number => p99Ms;

/** The median, and the least and the most when there are several. */
function spread(values: readonly number[]): string {
  const range = values.length > 1 ? ` (${integer(Math.min(...values))} to ${integer(Math.max(...values))})` : "";
  return `${integer(median(values))}${range}`;
}
