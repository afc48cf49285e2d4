import { cards } from "./cards.ts";
import { decimal, integer } from "./markdown-table.ts";
import type { Measurement, ShapeName } from "./measure.ts";
import { median } from "./median.ts";
import { type Group, groupOf, type Report, type Series, seriesOf } from "./report.ts";
import { type WorkloadName, workloads } from "./workloads.ts";

const width = 860;
const labelWidth = 230;
const barWidth = 460;
const rowHeight = 20;
const titleHeight = 44;
const legendHeight = 40;

const colours: Readonly<Record<Group, string>> = {
  ceiling: "#8c8c8c",
  PostgreSQL: "#336791",
  "PostgreSQL, same promises": "#7fa8c9",
  "Redis alone": "#d98c3f",
  Holdfast: "#2e8b57",
  broken: "#c0504d",
};

const cpuColours = { server: "#6cc24a", redis: "#d9534f", postgres: "#336791" };
const cpuTitles = { server: "Node", redis: "Redis", postgres: "PostgreSQL" };

/** The medians of a report as bars, their spread as a line; an SVG image. */
export function renderChart(report: Report): string {
  const rate = ({ perSecond }: Measurement): number => perSecond;
  const panels = [
    ...(Object.keys(workloads) as WorkloadName[]).map((workload) =>
      panelOf(report, workload, "most", `${workloads[workload].title}: orders per second`, rate, integer),
    ),
    panelOf(
      report,
      "hot",
      "half",
      `${workloads.hot.title}: p99 in ms at 50 % of the most`,
      ({ p99Ms }) => p99Ms,
      oneDigit,
    ),
    panelOf(
      report,
      "hot",
      "alone",
      `${workloads.hot.title}: one caller alone, p50 in ms`,
      ({ p50Ms }) => p50Ms,
      twoDigits,
    ),
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

const oneDigit = (value: number): string => decimal(value, 1);
const twoDigits = (value: number): string => decimal(value, 2);

interface Panel {
  readonly rowCount: number;
  render(): string;
}

function panelOf(
  report: Report,
  workload: WorkloadName,
  shape: ShapeName,
  title: string,
  value: (measurement: Measurement) => number,
  format: (value: number) => string,
): Panel {
  // The broken ones have a table of their own; beside the others they would look good.
  const all = seriesOf(report, workload, shape).filter(({ contestant }) => groupOf(contestant) !== "broken");
  return {
    rowCount: all.length,
    render: () => {
      const most = Math.max(...all.flatMap(({ rounds }) => rounds.map(value)));
      const rows = all.map((series, row) => bar(series, row, most, value, format));
      return `${heading(title)}${rows.join("")}`;
    },
  };
}

function bar(
  { contestant, rounds }: Series,
  row: number,
  most: number,
  value: (measurement: Measurement) => number,
  format: (value: number) => string,
): string {
  const values = rounds.map(value);
  const scale = (each: number): number => labelWidth + (each / most) * barWidth;
  const y = titleHeight + row * rowHeight;
  const middle = y + rowHeight / 2 - 2;
  const [least, greatest] = [Math.min(...values), Math.max(...values)];
  const right = scale(median(values));
  return [
    label(cards[contestant].title, y),
    rectangle(labelWidth, y, right - labelWidth, colours[groupOf(contestant)]),
    `<path d="M${position(scale(least))} ${middle}H${position(scale(greatest))}" stroke="#222222"/>`,
    `<text x="${position(Math.max(right, scale(greatest)) + 6)}" y="${y + 13}">${format(median(values))}</text>`,
  ].join("");
}

function cpuPanelOf(report: Report): Panel {
  const all = seriesOf(report, "hot", "most").filter(({ contestant }) => groupOf(contestant) !== "broken");
  const names = Object.keys(cpuColours) as (keyof typeof cpuColours)[];
  const costsOf = ({ rounds }: Series): number[] =>
    names.map((name) => median(rounds.map(({ cpuUs }) => cpuUs[name] ?? 0)));
  const sum = (costs: readonly number[]): number => costs.reduce((total, cost) => total + cost, 0);
  return {
    rowCount: all.length === 0 ? 0 : all.length + 1,
    render: () => {
      const most = Math.max(...all.map((series) => sum(costsOf(series))), 1);
      const rows = all.map((series, row) => {
        const costs = costsOf(series);
        const y = titleHeight + row * rowHeight;
        let left = labelWidth;
        const parts = costs.map((cost, index) => {
          const part = rectangle(
            left,
            y,
            (cost / most) * barWidth,
            cpuColours[names[index] as keyof typeof cpuColours],
          );
          left += (cost / most) * barWidth;
          return part;
        });
        const total = `<text x="${position(left + 6)}" y="${y + 13}">${integer(sum(costs))}</text>`;
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
