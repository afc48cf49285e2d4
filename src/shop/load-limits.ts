import type { Kysely } from "kysely";
import { around } from "../crash-point.ts";
import type { Database } from "../postgres/schema.ts";
import { allowLongStatements, readAsOf, readDurableHead } from "../postgres/shops.ts";
import { makeId } from "./ids.ts";
import type { Shops } from "./shops.ts";
import { countUnits } from "./units.ts";
import type { Caller } from "./waiters.ts";

/** Users whose counts one script takes. */
const chunkUsers = 1000;

/**
 * Brings what users have had of a product into Redis, before the product's first limit holds. Postgres is read as of one
 * commit; the script adds what the log holds after that commit, so the shop sells on meanwhile.
 */
export async function loadLimits(shops: Shops, shopId: string, sku: string, caller: Caller): Promise<void> {
  for (;;) {
    caller.throwIfEnded();
    const count = async (trx: Kysely<Database>) => {
      await allowLongStatements(trx);
      return { head: await readDurableHead(trx, shopId), units: await countUnits(trx, shopId, sku) };
    };
    const read = await around("limits: count", () => readAsOf(shops.db, shopId, count));
    if (read?.value.head === undefined) {
      throw new Error(`shop ${shopId} is not in Postgres any more`);
    }
    const { head, units } = read.value;
    const loadId = makeId();
    const values = units.flatMap((each) => [each.userId, each.unitCount]);
    let isTaken = true;
    for (let from = 0; isTaken && (from === 0 || from < values.length); from += chunkUsers * 2) {
      const isFinal = from + chunkUsers * 2 >= values.length;
      const chunk = values.slice(from, from + chunkUsers * 2);
      const about = [sku, head.position, head.commitId, loadId, from === 0 ? "1" : "0", isFinal ? "1" : "0"];
      isTaken = await shops.get(shopId).loadLimits([...about, ...chunk]);
    }
    if (isTaken) {
      return;
    }
  }
}
