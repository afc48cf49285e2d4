import { isDeepStrictEqual } from "node:util";
import type { Redis } from "ioredis";
import type { Client } from "pg";
import { contradictions, readPostgresState, readRedisState } from "../helpers/audit-queries.ts";
import type { FakeStripe } from "../helpers/fake-stripe.ts";
import type { CommitRecord } from "../history/history.ts";
import type { Acknowledged } from "./callers/ledger.ts";

/** What the two stores and the gateway hold of a shop that nobody changes any more. */
export interface Evidence {
  readonly shopId: string;
  readonly postgres: Client;
  readonly redis: Redis;
  readonly stripe: FakeStripe;
  readonly commits: readonly CommitRecord[];
  readonly acknowledged: readonly Acknowledged[];
}

/** Everything that contradicts the promises, by the harness's own queries; empty = all is well. */
export async function checkShop(evidence: Evidence): Promise<readonly string[]> {
  return [
    ...(await checkPostgres(evidence)),
    ...checkAcknowledged(evidence),
    ...(await checkStores(evidence)),
    ...(await checkLog(evidence)),
    ...(await checkCharges(evidence)),
  ];
}

async function checkPostgres({ postgres, shopId }: Evidence): Promise<readonly string[]> {
  const found: string[] = [];
  for (const [promise, query] of Object.entries(contradictions)) {
    const { rows } = await postgres.query(query, [shopId]);
    if (rows.length > 0) found.push(`not so: ${promise}: ${write(rows.slice(0, 5))}`);
  }
  return found;
}

/** Every acknowledged commit is there once: at its position, with its id, for its request. */
function checkAcknowledged({ commits, acknowledged }: Evidence): readonly string[] {
  return acknowledged.flatMap((each) => {
    const commit = commits[each.position - 1];
    const isThere = commit?.commitId === each.commitId && commit.requestId === each.requestId;
    return isThere ? [] : [`acknowledged and not there: ${write(each)}, but ${write(commit)}`];
  });
}

/** Redis says what PostgreSQL says. */
async function checkStores({ redis, postgres, shopId }: Evidence): Promise<readonly string[]> {
  const live = await readRedisState(redis, shopId);
  const recorded = await readPostgresState(postgres, shopId);
  const names = Object.keys(recorded) as (keyof typeof recorded)[];
  return names
    .filter((name) => !isDeepStrictEqual(live[name], recorded[name]))
    .map((name) => `Redis and PostgreSQL differ in ${name}: ${differenceOf(live[name], recorded[name])}`);
}

function differenceOf(left: object, right: object): string {
  const [ours, theirs] = [left, right].map((side) => new Map(Object.entries(side))) as [
    Map<string, unknown>,
    Map<string, unknown>,
  ];
  const keys = [...new Set([...ours.keys(), ...theirs.keys()])].filter((key) => ours.get(key) !== theirs.get(key));
  return keys
    .slice(0, 5)
    .map((key) => `${key}: ${ours.get(key)} in Redis, ${theirs.get(key)} in PostgreSQL`)
    .join("; ");
}

/** The log holds the newest commits, each as PostgreSQL has it, and knows their request ids. */
async function checkLog({ redis, shopId, commits }: Evidence): Promise<readonly string[]> {
  const entries = await redis.xrange(`{${shopId}}:log`, "-", "+");
  const last = commits.at(-1);
  const found: string[] = [];
  if (entries.at(-1)?.[0] !== `${last?.position}-0`)
    found.push(`the log ends at ${entries.at(-1)?.[0]}, not ${last?.position}`);
  for (const [id, fields] of entries) {
    const commit = commits[Number.parseInt(id, 10) - 1];
    if (commit?.commitId !== fields[3])
      found.push(`log entry ${id} is ${fields[3]}, PostgreSQL has ${commit?.commitId}`);
  }
  const newest = commits.slice(-20).filter(({ requestId }) => requestId !== "");
  for (const { requestId, position } of newest) {
    const known = await Promise.all(
      [0, 1].map((half) => redis.hget(`{${shopId}}:recent_${half}`, `request:${requestId}`)),
    );
    if (!known.includes(String(position)))
      found.push(`request ${requestId} of ${position} is known as ${write(known)}`);
  }
  return found;
}

/** A gateway's order is charged once when it was paid, and each of its refunds is made once. */
async function checkCharges({ postgres, stripe, shopId }: Evidence): Promise<readonly string[]> {
  const { rows: orders } = await postgres.query(
    "select order_id, state, amount_minor, refunded_minor, charge_id from orders where shop_id = $1 and payment_method = 4",
    [shopId],
  );
  const ofShop = stripe.charges.filter(({ metadata }) => metadata.shop_id === shopId);
  const byOrder = Map.groupBy(ofShop, ({ metadata }) => String(metadata.order_id));
  const found: string[] = [];
  for (const { order_id, state, amount_minor, refunded_minor, charge_id } of orders) {
    const charges = byOrder.get(order_id) ?? [];
    byOrder.delete(order_id);
    const isPaid = [2, 3, 5].includes(state) && amount_minor !== "0";
    const isRight = isPaid
      ? charges.length === 1 && charges[0]?.id === charge_id && String(charges[0]?.amount) === amount_minor
      : charges.length === 0;
    if (!isRight) found.push(`order ${order_id} is in state ${state} with ${write(charges)}`);
    const refunds = stripe.refunds.filter(({ charge }) => charges.some(({ id }) => id === charge));
    const refunded = refunds.reduce((sum, { amount }) => sum + amount, 0);
    if (String(refunded) !== refunded_minor) {
      found.push(`of order ${order_id} ${refunded_minor} were refunded, not ${write(refunds)}`);
    }
  }
  for (const charges of byOrder.values()) found.push(`charged for an order that is not there: ${write(charges)}`);
  const keys = stripe.refunds.map(({ key }) => key);
  const twice = keys.filter((key, index) => keys.indexOf(key) !== index);
  return twice.length === 0 ? found : [...found, `refunded twice: ${write(twice)}`];
}

export function write(value: unknown): string {
  return JSON.stringify(value);
}
