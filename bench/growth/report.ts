import type { Filled } from "./history.ts";
import type { Measured, Point } from "./in-turns.ts";
import type { OrderRates } from "./measure-orders.ts";
import type { WatchCase, WatchRates } from "./watchers.ts";

/** What can be made larger. */
export const partNames = ["shops", "history", "size", "watchers", "processes"] as const;

/** One of them. */
export type PartName = (typeof partNames)[number];

/** Everything that a run found out; what the JSON file holds. A part that was not measured is absent. */
export interface GrowthReport {
  readonly time: string;
  readonly machine: string;
  readonly roundCount: number;
  /** Of each measurement, in milliseconds. */
  readonly durationMs: number;
  readonly shops?: readonly Point<OrderRates>[];
  readonly history?: Filled;
  readonly size?: Filled;
  readonly watchers?: readonly Measured<WatchCase, WatchRates>[];
  readonly processes?: readonly Point<OrderRates>[];
}
