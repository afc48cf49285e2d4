import type { ContestantName } from "./cards.ts";
import type { WorkloadName } from "./workloads.ts";

/** A server under test, with its records. */
export interface Contestant {
  readonly name: ContestantName;
  readonly port: number;
  readonly pid: number;
  /** The Redis it uses, if any. */
  readonly redisPid: number | undefined;
  /** Gets ready to be measured: opens its connections and sees to its stock. */
  enter(workload: WorkloadName, poolSize: number): Promise<void>;
  /** Resolves when nothing is in flight and everything is written. */
  settle(): Promise<void>;
  /** Closes its connections, so that it costs nothing while others are measured. */
  leave(): Promise<void>;
  /** Makes exactly so many of the last units available. */
  supply(count: number): Promise<void>;
  /** Units sold since the start, as the stock tells; undefined for one that sells nothing. */
  countSold(): Promise<number | undefined>;
  /** Looks into every record. */
  audit(): Promise<Books | undefined>;
}

/** What the records say. */
export interface Books {
  /** Units sold since the start, by each record that tells: they must all be equal. */
  readonly units: Readonly<Record<string, number>>;
  /** Orders since the start, or one row of something for each. */
  readonly orders: Readonly<Record<string, number>>;
  /** What buyers paid since the start: they must all be equal. */
  readonly money: Readonly<Record<string, number>>;
  /** SKUs whose units do not add up, or that have fewer than none. */
  readonly wrongSkuCount: number;
}
