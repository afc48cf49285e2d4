import { decimal, integer, markdownTable } from "../markdown-table.ts";
import { median } from "../median.ts";
import type { Overload, OverloadRound } from "./measure-overload.ts";

interface Line {
  readonly title: string;
  /** As text; empty: nothing is wanted. */
  readonly wanted: string;
  readonly isReached?: (value: number) => boolean;
  readonly of: (load: Overload, round: OverloadRound) => number;
  readonly show: (value: number) => string;
}

const ms = (value: number): string => `${decimal(value, 1)} ms`;
const ratio = (value: number): string => decimal(value, 2);
const percent = (value: number): string => `${decimal(value * 100, 0)} %`;

const lines: readonly Line[] = [
  { title: "orders wanted per second", wanted: "", of: (load) => load.wantedPerSecond, show: integer },
  { title: "orders sent per second", wanted: "", of: (load) => load.sentPerSecond, show: integer },
  { title: "refused", wanted: "", of: (load) => load.shedShare, show: percent },
  {
    title: "sold, of the peak",
    wanted: "0.9 at least",
    isReached: (value) => value >= 0.9,
    of: ({ goodput }, { peak }) => goodput / peak,
    show: ratio,
  },
  {
    title: "p99 of calm shops, of their quiet p99",
    wanted: "2 at most",
    isReached: (value) => value <= 2,
    of: ({ calmP99Ms }, { quietP99Ms }) => calmP99Ms / quietP99Ms,
    show: ratio,
  },
  {
    title: "a refusal of a caller with a connection of its own, p99",
    wanted: "10 ms at most",
    isReached: (value) => value <= 10,
    of: (load) => load.loneShedP99Ms,
    show: ms,
  },
  { title: "a refusal of any caller, p99", wanted: "", of: (load) => load.shedP99Ms, show: ms },
  {
    title: "back to normal after",
    wanted: "2,000 ms at most",
    isReached: (value) => value <= 2000,
    of: (load) => load.backMs,
    show: ms,
  },
  {
    title: "calls of calm shops refused",
    wanted: "0",
    isReached: (value) => value === 0,
    of: (load) => load.calmShedCount,
    show: integer,
  },
  {
    title: "calls that failed",
    wanted: "0",
    isReached: (value) => value === 0,
    of: (load) => load.failedCount,
    show: integer,
  },
  { title: "p99 of the hot shop", wanted: "", of: (load) => load.hotP99Ms, show: ms },
];

/** The medians of all rounds, next to what is wanted. What is not reached carries an exclamation mark. */
export function renderOverload(rounds: readonly OverloadRound[]): string {
  const factors = rounds[0]?.loads.map(({ factor }) => factor) ?? [];
  const cell = ({ of, show, isReached }: Line, index: number): string => {
    const value = median(rounds.map((round) => of(round.loads[index] as Overload, round)));
    return `${show(value)}${isReached?.(value) === false ? " !" : ""}`;
  };
  const rows = lines.map((line) => [line.title, line.wanted, ...factors.map((_, index) => cell(line, index))]);
  const middle = (of: (round: OverloadRound) => number): number => median(rounds.map(of));
  const peak = middle((round) => round.peak);
  const quietMs = middle((round) => round.quietP99Ms);
  return `Peak: ${integer(peak)} orders/s. Quiet p99 of calm shops: ${ms(quietMs)}. Medians of ${rounds.length} rounds.\n\n${markdownTable(["load, in times of the peak", "wanted", ...factors.map(String)], rows)}`;
}
