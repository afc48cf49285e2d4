import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { Kysely } from "kysely";
import { around } from "../crash-point.ts";
import type { Database } from "../postgres/schema.ts";
import { type AsOf, readAsOf, readHeadTime } from "../postgres/shops.ts";
import { type Reason, Refusal } from "../refusal.ts";
import type { CallContext } from "../server/call-context.ts";
import { Fenced } from "../shop/fence.ts";
import { shopIdOf } from "../shop/ids.ts";
import { messageFromLog } from "../shop/messages.ts";
import type { Shop } from "../shop/shop.ts";
import type { Shops } from "../shop/shops.ts";

/** Has everything acknowledged be in Postgres, and returns the position up to which that is so. */
type Observe = (shop: Shop, ctx: CallContext) => Promise<number>;

const observe: Observe = (shop, ctx) => shop.observe(ctx);

/** The same, but a fenced shop is shown as Postgres has it: what is missing there, the fence says. */
const observeUnlessFenced: Observe = async (shop, ctx) => {
  try {
    return await shop.observe(ctx);
  } catch (error) {
    if (error instanceof Fenced) {
      return 0;
    }
    throw error;
  }
};

/** A read of Postgres that shows every commit that was acknowledged before it began. Refuses an unknown shop. */
export async function readRecord<Value>(
  shops: Shops,
  req: { readonly shopId: string },
  ctx: CallContext,
  read: (db: Kysely<Database>, shopId: string) => Promise<Value>,
  heal = observe,
): Promise<AsOf<Value>> {
  await freshen(shops, () => heal(shops.get(shopIdOf(req)), ctx));
  return readSnapshot(shops, req, ctx, read, heal);
}

/** The same for a list, which goes on in a fenced shop. */
export function readList<Value>(
  shops: Shops,
  req: { readonly shopId: string },
  ctx: CallContext,
  read: (db: Kysely<Database>, shopId: string) => Promise<Value>,
): Promise<AsOf<Value>> {
  return readRecord(shops, req, ctx, read, observeUnlessFenced);
}

/** Reads what only Postgres has, such as events; it goes on in a fenced shop. Refuses an unknown shop. */
export function readHistory<Value>(
  shops: Shops,
  req: { readonly shopId: string },
  ctx: CallContext,
  read: (db: Kysely<Database>, shopId: string) => Promise<Value>,
): Promise<AsOf<Value>> {
  return readSnapshot(shops, req, ctx, read, observeUnlessFenced);
}

/**
 * Does what a live read needs Redis for before it reads Postgres: what is due is ended, what Postgres lost is healed. While Redis
 * is away it is left out, where everything acknowledged is in Postgres: the answer is as of Postgres' newest commit then, and
 * shows what is due as not ended yet.
 */
export async function freshen<Value>(shops: Shops, ask: () => Promise<Value>): Promise<Value | undefined> {
  return shops.acksDurable ? shops.whileRedisAnswers(ask) : ask();
}

/** A record that may end by itself, and when it does. */
export interface Ending<Value> {
  readonly value: Value;
  /** Undefined = never. */
  readonly dueTime: Date | undefined;
}

/** A live read of a record that may end by itself, after `ask` had its end committed if that was due. */
export async function readEnding<Value>(
  shops: Shops,
  req: { readonly shopId: string },
  ctx: CallContext,
  ask: () => Promise<object>,
  read: (db: Kysely<Database>, shopId: string) => Promise<Ending<Value>>,
): Promise<AsOf<Value>> {
  for (;;) {
    const asked = await freshen(shops, ask);
    const { value: seen, ...at } = await readSnapshot(shops, req, ctx, async (db, shopId) => {
      const { value, dueTime } = await read(db, shopId);
      return { value, isOver: dueTime !== undefined && dueTime <= (await readHeadTime(db, shopId)) };
    });
    // What became due after it was looked at, and before the newest commit of the snapshot, has to be ended first.
    if (!seen.isOver || asked === undefined) {
      return { ...at, value: seen.value };
    }
  }
}

/** A live read of Redis, or of Postgres while Redis is away, as of its newest commit. Refuses an unknown shop. */
export async function readLive<Value>(
  shops: Shops,
  req: { readonly shopId: string },
  ctx: CallContext,
  live: () => Promise<AsOf<Value>>,
  recorded: (db: Kysely<Database>, shopId: string) => Promise<Value>,
): Promise<AsOf<Value>> {
  const found = await (shops.acksDurable ? shops.whileRedisAnswers(live) : live());
  return found ?? readSnapshot(shops, req, ctx, recorded);
}

/**
 * Reads Postgres together with the shop's head, not behind what this process knows to be durable: a Postgres that lost its newest
 * commits gets them back from Redis first. Refuses an unknown shop.
 */
async function readSnapshot<Value>(
  shops: Shops,
  req: { readonly shopId: string },
  ctx: CallContext,
  read: (db: Kysely<Database>, shopId: string) => Promise<Value>,
  heal = observe,
): Promise<AsOf<Value>> {
  const shopId = shopIdOf(req);
  ctx.throwIfEnded();
  shops.require("Postgres");
  if (!shops.acksDurable) {
    await heal(shops.get(shopId), ctx);
  }
  // Not with `get`: when Postgres does not answer, nobody knows whether there is such a shop.
  let leastPosition = shops.find(shopId)?.backlog.durablePosition ?? 0;
  for (;;) {
    const found = await around("read: Postgres", () => readAsOf(shops.db, shopId, (trx) => read(trx, shopId)));
    if (found === undefined) {
      shops.forget(shopId);
      throw new Refusal("SHOP_NOT_FOUND", `there is no shop "${shopId}"`, { metadata: { shop_id: shopId } });
    }
    // From here on it hears how far Postgres gets, also when this process only reads.
    shops.get(shopId).backlog.noteDurable(found.position);
    if (found.position >= leastPosition) {
      return found;
    }
    shops.require("Redis");
    leastPosition = await heal(shops.get(shopId), ctx);
  }
}

/** The value, or the refusal of what does not exist. */
export function required<Value>(found: AsOf<Value | undefined>, reason: Reason, kind: string, id: string): Value {
  if (found.value === undefined) {
    throw notFound(found, reason, kind, id);
  }
  return found.value;
}

/** The refusal of what does not exist, as of a point of the log. */
export function notFound(at: Omit<AsOf<unknown>, "value">, reason: Reason, kind: string, id: string): Refusal {
  return new Refusal(reason, `there is no ${kind} "${id}"`, {
    metadata: {
      [`${kind === "product" ? "sku" : `${kind}_id`}`]: id,
      position: String(at.position),
      epoch: String(at.epoch),
    },
  });
}

/** A row as a message: columns are named like fields. */
export function messageFromRow<Desc extends DescMessage>(desc: Desc, row: object): MessageShape<Desc> {
  const json = Object.fromEntries(
    Object.entries(row).map(([name, value]) => [name, value instanceof Date ? value.getTime() : value]),
  );
  return messageFromLog(desc, json);
}
