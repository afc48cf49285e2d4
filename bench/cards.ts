import type { RivalName } from "./rivals/rivals.ts";
import type { WorkloadName } from "./workloads.ts";

/** Everybody who is measured. */
export type ContestantName = "echo" | "holdfast-redis" | "holdfast" | RivalName;

/** What a shop can promise, as a column of the table. */
export const promiseTitles = {
  stock: "never oversells",
  carts: "a cart whole or not at all",
  refusals: "a refusal is true",
  durable: "acknowledged is durable",
  retries: "a retry counts once",
  money: "wallet and ledger in the same commit",
  events: "event in the same commit",
  log: "events in order, no gaps",
  holds: "an ended hold is free at once",
};

/** One of them. */
export type PromiseName = keyof typeof promiseTitles;

/** Who a contestant is. */
export interface Card {
  readonly title: string;
  /** What it does per call. */
  readonly about: string;
  readonly workloads: readonly WorkloadName[];
  /** Why it is not measured with the others. */
  readonly absence?: string;
  readonly promises: readonly PromiseName[];
  /** Sells more than there is, and takes part to show it. */
  readonly isBroken?: boolean;
  /** Its connections are counted: which number serves it best is tried out. */
  readonly hasPool?: boolean;
  /** Gives up when others are in its way, which h2load does not see. */
  readonly givesUp?: boolean;
}

const everySale = ["hot", "skus", "storm", "cart", "hold", "last"] as const;
const withWallet = ["hot", "wallet", "skus", "storm", "cart", "hold", "last"] as const;
const noWallet = "no wallets";
const inPostgres = ["stock", "carts", "refusals", "durable"] as const;

/** By name, in the order of the tables. */
export const cards: Readonly<Record<ContestantName, Card>> = {
  echo: {
    title: "echo",
    about: "A bare grpc-js server: bytes in, bytes of an order's answer out. The most that gRPC in Node can do.",
    workloads: ["hot", "wallet"],
    absence: "an answer costs the same whatever was asked",
    promises: [],
  },
  "row-lock": {
    title: "row lock",
    about:
      "`begin` and `select ... for update` in one round trip; `update`, `insert` into orders and `commit` in the next.",
    workloads: everySale,
    absence: noWallet,
    promises: inPostgres,
    hasPool: true,
  },
  "one-statement": {
    title: "one statement",
    about: "A guarded `update` and the `insert` that hangs off it, in one statement. A cart's rows are locked first.",
    workloads: everySale,
    absence: noWallet,
    promises: inPostgres,
    hasPool: true,
  },
  optimistic: {
    title: "optimistic",
    about: "Reads the row's version, then `update ... where version = ` with the `insert` in one statement; 3 retries.",
    workloads: everySale,
    absence: noWallet,
    promises: inPostgres,
    hasPool: true,
    givesUp: true,
  },
  "unit-rows": {
    title: "unit rows",
    about: "A row per unit, picked with `for update skip locked`; then `update`, `insert` and `commit`.",
    workloads: everySale,
    absence: noWallet,
    promises: ["stock", "carts", "durable"],
    hasPool: true,
  },
  "unit-rows-statement": {
    title: "unit rows, one statement",
    about: "The same in one statement.",
    workloads: everySale,
    absence: noWallet,
    promises: ["stock", "carts", "durable"],
    hasPool: true,
  },
  "redis-lock": {
    title: "Redis lock + row lock",
    about: "`SET NX PX` with waits of up to 16 ms between attempts, around the row lock; released by a script.",
    workloads: ["hot", "skus", "storm", "last"],
    absence: "no wallets; a cart would take ten locks one after the other, and a hold is the row lock's",
    promises: inPostgres,
    hasPool: true,
    givesUp: true,
  },
  "redis-watch": {
    title: "Redis WATCH",
    about: "`WATCH` and a read in one round trip, `MULTI` ... `EXEC` in the next; 3 retries. Nothing in PostgreSQL.",
    workloads: ["hot", "skus", "storm", "cart", "last"],
    absence: "no wallets; a hold would be the same two round trips once more",
    promises: ["stock", "carts", "refusals"],
    hasPool: true,
    givesUp: true,
  },
  "lua-only": {
    title: "Lua alone",
    about: "One script checks, takes the units and writes the order into a stream. Nothing in PostgreSQL.",
    workloads: everySale,
    absence: noWallet,
    promises: ["stock", "carts", "refusals"],
  },
  "row-lock-promises": {
    title: "row lock, same promises",
    about: "The row lock with wallet, ledger, request id and event in the same transaction; still two round trips.",
    workloads: withWallet,
    promises: [...inPostgres, "retries", "money", "events"],
    hasPool: true,
  },
  "one-statement-promises": {
    title: "one statement, same promises",
    about: "One statement with wallet, ledger, request id and event hanging off the guarded `update`.",
    workloads: withWallet,
    promises: [...inPostgres, "retries", "money", "events"],
    hasPool: true,
  },
  "holdfast-redis": {
    title: "Holdfast, durability=redis",
    about: "The whole product, acknowledged after the script; PostgreSQL follows.",
    workloads: withWallet,
    promises: ["stock", "carts", "refusals", "retries", "money", "events", "log", "holds"],
  },
  holdfast: {
    title: "Holdfast",
    about:
      "The whole product with its default settings: `PlaceOrder` is parsed and validated, decided in Redis, and acknowledged " +
      "when PostgreSQL has committed order, stock, money, request id and event.",
    workloads: withWallet,
    promises: Object.keys(promiseTitles) as PromiseName[],
  },
  "check-then-decrement": {
    title: "check, then decrement (broken)",
    about: "Looks at the stock, then takes from it, without a lock or a guard.",
    workloads: ["hot", "last"],
    absence: "they only show what is missing",
    promises: ["durable"],
    isBroken: true,
    hasPool: true,
  },
  "bare-decrement": {
    title: "bare decrement (broken)",
    about: "Takes without looking.",
    workloads: ["hot", "last"],
    absence: "they only show what is missing",
    promises: ["durable"],
    isBroken: true,
    hasPool: true,
  },
};

/** Every name, in the order of the tables. */
export const contestantNames = Object.keys(cards) as ContestantName[];
