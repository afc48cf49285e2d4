import { type ContestantName, cards, contestantNames, type PromiseName, promiseTitles } from "./cards.ts";
import { decimal, integer, markdownTable } from "./markdown-table.ts";
import { type Measurement, type ShapeName, shapes } from "./measure.ts";
import { median } from "./median.ts";
import { groupOf, latencyOf, type Report, ratioOf, type Series, seriesOf } from "./report.ts";
import { type WorkloadName, workloads } from "./workloads.ts";

/** The whole report as Markdown; every heading is of the third level. */
export function renderMarkdown(report: Report): string {
  const names = Object.keys(workloads) as WorkloadName[];
  const sections = names.filter((name) => name !== "last").map((name) => renderWorkload(report, name));
  return [
    renderHead(report),
    renderSummary(report),
    ...sections,
    renderLastUnits(report),
    renderPromises(report),
    renderAbsences(report),
  ]
    .filter((section) => section !== "")
    .join("\n");
}

/** Who the README compares. */
const shortlist: readonly ContestantName[] = ["row-lock", "one-statement", "one-statement-promises", "holdfast"];

/** The few figures of one hot SKU that the README has. */
export function renderShort(report: Report): string {
  const most = seriesOf(report, "hot", "most").filter(({ contestant }) => shortlist.includes(contestant));
  const rowLock = most.find(({ contestant }) => contestant === "row-lock");
  const promiseCount = Object.keys(promiseTitles).length;
  const rows = most.map((series) => [
    titleOf(series.contestant),
    integer(medianRate(series)),
    decimal(ratioOf(series, rowLock), 1),
    decimal(
      medianOf(series.rounds, (each) => latencyOf(each, "p50Ms")),
      1,
    ),
    integer(medianOf(series.rounds, ({ cpuUs }) => cpuUs[cpuProcesses.PostgreSQL] ?? Number.NaN)),
    `${cards[series.contestant].promises.length} of ${promiseCount}`,
  ]);
  const head = ["256 callers, one product", "orders/s", "x row lock", "p50 ms", "PostgreSQL µs an order", "promises"];
  return `${report.time.slice(0, 10)}, ${report.machine}:\n\n${markdownTable(head, rows)}`;
}

function renderHead({ time, machine, roundCount, durationsMs, pools, h2load }: Report): string {
  const seconds = (ms: number): string => `${ms / 1000} s`;
  const { most, half, alone, others } = durationsMs;
  const sizes = Object.entries(pools).map(([name, { hot, many }]) => `${titleOf(name)} ${hot} and ${many}`);
  return [
    `${time.slice(0, 10)}, ${machine}.`,
    `Load: ${h2load ?? "h2load was not there, our own generator alone"}.`,
    `${roundCount} interleaved rounds; one hot SKU ${seconds(most)} closed loop, ${seconds(half)} for each open loop,`,
    `${seconds(alone)} for one caller; ${seconds(others)} for each other workload.`,
    `Figures are the median (least to most) of the rounds; ratios the median of the ratios within each round.`,
    sizes.length === 0 ? "" : `Connections, for one hot SKU and for many: ${sizes.join("; ")}.`,
    "",
  ].join("\n");
}

function titleOf(name: string): string {
  return cards[name as keyof typeof cards].title;
}

/** The figures that a reader asks for first. */
function renderSummary(report: Report): string {
  const most = seriesOf(report, "hot", "most");
  const find = (name: string, series: readonly Series[] = most) => series.find(({ contestant }) => contestant === name);
  const holdfast = find("holdfast");
  if (holdfast === undefined) {
    return "";
  }
  const best = (series: readonly Series[], isMeant: (series: Series) => boolean): Series | undefined =>
    series.filter(isMeant).sort((left, right) => medianRate(right) - medianRate(left))[0];
  const bestPlain = best(most, ({ contestant }) => groupOf(contestant) === "PostgreSQL");
  const bestSame = best(most, ({ contestant }) => groupOf(contestant) === "PostgreSQL, same promises");
  const alone = find("holdfast", seriesOf(report, "hot", "alone"));
  const half = find("holdfast", seriesOf(report, "hot", "half"));
  const bestName = (series: Series | undefined): string => (series === undefined ? "none" : titleOf(series.contestant));
  const wallet = seriesOf(report, "wallet", "most");
  const own = find("echo", wallet);
  const bestPaid = best(wallet, ({ contestant }) => groupOf(contestant) === "PostgreSQL, same promises");
  const ownEcho = own === undefined ? [] : [["the same by our own generator, with wallets", integer(medianRate(own))]];
  const rows = [
    ["durable orders/s, one hot SKU, 256 in flight", integer(medianRate(holdfast))],
    ["the same against the row lock", decimal(ratioOf(holdfast, find("row-lock")), 1)],
    [`the same against the best on PostgreSQL (${bestName(bestPlain)})`, decimal(ratioOf(holdfast, bestPlain), 1)],
    [
      `the same against the best with the same promises (${bestName(bestSame)})`,
      decimal(ratioOf(holdfast, bestSame), 1),
    ],
    [
      `with wallets and request ids, against ${bestName(bestPaid)}`,
      decimal(ratioOf(find("holdfast", wallet), bestPaid), 1),
    ],
    ["durable against the echo", decimal(ratioOf(holdfast, find("echo")), 2)],
    ["durability=redis against the echo", decimal(ratioOf(find("holdfast-redis"), find("echo")), 2)],
    [
      "one caller alone, durable, p50 ms",
      decimal(
        medianOf(alone?.rounds ?? [], (each) => latencyOf(each, "p50Ms")),
        2,
      ),
    ],
    [
      "p99 ms at 50 % of the most",
      decimal(
        medianOf(half?.rounds ?? [], (each) => latencyOf(each, "p99Ms")),
        1,
      ),
    ],
    [`the echo by ${generatorOf(find("echo"))}, calls/s`, integer(medianRate(find("echo")))],
    ...ownEcho,
  ];
  return `### In short\n\n${markdownTable(["Holdfast", "median"], rows)}`;
}

function generatorOf(series: Series | undefined): string {
  return series?.rounds[0]?.generator === "h2load" ? "h2load" : "our own generator";
}

function medianRate(series: Series | undefined): number {
  return medianOf(series?.rounds ?? [], ({ perSecond }) => perSecond);
}

function medianOf(rounds: readonly Measurement[], value: (measurement: Measurement) => number): number {
  return median(rounds.map(value).filter(Number.isFinite));
}

function renderWorkload(report: Report, workload: WorkloadName): string {
  const most = seriesOf(report, workload, "most");
  if (most.length === 0) {
    return "";
  }
  const { title, about } = workloads[workload];
  const open = (["half", "high"] as const).map((shape) => renderLatencies(report, workload, shape));
  const parts = [renderMost(workload, most), ...open, renderLatencies(report, workload, "alone")];
  return `### ${title}\n\n${about}\n\n${parts.filter((part) => part !== "").join("\n")}`;
}

const cpuProcesses = { Node: "server", Redis: "redis", PostgreSQL: "postgres", load: "load" } as const;

function renderMost(workload: WorkloadName, most: readonly Series[]): string {
  const echo = most.find(({ contestant }) => contestant === "echo");
  const baseline = workload === "wallet" ? "row-lock-promises" : "row-lock";
  const rowLock = most.find(({ contestant }) => contestant === baseline);
  const isStorm = workload === "storm";
  const rate = isStorm ? "answeredPerSecond" : "perSecond";
  const hasGivenUp = most.some(({ rounds }) =>
    rounds.some(({ busyCount, failedCount }) => busyCount + failedCount > 0),
  );
  const head = [
    shapes.most.title,
    "orders/s",
    ...(isStorm ? ["answers/s"] : []),
    ...(echo === undefined ? [] : ["of the echo"]),
    ...(rowLock === undefined ? [] : [`x ${titleOf(baseline)}`]),
    ...(hasGivenUp ? ["given up"] : []),
    ...["p50 ms", "p99 ms", "p999 ms"],
    ...Object.keys(cpuProcesses).map((name) => `${name} µs`),
  ];
  const rows = most.map((series) => [
    titleOf(series.contestant),
    spread(series.rounds, ({ perSecond }) => perSecond, integer),
    ...(isStorm ? [integer(medianOf(series.rounds, ({ answeredPerSecond }) => answeredPerSecond))] : []),
    ...(echo === undefined ? [] : [decimal(ratioOf(series, echo), 2)]),
    ...(rowLock === undefined ? [] : [decimal(ratioOf(series, rowLock, rate), 1)]),
    ...(hasGivenUp ? [percent(medianOf(series.rounds, shareGivenUp))] : []),
    ...latencyCells(series.rounds, 1),
    ...cpuCells(series.rounds),
  ]);
  return markdownTable(head, rows);
}

function renderLatencies(report: Report, workload: WorkloadName, shape: ShapeName): string {
  const series = seriesOf(report, workload, shape);
  if (series.length === 0) {
    return "";
  }
  const head = [
    shapes[shape].title,
    "orders/s",
    "p50 ms",
    "p99 ms",
    "p999 ms",
    ...Object.keys(cpuProcesses).map((name) => `${name} µs`),
  ];
  const rows = series.map(({ contestant, rounds }) => [
    titleOf(contestant),
    spread(rounds, ({ perSecond }) => perSecond, integer),
    ...latencyCells(rounds, 2),
    ...cpuCells(rounds),
  ]);
  return markdownTable(head, rows);
}

function latencyCells(rounds: readonly Measurement[], digits: number): string[] {
  return (["p50Ms", "p99Ms", "p999Ms"] as const).map((name) =>
    spread(
      rounds,
      (each) => latencyOf(each, name),
      (value) => decimal(value, digits),
    ),
  );
}

/** CPU time per order; where there are refusals, per order or refusal. */
function cpuCells(rounds: readonly Measurement[]): string[] {
  return Object.values(cpuProcesses).map((name) => integer(medianOf(rounds, ({ cpuUs }) => cpuUs[name] ?? Number.NaN)));
}

function spread(
  rounds: readonly Measurement[],
  value: (measurement: Measurement) => number,
  format: (value: number) => string,
): string {
  const values = rounds.map(value).filter(Number.isFinite);
  const middle = format(median(values));
  return values.length < 2 ? middle : `${middle} (${format(Math.min(...values))} to ${format(Math.max(...values))})`;
}

/** Of the calls that were made, those that ended with neither an order nor a refusal. */
function shareGivenUp({ doneCount, refusedCount, busyCount, failedCount }: Measurement): number {
  return (busyCount + failedCount) / Math.max(1, doneCount + refusedCount + busyCount + failedCount);
}

function percent(share: number): string {
  return share === 0 ? "0" : `${decimal(share * 100, 1)} %`;
}

function renderLastUnits({ lastUnits }: Report): string {
  if (lastUnits.length === 0) {
    return "";
  }
  const rows = lastUnits.map(({ contestant, supplyCount, soldCount, refusedCount, busyCount }) => [
    titleOf(contestant),
    integer(supplyCount),
    integer(soldCount),
    integer(Math.max(0, soldCount - supplyCount)),
    integer(refusedCount),
    integer(busyCount),
  ]);
  const head = ["", "there were", "sold", "oversold", "refused", "given up"];
  return `### ${workloads.last.title}\n\n${workloads.last.about}\n\n${markdownTable(head, rows)}`;
}

function renderPromises({ measurements }: Report): string {
  const measured = new Set(measurements.map(({ contestant }) => contestant));
  const kept = contestantNames.filter((name) => measured.has(name) && name !== "echo");
  const promises = Object.keys(promiseTitles) as PromiseName[];
  const rows = kept.map((name) => [
    cards[name].title,
    ...promises.map((promise) => (cards[name].promises.includes(promise) ? "yes" : "no")),
  ]);
  return `### Who promises what\n\n${markdownTable(["", ...Object.values(promiseTitles)], rows)}`;
}

function renderAbsences({ measurements }: Report): string {
  const measured = new Set(measurements.map(({ contestant }) => contestant));
  const absent = contestantNames.filter((name) => measured.has(name) && cards[name].absence !== undefined);
  const byReason = Map.groupBy(absent, (name) => cards[name].absence);
  const lines = [...byReason].map(([reason, names]) => `- ${names.map(titleOf).join(", ")}: ${reason}.\n`);
  return lines.length === 0 ? "" : `Why some are missing in a table:\n\n${lines.join("")}`;
}
