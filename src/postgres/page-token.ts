import { createHmac, timingSafeEqual } from "node:crypto";
import { type Kysely, sql } from "kysely";
import { Refusal } from "../refusal.ts";
import type { Database } from "./schema.ts";

/** Makes and checks page tokens: opaque, authenticated, and good only for the list they came from. */
export interface PageTokens {
  /** A token for the page after `lastKey` of a list, which `list` names by what must not change between its pages. */
  make(list: string, lastKey: string): string;
  /** The key to go on after; empty for the first page. Refuses a token that is forged or of another list. */
  read(list: string, token: string): string;
}

/** Creates the tokens with the secret that all processes share through Postgres. */
export async function createPageTokens(db: Kysely<Database>): Promise<PageTokens> {
  const { rows } = await sql<{ value: string }>`select value from secrets where name = 'page_token'`.execute(db);
  const secret = rows[0]?.value as string;
  const sign = (list: string, lastKey: string): Buffer =>
    createHmac("sha256", secret).update(`${list}\n${lastKey}`).digest().subarray(0, 16);
  return {
    make: (list, lastKey) => Buffer.concat([sign(list, lastKey), Buffer.from(lastKey)]).toString("base64url"),
    read: (list, token) => {
      if (token === "") {
        return "";
      }
      const bytes = Buffer.from(token, "base64url");
      const lastKey = bytes.subarray(16).toString();
      const given = bytes.subarray(0, 16);
      if (given.length < 16 || !timingSafeEqual(given, sign(list, lastKey))) {
        const description = "is not a token of this list";
        throw new Refusal("VALIDATION_FAILED", `page_token ${description}`, {
          fieldViolations: [{ field: "page_token", description }],
        });
      }
      return lastKey;
    },
  };
}
