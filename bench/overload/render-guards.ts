import type { OrderRates } from "../growth/measure-orders.ts";
import { decimal, integer, markdownTable } from "../markdown-table.ts";
import { median } from "../median.ts";
import type { GuardedRates } from "./measure-guards.ts";

/** What a server with guards keeps at least of the orders that it has without. */
const leastKept = 0.85;

/** Medians of the rounds, and of the ratios within each; calls that went wrong in any of them. What is not reached carries an exclamation mark. */
export function renderGuards(measured: readonly GuardedRates[]): string {
  const [without, guarded] = [false, true].map((isGuarded) =>
    measured.filter((each) => each.isGuarded === isGuarded).toSorted((left, right) => left.round - right.round),
  ) as [GuardedRates[], GuardedRates[]];
  const middles = (of: (rates: OrderRates) => number) => {
    const ratios = guarded.map((rates, index) => of(rates) / of(without[index] as GuardedRates));
    return { without: median(without.map(of)), guarded: median(guarded.map(of)), ratio: median(ratios) };
  };
  const row = (title: string, of: (rates: OrderRates) => number, show: (value: number) => string): string[] => {
    const found = middles(of);
    return [title, "", show(found.without), show(found.guarded), decimal(found.ratio, 2)];
  };
  const orders = middles(({ perSecond }) => perSecond);
  const others = [without, guarded].map((rounds) => rounds.reduce((sum, { otherCount }) => sum + otherCount, 0));
  const rows = [
    [
      "orders per second",
      `${leastKept} at least`,
      integer(orders.without),
      integer(orders.guarded),
      marked(decimal(orders.ratio, 2), orders.ratio >= leastKept),
    ],
    row(
      "p99",
      ({ p99Ms }) => p99Ms,
      (value) => `${decimal(value, 1)} ms`,
    ),
    row(
      "CPU time of the server per order",
      ({ cpuUs }) => cpuUs.server ?? Number.NaN,
      (value) => `${integer(value)} µs`,
    ),
    ["calls that were no order, in all", "0", ...others.map((count) => marked(integer(count), count === 0)), ""],
  ];
  return `Guards: tokens (HS256), rates that never refuse, a log from \`info\` on, and metrics that are read every second. On in both
servers, because nobody can turn them off: validation, counting for the metrics, the lines of shops, the verification on the side. Not traced. Medians of ${guarded.length} rounds.

${markdownTable(["256 orders in flight in one shop", "wanted", "without guards", "with guards", "with, of without"], rows)}`;
}

function marked(text: string, isReached: boolean): string {
  return isReached ? text : `${text} !`;
}
