import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** Names a consumer of a shop. */
export interface ConsumerName {
  readonly shopId: string;
  readonly consumer: string;
}

/**
 * Gives a consumer to a watch, which takes it from the watch that has it; an unknown consumer is created at the start of
 * the log. Returns the position it acknowledged last.
 */
export async function takeConsumer(
  db: Kysely<Database>,
  { shopId, consumer }: ConsumerName,
  session: string,
): Promise<number> {
  const { rows } = await sql<{ position: number }>`
    insert into consumers (shop_id, consumer, position, session, update_time)
    values (${shopId}, ${consumer}, 0, ${session}, now())
    on conflict (shop_id, consumer) do update set session = excluded.session
    returning position`.execute(db);
  return (rows[0] as { position: number }).position;
}

/** Reads which watches have some consumers, with one query however many they are. */
export async function readSessions(
  db: Kysely<Database>,
  names: readonly ConsumerName[],
): Promise<(ConsumerName & { readonly session: string })[]> {
  const shopIds = names.map(({ shopId }) => shopId);
  const consumers = names.map(({ consumer }) => consumer);
  const { rows } = await sql<ConsumerName & { session: string }>`
    select shop_id as "shopId", consumer, session
    from consumers join unnest(${shopIds}::text[], ${consumers}::text[]) as wanted (shop_id, consumer)
      using (shop_id, consumer)`.execute(db);
  return rows;
}

/** What became of an acknowledgement. */
export interface Acknowledgement {
  readonly epoch: number;
  /** Position of the shop's durable head. */
  readonly headPosition: number;
  /** The position in force; null: nothing was written, because the one that was sent is beyond the head. */
  readonly position: number | null;
}

/** Moves a consumer forwards, never back; creates it when it is new. Undefined when there is no such shop. */
export async function acknowledge(
  db: Kysely<Database>,
  { shopId, consumer }: ConsumerName,
  position: number,
): Promise<Acknowledgement | undefined> {
  const { rows } = await sql<Acknowledgement>`
    with head as (
      select epoch, head_position from shops where shop_id = ${shopId}
    ), moved as (
      insert into consumers as known (shop_id, consumer, position, session, update_time)
      select ${shopId}, ${consumer}, ${position}::bigint, '', now() from head where head_position >= ${position}::bigint
      on conflict (shop_id, consumer) do update set
        position = greatest(known.position, excluded.position),
        update_time = case when excluded.position > known.position then excluded.update_time else known.update_time end
      returning position
    )
    select epoch, head_position as "headPosition", (select position from moved) as position from head`.execute(db);
  return rows[0];
}

/** Reads one consumer. */
export function findConsumer(db: Kysely<Database>, { shopId, consumer }: ConsumerName) {
  return db
    .selectFrom("consumers")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("consumer", "=", consumer)
    .executeTakeFirst();
}

/** Lists a shop's consumers by name, after one (exclusive; empty = from the first). */
export function listConsumers(db: Kysely<Database>, shopId: string, afterConsumer: string, count: number) {
  return db
    .selectFrom("consumers")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where("consumer", ">", afterConsumer)
    .orderBy("consumer")
    .limit(count)
    .execute();
}
