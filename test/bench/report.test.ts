import { expect, it } from "vitest";
import type { ContestantName } from "../../bench/cards.ts";
import type { Measurement } from "../../bench/measure.ts";
import { insertRun } from "../../bench/publish.ts";
import { renderChart } from "../../bench/render-chart.ts";
import { renderMarkdown } from "../../bench/render-markdown.ts";
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

it("replaces the last run in the page, and nothing else", () => {
  const page =
    "before\n<!-- The last run: begin. Written by npm run bench -- --publish. -->\nold\n<!-- The last run: end. -->\nafter\n";
  const once = insertRun(page, report);
  expect(once).toMatch(/^before\n/);
  expect(once).toMatch(/\nafter\n$/);
  expect(once).toContain("One hot SKU");
  expect(once).not.toContain("old\n");
  expect(insertRun(once, report)).toBe(once);
  expect(() => insertRun("no place", report)).toThrow("does not say where");
});
