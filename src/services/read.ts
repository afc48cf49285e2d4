import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { Kysely } from "kysely";
import { around } from "../crash-point.ts";
import type { Database } from "../postgres/schema.ts";
import { type AsOf, readAsOf } from "../postgres/shops.ts";
import { type Reason, Refusal } from "../refusal.ts";
import type { CallContext } from "../server/call-context.ts";
import { messageFromLog } from "../shop/messages.ts";
import type { Shops } from "../shop/shops.ts";
import { shopIdOf } from "./deps.ts";

/** A live read of Postgres: it shows every commit that was acknowledged before it began. Refuses an unknown shop. */
export async function readRecord<Value>(
  shops: Shops,
  req: { readonly shopId: string },
  ctx: CallContext,
  read: (db: Kysely<Database>, shopId: string) => Promise<Value>,
): Promise<AsOf<Value>> {
  await shops.get(shopIdOf(req)).observe(ctx);
  return readSnapshot(shops, req, ctx, read);
}

/** Reads Postgres as it is, together with the shop's head, for lists and history. Refuses an unknown shop. */
export async function readSnapshot<Value>(
  shops: Shops,
  req: { readonly shopId: string },
  ctx: CallContext,
  read: (db: Kysely<Database>, shopId: string) => Promise<Value>,
): Promise<AsOf<Value>> {
  const shopId = shopIdOf(req);
  ctx.throwIfEnded();
  await shops.get(shopId).settle(ctx);
  const found = await around("read: Postgres", () => readAsOf(shops.db, shopId, (trx) => read(trx, shopId)));
  if (found === undefined) {
    throw new Refusal("SHOP_NOT_FOUND", `there is no shop "${shopId}"`, { metadata: { shop_id: shopId } });
  }
  return found;
}

/** The value, or the refusal of what does not exist. */
export function required<Value>(found: AsOf<Value | undefined>, reason: Reason, kind: string, id: string): Value {
  if (found.value === undefined) {
    throw new Refusal(reason, `there is no ${kind} "${id}"`, {
      metadata: {
        [`${kind === "product" ? "sku" : `${kind}_id`}`]: id,
        position: String(found.position),
        epoch: String(found.epoch),
      },
    });
  }
  return found.value;
}

/** A row as a message: columns are named like fields. */
export function messageFromRow<Desc extends DescMessage>(desc: Desc, row: object): MessageShape<Desc> {
  const json = Object.fromEntries(
    Object.entries(row).map(([name, value]) => [name, value instanceof Date ? value.getTime() : value]),
  );
  return messageFromLog(desc, json);
}

/** Rows on a page: 0 = 50, at most 1,000. */
export function pageCount(pageSize: number): number {
  return pageSize === 0 ? 50 : Math.min(pageSize, 1000);
}
