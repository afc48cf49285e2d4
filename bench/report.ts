import { type ContestantName, cards, contestantNames } from "./cards.ts";
import type { Measurement, ShapeName } from "./measure.ts";
import { median } from "./median.ts";
import type { WorkloadName } from "./workloads.ts";

/** Everything that a run found out; what the JSON file holds. */
export interface Report {
  readonly time: string;
  readonly machine: string;
  /** Rounds in which everybody took a turn. */
  readonly roundCount: number;
  /** How long each shape was measured, in milliseconds. */
  readonly durationsMs: Readonly<Record<ShapeName | "others", number>>;
  /** Connections that served a contestant best: with one hot SKU, and with many. */
  readonly pools: Readonly<Partial<Record<ContestantName, Pools>>>;
  /** h2load's version; absent when it was not there and our own generator did its work. */
  readonly h2load?: string;
  readonly measurements: readonly Measurement[];
  readonly lastUnits: readonly LastUnits[];
}

/** Connections for one hot SKU, and for many. */
export interface Pools {
  readonly hot: number;
  readonly many: number;
}

/** What became of the last units of a SKU. */
export interface LastUnits {
  readonly contestant: ContestantName;
  readonly supplyCount: number;
  readonly soldCount: number;
  readonly refusedCount: number;
  readonly busyCount: number;
}

/** The measurements of one contestant under one load, one for each round. */
export interface Series {
  readonly contestant: ContestantName;
  readonly rounds: readonly Measurement[];
}

/** Who was measured in this way, in the order of the cards. */
export function seriesOf(report: Report, workload: WorkloadName, shape: ShapeName): Series[] {
  const byName = Map.groupBy(
    report.measurements.filter((each) => each.workload === workload && each.shape === shape),
    (each) => each.contestant,
  );
  return contestantNames.flatMap((contestant) => {
    const rounds = byName.get(contestant);
    return rounds === undefined ? [] : [{ contestant, rounds }];
  });
}

/** The median of the ratios within each round: what slows the whole machine down for a round is in both numbers. */
export function ratioOf(
  left: Series | undefined,
  right: Series | undefined,
  rate: "perSecond" | "answeredPerSecond" = "perSecond",
): number {
  const ratios = (left?.rounds ?? []).flatMap((measured) => {
    const other = right?.rounds.find(({ round }) => round === measured.round);
    return other === undefined ? [] : [measured[rate] / other[rate]];
  });
  return median(ratios);
}

/** A percentile of the latencies; NaN when nothing was answered. */
export function latencyOf(measurement: Measurement, name: "p50Ms" | "p99Ms" | "p999Ms"): number {
  return measurement.doneCount + measurement.refusedCount === 0 ? Number.NaN : measurement[name];
}

/** Kinds of contestants, as the chart colours them. */
export type Group = "ceiling" | "PostgreSQL" | "PostgreSQL, same promises" | "Redis alone" | "Holdfast" | "broken";

/** Which kind it is. */
export function groupOf(name: ContestantName): Group {
  const { promises, isBroken } = cards[name];
  if (name === "echo") return "ceiling";
  if (name === "holdfast" || name === "holdfast-redis") return "Holdfast";
  if (isBroken === true) return "broken";
  if (promises.includes("events")) return "PostgreSQL, same promises";
  return promises.includes("durable") ? "PostgreSQL" : "Redis alone";
}
