import type { LogEntry } from "../../shop/log-entry.ts";
import { type Discrepancy, differenceOf, type Fields } from "../discrepancy.ts";
import type { Events, Line } from "../events.ts";
import type { LedgerRow, Model } from "../model.ts";

/** What one commit means besides the model it changed. */
export interface Folded {
  /** Where the commit contradicts those before it, or itself. */
  readonly discrepancies: Discrepancy[];
  /** The ledger rows it has to leave, in order. */
  readonly ledger: LedgerRow[];
}

/** The commit that is being folded in. */
export interface At extends Folded {
  readonly model: Model;
  readonly entry: LogEntry;
  /** The hold that this commit turns into an order. */
  committed: { readonly holdId: string; readonly orderId: string; readonly lines: readonly Line[] } | undefined;
}

/** How events are folded in, by name. */
export type Folds<Name extends keyof Events> = {
  readonly [Each in Name]: (at: At, payload: Events[Each]) => void;
};

/** Values of WalletEntryKind. */
export const money = 1;
export const credits = 2;

/** Both sides of a movement; nothing moved, nothing entered. */
export function enter(
  at: At,
  kind: number,
  account: string,
  delta: number,
  balanceAfter: number | null,
  counterAccount: string,
  about: { cause: string; order_id?: string; reference?: string; reason?: string },
): void {
  if (delta === 0) {
    return;
  }
  const { ledger, entry } = at;
  const shared = { position: entry.position, kind, order_id: "", reference: "", reason: "", ...about };
  ledger.push({ ...shared, index: ledger.length, account, delta, balance_after: balanceAfter });
  ledger.push({ ...shared, index: ledger.length, account: counterAccount, delta: -delta, balance_after: null });
}

/** The time and position that whatever an event changed has to carry. */
export function changedNow({ entry }: At): { update_time: number; position: number } {
  return { update_time: entry.timeMs, position: entry.position };
}

/** The event tells what the model expects; else it contradicts it. */
export function expect(at: At, subject: string, expected: Fields, found: Fields): void {
  const difference = differenceOf(expected, found);
  if (difference !== undefined) {
    contradict(at, subject, difference.expected, difference.found);
  }
}

/** Notes that the commit contradicts the model. */
export function contradict({ entry, discrepancies }: At, subject: string, expected: string, found: string): void {
  discrepancies.push({ kind: "EVENT", subject, position: entry.position, store: "POSTGRES", expected, found });
}
