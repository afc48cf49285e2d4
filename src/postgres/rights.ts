import { type Kysely, sql } from "kysely";
import { refusedByPostgres } from "../missing-right.ts";
import type { Database } from "./schema.ts";

/** What a server does with each table besides reading it, as deploy/postgres/grants.sql grants it. */
const writes: Readonly<Record<keyof Database, readonly ("insert" | "update")[]>> = {
  commits: ["insert"],
  ledger_entries: ["insert"],
  tier_changes: ["insert"],
  shops: ["insert", "update"],
  products: ["insert", "update"],
  stock: ["insert", "update"],
  holds: ["insert", "update"],
  orders: ["insert", "update"],
  users: ["insert", "update"],
  tiers: ["insert", "update"],
  subscriptions: ["insert", "update"],
  refunds: ["insert", "update"],
  consumers: ["insert", "update"],
  verifications: ["insert", "update"],
};

/**
 * Checks that this role may do all that a server does, at the start, and not when the first buyer needs it: a flush that PostgreSQL
 * refuses stops the shop.
 */
export async function requireRights(db: Kysely<Database>): Promise<void> {
  const needed = Object.entries(writes).flatMap(([table, verbs]) =>
    ["select", ...verbs].map((privilege) => ({ table, privilege })),
  );
  needed.push({ table: "secrets", privilege: "select" });
  const { rows } = await sql<{ what: string }>`
    select needed.privilege || ' ' || needed."table" as what
    from json_to_recordset(${JSON.stringify(needed)}::json) as needed("table" text, privilege text)
    where not has_any_column_privilege(needed."table", needed.privilege)`.execute(db);
  if (rows.length > 0) {
    throw refusedByPostgres(`it may not ${rows.map(({ what }) => what).join(", ")}`);
  }
}
