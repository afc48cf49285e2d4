import { setTimeout as sleep } from "node:timers/promises";
import type { Kysely } from "kysely";
import { readCommits } from "../postgres/commits.ts";
import type { Database } from "../postgres/schema.ts";
import { type Discrepancy, describe, differenceOf, type Fields } from "./discrepancy.ts";
import { fold } from "./fold.ts";
import type { LedgerRow, Model } from "./model.ts";

/** Rows, fields and commits that are read at a time. */
export const pageCount = 1000;

/** Commits that are read at a time: each carries its events. */
const commitPageCount = 500;

/** The same where somebody who wants to be served goes first: between two rests. */
const restedPageCount = 100;

/** Longest rest between two pages, in milliseconds. */
const maxRestMs = 250;

/** Characters of a value that are told. */
const maxText = 1000;

/** A verification under way: the model as far as it was folded, and where what was found goes. */
export class Run {
  readonly db: Kysely<Database>;
  readonly model: Model;
  /** Things compared so far: commits, rows, fields. */
  checkedCount = 0;
  readonly #report: (discrepancy: Discrepancy) => void;
  readonly #throwIfEnded: () => void;
  readonly #pageRestShare: number;
  #restedAtMs = performance.now();
  readonly #reported = new Set<string>();

  constructor(
    db: Kysely<Database>,
    model: Model,
    report: (discrepancy: Discrepancy) => void,
    throwIfEnded: () => void,
    pageRestShare = 0,
  ) {
    this.db = db;
    this.model = model;
    this.#report = report;
    this.#throwIfEnded = throwIfEnded;
    this.#pageRestShare = pageRestShare;
  }

  /** Tells one discrepancy; the same thing of the same store only once. */
  report(discrepancy: Discrepancy): void {
    const { store, kind, subject } = discrepancy;
    const key = `${store} ${kind} ${subject}`;
    if (kind === "EVENT" || !this.#reported.has(key)) {
      this.#reported.add(key);
      const { expected, found } = discrepancy;
      this.#report({ ...discrepancy, expected: expected.slice(0, maxText), found: found.slice(0, maxText) });
    }
  }

  /** Compares one thing that both sides have. */
  compare(about: Pick<Discrepancy, "kind" | "subject" | "position" | "store">, expected: Fields, found: Fields): void {
    this.checkedCount += 1;
    const difference = differenceOf(expected, found);
    if (difference !== undefined) {
      this.report({ ...about, ...difference });
    }
  }

  throwIfEnded(): void {
    this.#throwIfEnded();
  }

  /** Rests as long as it was told to, between two pages of what need not be read at once. Throws when nobody wants the outcome any more. */
  async rest(): Promise<void> {
    if (this.#pageRestShare > 0) {
      await sleep(Math.min(maxRestMs, this.#pageRestShare * (performance.now() - this.#restedAtMs)));
      this.#restedAtMs = performance.now();
    }
    this.#throwIfEnded();
  }

  /** Folds the model forward to a position that Postgres has, with the rests that it was told to take. */
  async foldSlowlyTo(position: number): Promise<void> {
    while (this.#pageRestShare > 0 && this.model.position < position) {
      await this.rest();
      await this.foldTo(Math.min(position, this.model.position + restedPageCount));
    }
    await this.foldTo(position);
  }

  /**
   * Folds the model forward to a position that Postgres has, comparing what each commit leaves beside the tables of things.
   * A transaction reads over the connection that it has: waiting for another one while it holds one could last for ever.
   */
  async foldTo(position: number, db = this.db): Promise<void> {
    const { model } = this;
    while (model.position < position) {
      this.throwIfEnded();
      const after = model.position;
      const count = Math.min(commitPageCount, position - after);
      const page = await readCommits(db, model.shopId, after + 1, count);
      const entries = page.filter((entry) => entry.position <= position);
      const ledger: LedgerRow[] = [];
      for (const entry of entries) {
        const folded = fold(model, entry);
        for (const each of folded.discrepancies) {
          this.report(each);
        }
        ledger.push(...folded.ledger);
      }
      this.checkedCount += entries.length;
      if (entries.length < count && model.position < position) {
        this.report({
          kind: "LOG",
          subject: `commit:${position}`,
          position,
          store: "POSTGRES",
          expected: `position=${position}`,
          found: "",
        });
        model.position = position;
      }
      this.#compareLedger(ledger, await this.#readLedger(db, after, model.position));
    }
  }

  /** Ledger entries are never changed: those of some commits are compared with what these have to leave. */
  #compareLedger(expected: readonly LedgerRow[], found: readonly LedgerRow[]): void {
    const rest = new Map(found.map((row) => [ledgerKey(row), row]));
    const about = { kind: "LEDGER_ENTRY", store: "POSTGRES" } as const;
    for (const row of expected) {
      const subject = ledgerKey(row);
      const twin = rest.get(subject);
      rest.delete(subject);
      if (twin === undefined) {
        this.report({ ...about, subject, position: row.position, expected: describe({ ...row }), found: "" });
      } else {
        this.compare({ ...about, subject, position: row.position }, { ...row }, { ...twin });
      }
    }
    for (const [subject, row] of rest) {
      this.report({ ...about, subject, position: row.position, expected: "", found: describe({ ...row }) });
    }
  }

  #readLedger(db: Kysely<Database>, after: number, to: number): Promise<LedgerRow[]> {
    return db
      .selectFrom("ledger_entries")
      .select(["position", "index", "account", "kind", "delta", "balance_after"])
      .select(["cause", "order_id", "reference", "reason"])
      .where("shop_id", "=", this.model.shopId)
      .where("position", ">", after)
      .where("position", "<=", to)
      .execute();
  }
}

/** `entry:<position>.<index>` */
function ledgerKey({ position, index }: LedgerRow): string {
  return `entry:${position}.${index}`;
}
