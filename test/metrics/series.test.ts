import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { mergePages } from "../../src/metrics/merge-pages.ts";
import { createCounter, createHistogram } from "../../src/metrics/series.ts";
import { createShopMetrics } from "../../src/metrics/shop-metrics.ts";
import { createVerifyMetrics } from "../../src/metrics/verify-metrics.ts";
import { parseMetrics } from "../helpers/metrics-text.ts";

test("a value is in the bucket whose bound it does not exceed, and in all that follow", async () => {
  const registry = new Registry();
  const series = createHistogram({ registry, name: "h", help: "h", buckets: [1, 2.5, 5] })({ a: "b" });
  for (const value of [0, 1, 1.001, 2.5, 6]) series.observe(value);
  const { samples } = parseMetrics(await registry.metrics());
  const buckets = samples.filter(({ name }) => name === "h_bucket");
  expect(buckets.map(({ labels: { le }, value }) => [le, value])).toEqual([
    ["1", 2],
    ["2.5", 4],
    ["5", 4],
    ["+Inf", 5],
  ]);
  expect(samples.find(({ name }) => name === "h_sum")?.value).toBeCloseTo(10.501);
});

test("labels keep what the format gives a meaning to", async () => {
  const registry = new Registry();
  createCounter({ registry, name: "c", help: "c" })({ a: 'x"y\\z\nw}, b="1' }).count += 3;
  const page = parseMetrics(await registry.metrics());
  expect(page.samples).toEqual([{ name: "c", labels: { a: 'x\\"y\\\\z\\nw}, b=\\"1' }, value: 3 }]);
});

test("pages of several processes become one that has every metric once", async () => {
  const pages = await Promise.all(
    ["1", "2"].map((process) => {
      const registry = new Registry();
      registry.setDefaultLabels({ process });
      createCounter({ registry, name: "c", help: "c" })({ a: "b" }).count += Number(process);
      createHistogram({ registry, name: "h", help: "h", buckets: [1] })().observe(1);
      return registry.metrics();
    }),
  );
  const page = parseMetrics(mergePages(pages));
  expect(page.sum("c", { a: "b", process: "1" })).toBe(1);
  expect(page.sum("c")).toBe(3);
  expect(page.sum("h_count")).toBe(2);
});

test("a stock level below zero that is recorded is counted, whichever of its counts it is", async () => {
  const registry = new Registry();
  const { flushed } = createShopMetrics(registry, []);
  const level = { sku: "a", available_count: 0, held_count: 0, sold_count: 0 };
  flushed([], [level], 1);
  flushed(
    [],
    [
      { ...level, available_count: -1 },
      { ...level, held_count: -2 },
      { ...level, sold_count: -1 },
    ],
    1,
  );
  expect(parseMetrics(await registry.metrics()).sum("holdfast_negative_stock_total")).toBe(3);
});

test("drift is what the last verification of each shop found", async () => {
  const registry = new Registry();
  const { verified } = createVerifyMetrics(registry);
  const drift = async () => parseMetrics(await registry.metrics()).sum("holdfast_drift");
  verified("one", 2, 10);
  verified("two", 3, 10);
  expect(await drift()).toBe(5);
  verified("one", 0, 10);
  expect(await drift()).toBe(3);
});
