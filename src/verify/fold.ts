import type { LogEntry } from "../shop/log-entry.ts";
import { differenceOf } from "./discrepancy.ts";
import type { Events } from "./events.ts";
import { type At, contradict, expect, type Folded, type Folds } from "./fold/at.ts";
import { holdFolds } from "./fold/holds.ts";
import { orderFolds } from "./fold/orders.ts";
import { stockFolds } from "./fold/stock.ts";
import { subscriptionFolds } from "./fold/subscriptions.ts";
import { userFolds } from "./fold/users.ts";
import type { Model } from "./model.ts";

/** The tiers every shop is born with. */
const firstTiers = {
  free: { price: 0, projects: 3, storageMb: 1024, apiCalls: 1000 },
  pro: { price: 2900, projects: 100, storageMb: 102_400, apiCalls: 100_000 },
  enterprise: { price: 9900, projects: 999, storageMb: 1_048_576, apiCalls: 999_999_999 },
} as const;

/** Every event of the contract: one without an entry does not compile. */
const folds: Folds<keyof Events> = {
  shop_created: (at, { shop_id, currency_code }) => {
    expect(
      at,
      `shop:${at.model.shopId}`,
      { position: 1, shop_id: at.model.shopId },
      { position: at.entry.position, shop_id },
    );
    at.model.currencyCode = currency_code;
    for (const [tier, terms] of Object.entries(firstTiers)) {
      at.model.tiers.set(tier, { ...terms, position: at.entry.position });
    }
  },
  ...stockFolds,
  ...holdFolds,
  ...orderFolds,
  ...userFolds,
  ...subscriptionFolds,
};

/**
 * Folds one commit into the model. An event that contradicts the model is a discrepancy of this position, and is believed
 * from then on: so each contradiction is told once, where it began. Pure but for the model it is given.
 */
export function fold(model: Model, entry: LogEntry): Folded {
  const at: At = { model, entry, discrepancies: [], ledger: [], committed: undefined };
  continueLog(at);
  for (const event of parse(at)) {
    for (const [name, payload] of Object.entries(event)) {
      foldEvent(at, name, payload);
    }
  }
  if (at.committed !== undefined) {
    contradict(at, `hold:${at.committed.holdId}`, `order_placed of ${at.committed.orderId}`, "");
  }
  model.position = entry.position;
  model.commitId = entry.commitId;
  model.timeMs = Math.max(model.timeMs, entry.timeMs);
  model.epoch = Math.max(model.epoch, entry.epoch);
  return at;
}

/** The log has no gap, and neither its times nor its epochs go back. */
function continueLog({ model, entry, discrepancies }: At): void {
  const difference = differenceOf(
    {
      position: model.position + 1,
      time: Math.max(model.timeMs, entry.timeMs),
      epoch: Math.max(model.epoch, entry.epoch),
    },
    { position: entry.position, time: entry.timeMs, epoch: entry.epoch },
  );
  if (difference !== undefined) {
    const subject = `commit:${entry.position}`;
    discrepancies.push({ kind: "LOG", subject, position: entry.position, store: "POSTGRES", ...difference });
  }
}

function parse(at: At): Record<string, unknown>[] {
  try {
    const events: unknown = JSON.parse(at.entry.events);
    if (Array.isArray(events)) {
      return events as Record<string, unknown>[];
    }
  } catch {
    // Told below.
  }
  contradict(at, `commit:${at.entry.position}`, "a list of events", at.entry.events.slice(0, 100));
  return [];
}

function foldEvent(at: At, name: string, payload: unknown): void {
  const apply = (folds as Readonly<Record<string, ((at: At, payload: never) => void) | undefined>>)[name];
  if (apply === undefined) {
    contradict(at, `commit:${at.entry.position}`, "an event of the contract", name);
    return;
  }
  try {
    apply(at, payload as never);
  } catch (error) {
    contradict(at, `commit:${at.entry.position}`, `a whole ${name}`, error instanceof Error ? error.message : "");
  }
}
