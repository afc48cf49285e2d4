import { expect, test } from "vitest";
import { useHoldfast } from "../helpers/use-holdfast.ts";
import { Coverage, uncovered, wrongEntries } from "./coverage.ts";
import { simulate, stepsOf, subjectSettings } from "./simulate.ts";
import { priceLeft } from "./subscriptions.ts";

const clock = { nowMs: Date.now() };
const holdfast = useHoldfast({ settings: subjectSettings, clock: () => clock.nowMs });
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

/** Calls that reach everything, with room to spare. */
const commandCount = 4000;

test("a model says what every call of several callers at once is answered, whatever they do", async () => {
  const coverage = new Coverage();
  await simulate({ doors: holdfast, clock, faults: holdfast.faults }, coverage, { seed, commandCount });
  expect(uncovered(coverage), `what was not reached with seed ${seed}`).toEqual([]);
  expect(holdfast.faults).toEqual([]);
}, 180_000);

test("what a run of the model cannot reach is reached by the test that is named for it", () => {
  expect(wrongEntries()).toEqual([]);
});

test("a run says what it did not reach", () => {
  const coverage = new Coverage();
  coverage.answered("PlaceOrder");
  coverage.refused("ConfirmOrder", "ORDER_NOT_FOUND");
  const missed = uncovered(coverage);
  expect(missed).toEqual(expect.arrayContaining(["ConfirmOrder was never answered", "nobody was refused SOLD_OUT"]));
  expect(missed).not.toContain("PlaceOrder was never answered");
  expect(missed).not.toContain("nobody was refused ORDER_NOT_FOUND");
});

test("a seed always makes the same runs", () => {
  expect(stepsOf(7, 3)).toEqual(stepsOf(7, 3));
  expect(stepsOf(7, 3)).not.toEqual(stepsOf(7, 4));
});

test("what is left of a price is rounded down, and nothing is left at the end", () => {
  expect([2_592_000, 2_591_999, 1, 0].map((seconds) => priceLeft(2900, seconds))).toEqual([2900, 2899, 0, 0]);
  expect(priceLeft(1_000_000_000, 2_591_999)).toBe(999_999_614);
});
