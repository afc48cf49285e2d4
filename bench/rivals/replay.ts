import pg from "pg";
import type { Outcome, Purchase } from "./rival.ts";

/** What is known of a request id; no row when nothing is. */
export const readRequest = { name: "read_request", text: "select fingerprint from requests where request_id = $1" };

/** A request that was accepted before. */
export interface KnownRequest {
  readonly fingerprint: string;
}

/** Tells two requests with the same id apart when they want different things. */
export function fingerprintOf({ userId, skus, quantities, holdId }: Purchase): string {
  return [userId, skus, quantities, holdId].join(" ");
}

/** A request that was accepted before is done; one that was not, or wanted something else, is refused. */
export function replayOf([known]: readonly KnownRequest[], purchase: Purchase): Outcome {
  return known?.fingerprint === fingerprintOf(purchase) ? "done" : "refused";
}

const uniqueViolation = "23505";
const checkViolation = "23514";

/** Of two calls with one request id the later runs into the id's key; an empty wallet into a check. Both have changed nothing. */
export async function answerReplay(pool: pg.Pool, purchase: Purchase, work: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === uniqueViolation) {
      const { rows } = await pool.query<KnownRequest>({ ...readRequest, values: [purchase.requestId] });
      return replayOf(rows, purchase);
    }
    if (error instanceof pg.DatabaseError && error.code === checkViolation) {
      return "refused";
    }
    throw error;
  }
}
