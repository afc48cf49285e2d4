import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import type { ContestantName } from "../../bench/cards.ts";
import type { Measurement } from "../../bench/measure.ts";
import { lastRun, replace, short } from "../../bench/publish.ts";
import { renderChart } from "../../bench/render-chart.ts";
import { renderMarkdown, renderShort } from "../../bench/render-markdown.ts";
import type { Report } from "../../bench/report.ts";

function measured(contestant: ContestantName, round: number, perSecond: number): Measurement {
  const counts = { doneCount: perSecond, refusedCount: 0, busyCount: 0, failedCount: 0 };
  const latencies = { p50Ms: 1, p99Ms: 2, p999Ms: 3 };
  const how = { workload: "hot", shape: "most", generator: "h2load", round } as const;
  const rates = { perSecond, answeredPerSecond: perSecond };
  return { contestant, ...how, ...counts, ...rates, ...latencies, cpuUs: { server: 10, postgres: 20 } };
}

const report: Report = {
  time: "2026-11-26T12:00:00.000Z",
  machine: "2 cores",
  roundCount: 3,
  durationsMs: { most: 2000, half: 0, high: 0, alone: 0, others: 1500 },
  pools: { "row-lock": { hot: 5, many: 20 } },
  h2load: "h2load nghttp2/1.52.0",
  // The machine was half as fast in the last round.
  measurements: [
    ...[1000, 1100, 500].map((rate, round) => measured("row-lock", round, rate)),
    ...[9000, 11_000, 5500].map((rate, round) => measured("holdfast", round, rate)),
    ...[0, 0, 0].map((rate, round) => measured("optimistic", round, rate)),
  ],
  lastUnits: [{ contestant: "bare-decrement", supplyCount: 200, soldCount: 1000, refusedCount: 0, busyCount: 0 }],
};

it("shows the median and the spread of the rounds, and the median of the ratios within each", () => {
  const text = renderMarkdown(report);
  expect(text).toMatch(/\| Holdfast +\| +9,000 \(5,500 to 11,000\) \| +10\.0 \|/);
  expect(text).toMatch(/\| the same against the row lock +\| +10\.0 \|/);
});

it("shows dashes for the latencies of one who answered nothing", () => {
  expect(renderMarkdown(report)).toMatch(/\| optimistic +\| +0 \(0 to 0\) \| +0\.0 \| +– \| +– \| +– \|/);
});

it("shows what was oversold", () => {
  expect(renderMarkdown(report)).toMatch(/\| bare decrement \(broken\) \| +200 \| 1,000 \| +800 \|/);
});

it("draws a bar for everybody who was measured", () => {
  const chart = renderChart(report);
  expect(chart).toMatch(/>Holdfast<.*>9,000</);
  expect(chart).not.toMatch(/NaN|Infinity|undefined/);
});

it("has a row of the README for those whom it compares", () => {
  const text = renderShort(report);
  expect(text).toMatch(/^2026-11-26, 2 cores:\n/);
  expect(text).toMatch(/\| row lock +\| +1,000 \| +1\.0 \| +1\.0 \| +20 \| +4 of 9 \|/);
  expect(text).toMatch(/\| Holdfast +\| +9,000 \| +10\.0 \| +1\.0 \| +20 \| +9 of 9 \|/);
  expect(text).not.toContain("optimistic");
});

it("replaces a run in its page, and nothing else", () => {
  const page = `before\n${lastRun.begin}\nold\n${lastRun.end}\nafter\n`;
  const once = replace(page, lastRun, "new");
  expect(once).toBe(`before\n${lastRun.begin}\n\nnew\n${lastRun.end}\nafter\n`);
  expect(replace(once, lastRun, "new")).toBe(once);
  expect(() => replace("no place", lastRun, "new")).toThrow("docs/benchmarks.md does not say where");
});

it.each([lastRun, short])("has a place in $page", async ({ page, begin, end }) => {
  const text = await readFile(new URL(`../../${page}`, import.meta.url), "utf8");
  expect(text.split(begin)).toHaveLength(2);
  expect(text.indexOf(end)).toBeGreaterThan(text.indexOf(begin));
});
