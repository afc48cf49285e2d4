import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { renderGrowth } from "./growth/render-report.ts";
import type { GrowthReport } from "./growth/report.ts";
import { renderChart } from "./render-chart.ts";
import { renderMarkdown } from "./render-markdown.ts";
import type { Report } from "./report.ts";

/** A place in docs/benchmarks.md that a command writes. */
interface Place {
  readonly begin: string;
  readonly end: string;
}

const lastRun: Place = {
  begin: "<!-- The last run: begin. Written by npm run bench -- --publish. -->",
  end: "<!-- The last run: end. -->",
};

const growth: Place = {
  begin: "<!-- How cost grows: begin. Written by npm run bench:growth -- --publish. -->",
  end: "<!-- How cost grows: end. -->",
};

const folder = fileURLToPath(new URL("../docs/", import.meta.url));

/** Puts a run between two comments of docs/benchmarks.md, and its chart beside it. */
export async function publish(report: Report): Promise<void> {
  await changePage((page) => insertRun(page, report));
  await writeFile(`${folder}benchmarks.svg`, renderChart(report));
}

/** Puts a run of `bench:growth` between two other comments. */
export function publishGrowth(report: GrowthReport): Promise<void> {
  return changePage((page) => replace(page, growth, renderGrowth(report)));
}

async function changePage(change: (page: string) => string): Promise<void> {
  await writeFile(`${folder}benchmarks.md`, change(await readFile(`${folder}benchmarks.md`, "utf8")));
}

/** The page with the last run replaced. Throws when it has no place for it. */
export function insertRun(page: string, report: Report): string {
  const chart = "![The medians of the last run as bars](benchmarks.svg)";
  return replace(page, lastRun, `${chart}\n\n${renderMarkdown(report)}`);
}

function replace(page: string, { begin, end }: Place, text: string): string {
  const beginAt = page.indexOf(begin);
  const endAt = page.indexOf(end);
  if (beginAt < 0 || endAt < beginAt) {
    throw new Error(`docs/benchmarks.md does not say where this run begins and ends: ${begin}`);
  }
  return `${page.slice(0, beginAt)}${begin}\n\n${text}\n${page.slice(endAt)}`;
}
