import type { Kysely } from "kysely";
import type { Database } from "../postgres/schema.ts";
import { insertShop } from "../postgres/shops.ts";
import { makeId } from "./ids.ts";
import type { Call } from "./log-entry.ts";

/** Makes the shop `default` (USD) that exists from the start; does nothing when it is there. */
export async function ensureDefaultShop(db: Kysely<Database>): Promise<void> {
  const call: Call = { rpc: "CreateShop", request_id: makeId(), principal: "", request: { currency_code: "USD" } };
  await insertShop(db, {
    shopId: "default",
    currencyCode: "USD",
    commitId: makeId(),
    timeMs: Date.now(),
    call: JSON.stringify(call),
    events: JSON.stringify([{ shop_created: { shop_id: "default", currency_code: "USD" } }]),
  });
}
