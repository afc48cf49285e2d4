import { afterAll, beforeAll, expect, it } from "vitest";
import { parseOptions } from "../../bench/growth/options.ts";
import { renderGrowth } from "../../bench/growth/render-report.ts";
import type { GrowthReport, PartName } from "../../bench/growth/report.ts";
import { runGrowth } from "../../bench/growth/run-growth.ts";
import type { Testbed } from "../../bench/growth/testbed.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";
import { openTestbed } from "./open-testbed.ts";

const holdfast = useHoldfast();
const cleanUp = new AsyncDisposableStack();
let testbed: Testbed;

beforeAll(async () => {
  testbed = await openTestbed(holdfast, cleanUp);
});

afterAll(() => cleanUp.disposeAsync());

/** Measures one part with small sizes; every number is in the tables. */
async function run(part: PartName, sizes: string, ...more: string[]): Promise<GrowthReport> {
  const options = parseOptions(["--only", part, `--${part}`, sizes, "--rounds", "2", "--ms", "100", ...more]);
  const plan = options?.plan as NonNullable<typeof options>["plan"];
  const report = await runGrowth(async () => testbed, plan, { signal: new AbortController().signal, say: () => {} });
  expect(renderGrowth(report)).not.toMatch(/NaN|undefined|Infinity/);
  return report;
}

/** What was measured of each size, in every round. */
function sizesOf(points: readonly { size: number; round: number; doneCount: number }[] | undefined): string[] {
  return (points ?? []).map(
    ({ size, round, doneCount }) => `${size}, round ${round}: ${doneCount > 0 ? "sold" : "nothing"}`,
  );
}

function everyRound(...sizes: number[]): unknown {
  const rounds = sizes.flatMap((size) => [0, 1].map((round) => `${size}, round ${round}: sold`));
  return expect.toSatisfy((told: string[]) => told.toSorted().join() === rounds.toSorted().join());
}

it("sells from every shop of a size", async () => {
  const { shops } = await run("shops", "1,3");
  expect(sizesOf(shops)).toEqual(everyRound(1, 3));
  const { rows } = await testbed.database.query("select shop_id from shops where order_count > 0 order by 1");
  expect(rows.map(({ shop_id }) => shop_id)).toEqual(["shop-1", "shop-2", "shop-3"]);
});

it.each(["history", "size"] as const)("sells from shops of every %s, filled without a flaw", async (part) => {
  const sizes = part === "history" ? [0, 300] : [300, 1000];
  const { [part]: found } = await run(part, sizes.join());
  expect(sizesOf(found?.points)).toEqual(everyRound(...sizes));
  // A table grows by whole pages.
  for (const { thing, redisBytes, postgresBytes } of found?.bytes.filter(({ size }) => size === sizes[1]) ?? []) {
    expect.soft(redisBytes, thing).toBeGreaterThan(50);
    expect.soft(postgresBytes, thing).toBeGreaterThan(50);
  }
  expect(new Set(found?.bytes.map(({ thing }) => thing))).toEqual(new Set(things[part]));
  for (const size of sizes) {
    expect(await flawsOf(`${part}-${size}`)).toEqual([]);
  }
});

const things = { history: ["paid order", "event"], size: ["SKU", "user", "open hold", "unpaid order"] };

/** What VerifyShop finds wrong. */
async function flawsOf(shopId: string): Promise<string[]> {
  const flaws: string[] = [];
  for await (const { discrepancies } of testbed.clients.admin.verifyShop({ shopId })) {
    flaws.push(
      ...discrepancies.map(({ kind, subject, expected, found }) => `${kind} ${subject}: ${expected} | ${found}`),
    );
  }
  return flaws;
}

it("delivers every event to every watcher", async () => {
  const { watchers = [] } = await run("watchers", "1,5", "--rounds", "1");
  const cases = watchers.map(({ size, maxCommits }) => `${size} by ${maxCommits}`);
  expect(cases.toSorted()).toEqual(["0 by 1", "1 by 1", "1 by 64", "5 by 1", "5 by 64"]);
  for (const { size, doneCount, deliveredPerSecond, half } of watchers) {
    expect(doneCount).toBeGreaterThan(0);
    expect(half.doneCount).toBeGreaterThan(0);
    expect(half.behindCount).toBe(0);
    expect(deliveredPerSecond > 0).toBe(size > 0);
    expect(half.lagP99Ms >= 0).toBe(size > 0);
  }
}, 120_000);

it("sells what there is and no more through several processes", async () => {
  const { processes } = await run("processes", "1,2", "--rounds", "1");
  expect(sizesOf(processes).toSorted()).toEqual(["1, round 0: sold", "2, round 0: sold"]);
  const { rows } = await testbed.database.query(
    "select distinct sold_count::int, available_count::int from stock where sku = 'scarce'",
  );
  expect(rows).toEqual([{ sold_count: 200, available_count: 0 }]);
}, 120_000);

it("refuses parts and sizes that there are not", () => {
  expect(() => parseOptions(["--only", "shops,moon"])).toThrow("there is no part moon");
  expect(() => parseOptions(["--shops", "0"])).toThrow("--shops takes whole numbers from 1");
  expect(() => parseOptions(["--quickly"])).toThrow("quickly");
});
