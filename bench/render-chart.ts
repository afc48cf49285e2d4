import { type ContestantName, cards } from "./cards.ts";
import { decimal, integer } from "./markdown-table.ts";
import type { Measurement } from "./measure.ts";
import { median } from "./median.ts";
import { type Group, groupOf, latencyOf, type Report, type Series, seriesOf } from "./report.ts";
import { type WorkloadName, workloads } from "./workloads.ts";

const width = 860;
const labelWidth = 230;
const barWidth = 460;
const rowHeight = 20;
const titleHeight = 44;
const legendHeight = 40;

/** The broken ones have a table of their own; beside the others they would look good. */
const colours: Readonly<Record<Exclude<Group, "broken">, string>> = {
  ceiling: "#8c8c8c",
  PostgreSQL: "#336791",
  "PostgreSQL, same promises": "#7fa8c9",
  "Redis alone": "#d98c3f",
  Holdfast: "#2e8b57",
};

const cpuColours = { server: "#6cc24a", redis: "#d9534f", postgres: "#336791" };
const cpuTitles = { server: "Node", redis: "Redis", postgres: "PostgreSQL" };

/** The medians of a report as bars, their spread as a line; an SVG image. */
export function renderChart(report: Report): string {
  const panels = [
    ...(Object.keys(workloads) as WorkloadName[]).map((workload) => ratePanelOf(report, workload)),
    panelOf(seriesOf(report, "hot", "half"), {
      title: `${workloads.hot.title}: p99 in ms at 50 % of the most`,
      value: (each) => latencyOf(each, "p99Ms"),
      format: (value) => decimal(value, 1),
    }),
    panelOf(seriesOf(report, "hot", "alone"), {
      title: `${workloads.hot.title}: one caller alone, p50 in ms`,
      value: (each) => latencyOf(each, "p50Ms"),
      format: (value) => decimal(value, 2),
    }),
    cpuPanelOf(report),
  ].filter((panel) => panel.rowCount > 0);
  let top = legendHeight;
  const parts = panels.map(({ rowCount, render }) => {
    const part = `<g transform="translate(0 ${top})">${render()}</g>`;
    top += titleHeight + rowCount * rowHeight;
    return part;
  });
  const height = top + 16;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    "<title>Holdfast and other ways to sell, side by side</title>",
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    legend(colours, 16),
    ...parts,
    "</svg>\n",
  ].join("\n");
}

interface Panel {
  readonly rowCount: number;
  render(): string;
}

/** What a panel's bars show. */
interface Quantity {
  readonly title: string;
  value(measurement: Measurement): number;
  format(value: number): string;
}

/** Calls that were refused count in a storm: there is little else. */
function ratePanelOf(report: Report, workload: WorkloadName): Panel {
  const isStorm = workload === "storm";
  return panelOf(seriesOf(report, workload, "most"), {
    title: `${workloads[workload].title}: ${isStorm ? "orders and refusals" : "orders"} per second`,
    value: ({ perSecond, answeredPerSecond }) => (isStorm ? answeredPerSecond : perSecond),
    format: integer,
  });
}

function panelOf(series: readonly Series[], quantity: Quantity): Panel {
  const all = series
    .filter(isCharted)
    .map(({ contestant, rounds }) => ({ contestant, values: rounds.map(quantity.value).filter(Number.isFinite) }))
    .filter(({ values }) => values.length > 0);
  return {
    rowCount: all.length,
    render: () => {
      const most = Math.max(...all.flatMap(({ values }) => values), Number.MIN_VALUE);
      return `${heading(quantity.title)}${all.map((each, row) => bar(each, row, most, quantity.format)).join("")}`;
    },
  };
}

function isCharted({ contestant }: Series): boolean {
  return groupOf(contestant) !== "broken";
}

/** A contestant and what its rounds gave. */
interface Bar {
  readonly contestant: ContestantName;
  readonly values: readonly number[];
}

function bar({ contestant, values }: Bar, row: number, most: number, format: (value: number) => string): string {
  const scale = (each: number): number => labelWidth + (each / most) * barWidth;
  const y = titleHeight + row * rowHeight;
  const middle = y + rowHeight / 2 - 2;
  const [least, greatest] = [Math.min(...values), Math.max(...values)];
  const right = scale(median(values));
  return [
    label(cards[contestant].title, y),
    rectangle(labelWidth, y, right - labelWidth, colours[groupOf(contestant) as keyof typeof colours]),
    `<path d="M${position(scale(least))} ${middle}H${position(scale(greatest))}" stroke="#222222"/>`,
    `<text x="${position(Math.max(right, scale(greatest)) + 6)}" y="${y + 13}">${format(median(values))}</text>`,
  ].join("");
}

function cpuPanelOf(report: Report): Panel {
  const all = seriesOf(report, "hot", "most").filter(isCharted);
  const names = Object.keys(cpuColours) as (keyof typeof cpuColours)[];
  const costsOf = ({ rounds }: Series): number[] =>
    names.map((name) => median(rounds.map(({ cpuUs }) => cpuUs[name] ?? 0)));
  const sum = (costs: readonly number[]): number => costs.reduce((total, cost) => total + cost, 0);
  return {
    rowCount: all.length === 0 ? 0 : all.length + 1,
    render: () => {
      const scale = barWidth / Math.max(...all.map((series) => sum(costsOf(series))), 1);
      const rows = all.map((series, row) => {
        const costs = costsOf(series).map((cost) => cost * scale);
        const y = titleHeight + row * rowHeight;
        const parts = names.map((name, index) =>
          rectangle(labelWidth + sum(costs.slice(0, index)), y, costs[index] ?? 0, cpuColours[name]),
        );
        const totalX = position(labelWidth + sum(costs) + 6);
        const total = `<text x="${totalX}" y="${y + 13}">${integer(sum(costsOf(series)))}</text>`;
        return `${label(cards[series.contestant].title, y)}${parts.join("")}${total}`;
      });
      const key = Object.fromEntries(names.map((name) => [cpuTitles[name], cpuColours[name]]));
      const keyTop = titleHeight + all.length * rowHeight;
      return `${heading(`${workloads.hot.title}: CPU time per order in µs`)}${rows.join("")}${legend(key, keyTop)}`;
    },
  };
}

function heading(title: string): string {
  return `<text x="16" y="${titleHeight - 12}" font-size="14" font-weight="bold">${escapeText(title)}</text>`;
}

function label(text: string, y: number): string {
  return `<text x="${labelWidth - 8}" y="${y + 13}" text-anchor="end">${escapeText(text)}</text>`;
}

function rectangle(x: number, y: number, barLength: number, colour: string): string {
  const height = rowHeight - 4;
  return `<rect x="${position(x)}" y="${y}" width="${position(barLength)}" height="${height}" fill="${colour}"/>`;
}

function legend(entries: Readonly<Record<string, string>>, y: number): string {
  let x = 16;
  return Object.entries(entries)
    .map(([title, colour]) => {
      const part = `<rect x="${x}" y="${y}" width="12" height="12" fill="${colour}"/><text x="${x + 17}" y="${y + 10}">${escapeText(title)}</text>`;
      x += 34 + title.length * 7;
      return part;
    })
    .join("");
}

function position(value: number): string {
  return value.toFixed(1);
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
