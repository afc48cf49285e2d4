import type { Kysely } from "kysely";
import { findHold } from "../postgres/inventory.ts";
import type { Database } from "../postgres/schema.ts";
import { readDurableHead } from "../postgres/shops.ts";
import { refusalOf } from "../shop/refusals.ts";

/** What a hold that ended long ago answers, by its state in Postgres. */
const reasons: Readonly<Record<number, string>> = { 2: "HOLD_COMMITTED", 3: "HOLD_RELEASED", 4: "HOLD_EXPIRED" };

/** The position of the commit that made a hold; undefined when the id was never used. */
export async function holdPosition(db: Kysely<Database>, shopId: string, holdId: string): Promise<number | undefined> {
  return (await findHold(db, shopId, holdId))?.create_position;
}

/**
 * Answers for a hold that Redis let go: the position of its release where a release was asked for, the refusal its state
 * deserves otherwise; undefined when Postgres shows it open or does not know it, and the script decides.
 */
export async function endedHold(
  db: Kysely<Database>,
  shopId: string,
  holdId: string,
  releasedIsReached: boolean,
): Promise<number | undefined> {
  const row = await findHold(db, shopId, holdId);
  const reason = row === undefined ? undefined : reasons[row.state];
  if (row === undefined || reason === undefined) {
    return undefined;
  }
  if (reason === "HOLD_RELEASED" && releasedIsReached) {
    return row.position;
  }
  const head = await readDurableHead(db, shopId);
  const refusal = { reason, metadata: { hold_id: holdId }, retryMs: undefined, violations: [] };
  throw refusalOf(refusal, head?.position ?? row.position, head?.epoch ?? 0);
}
