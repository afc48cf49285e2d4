import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { renderGrowth } from "./growth/render-report.ts";
import type { GrowthReport } from "./growth/report.ts";
import { renderChart } from "./render-chart.ts";
import { renderMarkdown, renderShort } from "./render-markdown.ts";
import type { Report } from "./report.ts";

/** A place in a page that a command writes. */
interface Place {
  readonly page: string;
  readonly begin: string;
  readonly end: string;
}

const benchmarks = "docs/benchmarks.md";

/** Where the last run is. */
export const lastRun: Place = {
  page: benchmarks,
  begin: "<!-- The last run: begin. Written by npm run bench -- --publish. -->",
  end: "<!-- The last run: end. -->",
};

/** Where the README has a few of its figures. */
export const short: Place = {
  page: "README.md",
  begin: "<!-- The last run in short: begin. Written by npm run bench -- --publish. -->",
  end: "<!-- The last run in short: end. -->",
};

const growth: Place = {
  page: benchmarks,
  begin: "<!-- How cost grows: begin. Written by npm run bench:growth -- --publish. -->",
  end: "<!-- How cost grows: end. -->",
};

const root = fileURLToPath(new URL("../", import.meta.url));

/** Puts a run into docs/benchmarks.md, its chart beside it, and its few first figures into the README. */
export async function publish(report: Report): Promise<void> {
  await fill(lastRun, `![The medians of the last run as bars](benchmarks.svg)\n\n${renderMarkdown(report)}`);
  await fill(short, renderShort(report));
  await writeFile(`${root}docs/benchmarks.svg`, renderChart(report));
}

/** Puts a run of `bench:growth` into docs/benchmarks.md. */
export function publishGrowth(report: GrowthReport): Promise<void> {
  return fill(growth, renderGrowth(report));
}

async function fill(place: Place, text: string): Promise<void> {
  const file = `${root}${place.page}`;
  await writeFile(file, replace(await readFile(file, "utf8"), place, text));
}

/** A page with the text of a place replaced. Throws when it has no such place. */
export function replace(text: string, { page, begin, end }: Place, inserted: string): string {
  const beginAt = text.indexOf(begin);
  const endAt = text.indexOf(end);
  if (beginAt < 0 || endAt < beginAt) {
    throw new Error(`${page} does not say where this run begins and ends: ${begin}`);
  }
  return `${text.slice(0, beginAt)}${begin}\n\n${inserted}\n${text.slice(endAt)}`;
}
