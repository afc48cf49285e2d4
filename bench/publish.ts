import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { renderChart } from "./render-chart.ts";
import { renderMarkdown } from "./render-markdown.ts";
import type { Report } from "./report.ts";

const begin = "<!-- The last run: begin. Written by npm run bench -- --publish. -->";
const end = "<!-- The last run: end. -->";

/** Puts a run between the two comments of docs/benchmarks.md, and its chart beside it. */
export async function publish(report: Report): Promise<void> {
  const folder = fileURLToPath(new URL("../docs/", import.meta.url));
  const page = await readFile(`${folder}benchmarks.md`, "utf8");
  await writeFile(`${folder}benchmarks.md`, insertRun(page, report));
  await writeFile(`${folder}benchmarks.svg`, renderChart(report));
}

/** The page with what is between the two comments replaced. Throws when they are not there. */
export function insertRun(page: string, report: Report): string {
  const [before, , after] = splitAt(page);
  const chart = "![The medians of the last run as bars](benchmarks.svg)";
  return `${before}${begin}\n\n${chart}\n\n${renderMarkdown(report)}\n${end}${after}`;
}

function splitAt(page: string): [string, string, string] {
  const beginAt = page.indexOf(begin);
  const endAt = page.indexOf(end);
  if (beginAt < 0 || endAt < beginAt) {
    throw new Error("docs/benchmarks.md does not say where its last run begins and ends");
  }
  return [page.slice(0, beginAt), page.slice(beginAt + begin.length, endAt), page.slice(endAt + end.length)];
}
