import { decimal, integer, markdownTable } from "../markdown-table.ts";
import { median } from "../median.ts";
import type { Bytes } from "./bytes.ts";
import type { Measured, Point } from "./in-turns.ts";
import type { OrderRates } from "./measure-orders.ts";
import type { GrowthReport } from "./report.ts";
import type { WatchCase, WatchRates } from "./watchers.ts";

/** A run as Markdown: a table for each part that was measured. */
export function renderGrowth(report: GrowthReport): string {
  const { time, machine, roundCount, durationMs, shops, history, size, watchers, processes } = report;
  const how = `${roundCount} rounds of ${decimal(durationMs / 1000, 1)} s each; medians, least and most in brackets`;
  return [
    `${time.slice(0, 10)}, ${machine}. ${how}.\n`,
    ...(shops === undefined ? [] : [ratesTable("shops", shops)]),
    ...(history === undefined ? [] : [ratesTable("events before", history.points), bytesTable(history.bytes)]),
    ...(size === undefined ? [] : [ratesTable("products and users", size.points), bytesTable(size.bytes)]),
    ...(watchers === undefined ? [] : [watchersTable(watchers), lagTable(watchers)]),
    ...(processes === undefined ? [] : [ratesTable("processes", processes)]),
  ].join("\n");
}

/** The rates of every size, and their ratios to those of the first. */
function ratesTable(what: string, points: readonly Point<OrderRates>[]): string {
  const bySize = [...Map.groupBy(points, ({ size }) => size)].sort(([left], [right]) => left - right);
  const first = bySize[0]?.[1] ?? [];
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

/** Fewer take less than what the server takes now and then for something else. */
const fewWatchers = 50;

type Watched = readonly Measured<WatchCase, WatchRates>[];

/** With 256 orders in flight. */
function watchersTable(watched: Watched): string {
  const rows = byCase(watched).map(([name, rounds, first]) => [
    name,
    spread(rounds.map(rate)),
    decimal(of(rounds, rate) / of(first, rate), 2),
    decimal(of(rounds, p99), 1),
    spread(rounds.map(({ deliveredPerSecond }) => deliveredPerSecond)),
    integer(of(rounds, ({ behindCount }) => behindCount)),
    decimal(
      of(rounds, ({ size, usedBytesEach }) => (size < fewWatchers ? Number.NaN : usedBytesEach / 1024)),
      1,
    ),
    integer(of(rounds, ({ residentBytes }) => residentBytes / 2 ** 20)),
  ]);
  const memory = ["KiB of the server each", "MiB in all"];
  const delivered = ["events delivered/s", "commits behind"];
  return markdownTable(["watchers", "orders/s", "to the first", "p99 ms", ...delivered, ...memory], rows);
}

/** With half of these orders. */
function lagTable(watched: Watched): string {
  const rows = byCase(watched).map(([name, rounds]) => [
    name,
    spread(rounds.map(({ half }) => half.perSecond)),
    decimal(
      of(rounds, ({ half }) => half.p50Ms),
      1,
    ),
    decimal(
      of(rounds, ({ half }) => half.p99Ms),
      1,
    ),
    decimal(
      of(rounds, ({ half }) => half.lagP50Ms),
      0,
    ),
    decimal(
      of(rounds, ({ half }) => half.lagP99Ms),
      0,
    ),
    integer(of(rounds, ({ half }) => half.behindCount)),
  ]);
  const lag = ["lag p50 ms", "lag p99 ms", "never got"];
  return markdownTable(["watchers, at half load", "orders/s", "p50 ms", "p99 ms", ...lag], rows);
}

/** Every case by name, with its rounds and those of the first. */
function byCase(watched: Watched): [string, Watched, Watched][] {
  const groups = [...Map.groupBy(watched, ({ size, maxCommits }) => size * 1000 + maxCommits)].sort(
    ([left], [right]) => left - right,
  );
  return groups.map(([, rounds]) => {
    const { size = 0, maxCommits = 0 } = rounds[0] ?? {};
    return [size === 0 ? "none" : `${integer(size)}, ${maxCommits} a message`, rounds, groups[0]?.[1] ?? []];
  });
}

const rate = ({ perSecond }: OrderRates): number => perSecond;
const p99 = ({ p99Ms }: OrderRates): number => p99Ms;

function of<Rates>(rounds: readonly Rates[], read: (rates: Rates) => number): number {
  return median(rounds.map(read));
}

/** The median, and the least and the most when there are several. */
function spread(values: readonly number[]): string {
  const range = values.length > 1 ? ` (${integer(Math.min(...values))} to ${integer(Math.max(...values))})` : "";
  return `${integer(median(values))}${range}`;
}
