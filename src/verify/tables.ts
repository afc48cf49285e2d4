import { type Kysely, type Selectable, sql } from "kysely";
import { readCommit } from "../postgres/commits.ts";
import type { Database } from "../postgres/schema.ts";
import type { Fields } from "./discrepancy.ts";
import type { HoldEvent, OrderEvent } from "./events.ts";
import { digestOf, holdFields, type Model, orderFields } from "./model.ts";
import { pageCount, type Run } from "./run.ts";

/** A table whose rows are things of the model. */
export interface Table<Thing> {
  readonly kind: string;
  /** Reads rows by key, after one (empty = from the first). */
  read(trx: Kysely<Database>, shopId: string, after: string): Promise<readonly Row[]>;
  readonly things: ReadonlyMap<string, Thing>;
  /** `sku:ps5`, for the key `ps5`. */
  subject(key: string): string;
  /** The commit that last changed the thing. */
  position(thing: Thing): number;
  /** What the row has to say; `found` for those of which the model keeps a digest only. */
  expected(thing: Thing, found: Row): Promise<Fields> | Fields;
}

/** A row, by its key. */
export interface Row {
  readonly key: string;
  readonly fields: Fields;
}

/** Every table whose rows follow from the log, with the model as it is. */
export function tablesOf(run: Run, trx: Kysely<Database>): readonly Table<never>[] {
  const { model } = run;
  const subscriptions = new Map(
    [...model.users.values()].flatMap((user) =>
      user.subscription === undefined ? [] : [[user.id, user.subscription] as const],
    ),
  );
  const tables: readonly Table<never>[] = [
    defineTable({
      kind: "PRODUCT",
      things: model.skus,
      subject: (key) => `sku:${key}`,
      position: (sku) => sku.position,
      read: async (db, shopId, after) => {
        const rows = await byKey(db, "products", "sku", shopId, after);
        return rows.map(({ sku, shop_id: _, sale_start_time, sale_end_time, create_time, update_time, ...rest }) => ({
          key: sku,
          fields: {
            ...rest,
            sale_start_time: sale_start_time?.getTime() ?? 0,
            sale_end_time: sale_end_time?.getTime() ?? 0,
            create_time: create_time.getTime(),
            update_time: update_time.getTime(),
          },
        }));
      },
      expected: (sku) => ({
        title: sku.title,
        price_minor: sku.price,
        max_per_user: sku.limit,
        withdrawn: sku.withdrawn,
        limit_tracked: sku.tracked,
        position: sku.position,
        sale_start_time: sku.saleStart,
        sale_end_time: sku.saleEnd,
        create_time: sku.createMs,
        update_time: sku.updateMs,
      }),
    }),
    defineTable({
      kind: "STOCK_LEVEL",
      things: model.skus,
      subject: (key) => `sku:${key}`,
      position: (sku) => sku.levelsPosition,
      read: async (db, shopId, after) =>
        (await byKey(db, "stock", "sku", shopId, after)).map(({ sku, available_count, held_count, sold_count }) => ({
          key: sku,
          fields: { available_count, held_count, sold_count },
        })),
      expected: ({ available, held, sold }) => ({ available_count: available, held_count: held, sold_count: sold }),
    }),
    defineTable({
      kind: "SKU_STATS",
      things: model.skus,
      subject: (key) => `sku:${key}`,
      position: (sku) => sku.levelsPosition,
      read: async (db, shopId, after) =>
        (await byKey(db, "stock", "sku", shopId, after)).map(({ sku, order_count, unit_count, revenue_minor }) => ({
          key: sku,
          fields: { order_count, unit_count, revenue_minor },
        })),
      expected: ({ orders, units, revenue }) => ({ order_count: orders, unit_count: units, revenue_minor: revenue }),
    }),
    defineTable({
      kind: "HOLD",
      things: model.holds,
      subject: (key) => `hold:${key}`,
      position: (hold) => hold.position,
      read: async (db, shopId, after) =>
        (await byKey(db, "holds", "hold_id", shopId, after)).map((row) => ({
          key: row.hold_id,
          fields: holdFields({
            ...row,
            create_time: row.create_time.getTime(),
            expire_time: row.expire_time.getTime(),
          }),
        })),
      expected: (hold, { key, fields }) =>
        digestOf(fields) === hold.digest
          ? fields
          : fromCommit(
              trx,
              model,
              hold.position,
              (each: HoldEvent) => each.hold_id === key && holdFields(each),
              "hold",
            ),
    }),
    defineTable({
      kind: "ORDER",
      things: model.orders,
      subject: (key) => `order:${key}`,
      position: (order) => order.position,
      read: async (db, shopId, after) =>
        (await byKey(db, "orders", "order_id", shopId, after)).map(({ expire_time, restocked, ...row }) => ({
          key: row.order_id,
          fields: orderFields({
            ...row,
            ...(expire_time === null ? {} : { expire_time: expire_time.getTime() }),
            ...(restocked === null ? {} : { restocked }),
            create_time: row.create_time.getTime(),
            update_time: row.update_time.getTime(),
          }),
        })),
      expected: (order, { key, fields }) =>
        digestOf(fields) === order.digest
          ? fields
          : fromCommit(
              trx,
              model,
              order.position,
              (each: OrderEvent) => each.order_id === key && orderFields(each),
              "order",
            ),
    }),
    defineTable({
      kind: "USER",
      things: model.users,
      subject: (key) => `user:${key}`,
      position: (user) => user.position,
      read: readUsers,
      expected: (user) => ({
        tier: user.tier,
        referral_code: user.code,
        referred_by: user.referredBy,
        referral_count: user.referralCount,
        order_count: user.orders,
        lifetime_value_minor: user.lifetime,
        create_position: user.createPosition,
        position: user.position,
        create_time: user.createMs,
        update_time: user.updateMs,
      }),
    }),
    defineTable({
      kind: "WALLET_BALANCE",
      things: model.users,
      subject: (key) => `user:${key}`,
      position: (user) => user.position,
      read: async (db, shopId, after) =>
        (await byKey(db, "users", "user_id", shopId, after)).map(({ user_id, balance_minor, credits }) => ({
          key: user_id,
          fields: { balance_minor, credits },
        })),
      expected: ({ balance, credits }) => ({ balance_minor: balance, credits }),
    }),
    defineTable({
      kind: "TIER",
      things: model.tiers,
      subject: (key) => `tier:${key}`,
      position: (tier) => tier.position,
      read: async (db, shopId, after) =>
        (await byKey(db, "tiers", "tier", shopId, after)).map(({ tier, shop_id: _, ...fields }) => ({
          key: tier,
          fields,
        })),
      expected: ({ price, projects, storageMb, apiCalls, position }) => ({
        price_credits: price,
        max_projects: projects,
        max_storage_mb: storageMb,
        max_api_calls: apiCalls,
        position,
      }),
    }),
    defineTable({
      kind: "SUBSCRIPTION",
      things: subscriptions,
      subject: (key) => `user:${key}`,
      position: (subscription) => subscription.position,
      read: async (db, shopId, after) =>
        (await byKey(db, "subscriptions", "user_id", shopId, after)).map((row) => ({
          key: row.user_id,
          fields: {
            tier: row.tier,
            price_credits: row.price_credits,
            period_start_time: row.period_start_time.getTime(),
            period_end_time: row.period_end_time.getTime(),
            scheduled_tier: row.scheduled_tier,
            update_time: row.update_time.getTime(),
            position: row.position,
          },
        })),
      expected: ({ tier, price, startMs, endMs, scheduled, updateMs, position }) => ({
        tier,
        price_credits: price,
        period_start_time: startMs,
        period_end_time: endMs,
        scheduled_tier: scheduled,
        update_time: updateMs,
        position,
      }),
    }),
    defineTable({
      kind: "TIER_CHANGE",
      things: model.tierChanges,
      subject: (key) => `user:${key.split(" ")[0]}`,
      position: (change) => change.position,
      read: readTierChanges,
      expected: ({ from_tier, to_tier, proration, cause, charged_credits, credited_credits, commit_time }) => ({
        from_tier,
        to_tier,
        proration,
        cause,
        charged_credits,
        credited_credits,
        commit_time,
      }),
    }),
    defineTable({
      kind: "REFUND",
      things: model.refunds,
      subject: (key) => `order:${key.split(" ")[0]}`,
      position: (refund) => refund.position,
      read: readRefunds,
      expected: ({ amount, settled, refundId, createPosition }) => ({
        amount_minor: amount,
        settled,
        refund_id: refundId,
        create_position: createPosition,
      }),
    }),
  ];
  return tables;
}

/** Keeps each table's own type of thing together; all of them are then read by the same code. */
function defineTable<Thing>(table: Table<Thing>): Table<never> {
  return table as unknown as Table<never>;
}

/** A page of a table whose key is one column. */
function byKey<Name extends "products" | "stock" | "holds" | "orders" | "users" | "tiers" | "subscriptions">(
  db: Kysely<Database>,
  table: Name,
  column: string,
  shopId: string,
  after: string,
) {
  return db
    .selectFrom(table as "products")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where(sql.ref<string>(column), ">", after)
    .orderBy(sql.ref(column))
    .limit(pageCount)
    .execute() as unknown as Promise<SelectedRow<Name>[]>;
}

type SelectedRow<Name extends keyof Database> = Selectable<Database[Name]>;

async function readUsers(db: Kysely<Database>, shopId: string, after: string): Promise<Row[]> {
  const rows = await byKey(db, "users", "user_id", shopId, after);
  return rows.map((row) => ({
    key: row.user_id,
    fields: {
      tier: row.tier,
      referral_code: row.referral_code,
      referred_by: row.referred_by,
      referral_count: row.referral_count,
      order_count: row.order_count,
      lifetime_value_minor: row.lifetime_value_minor,
      create_position: row.create_position,
      position: row.position,
      create_time: row.create_time.getTime(),
      update_time: row.update_time.getTime(),
    },
  }));
}

async function readTierChanges(db: Kysely<Database>, shopId: string, after: string): Promise<Row[]> {
  const [userId = "", position = "0"] = after.split(" ");
  const rows = await db
    .selectFrom("tier_changes")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where(sql<boolean>`(user_id, position) > (${userId}, ${Number(position)}::bigint)`)
    .orderBy("user_id")
    .orderBy("position")
    .limit(pageCount)
    .execute();
  return rows.map(({ shop_id: _, user_id, position: at, commit_time, ...fields }) => ({
    key: `${user_id} ${at}`,
    fields: { ...fields, commit_time: commit_time.getTime() },
  }));
}

async function readRefunds(db: Kysely<Database>, shopId: string, after: string): Promise<Row[]> {
  const [orderId = "", number = "0"] = after.split(" ");
  const rows = await db
    .selectFrom("refunds")
    .selectAll()
    .where("shop_id", "=", shopId)
    .where(sql<boolean>`(order_id, refund_number) > (${orderId}, ${Number(number)}::integer)`)
    .orderBy("order_id")
    .orderBy("refund_number")
    .limit(pageCount)
    .execute();
  return rows.map(({ shop_id: _, order_id, refund_number, ...fields }) => ({
    key: `${order_id} ${refund_number}`,
    fields,
  }));
}

/** What a row has to say where the model keeps its digest only: as the event that wrote it last tells it. */
async function fromCommit<Resource>(
  trx: Kysely<Database>,
  model: Model,
  position: number,
  read: (resource: Resource) => Fields | false,
  name: "hold" | "order",
): Promise<Fields> {
  const entry = await readCommit(trx, model.shopId, position);
  const events = JSON.parse(entry?.events ?? "[]") as Record<string, Record<string, Resource>>[];
  for (const payload of events.flatMap((event) => Object.values(event))) {
    const fields = payload[name] !== undefined && read(payload[name]);
    if (fields) {
      return fields;
    }
  }
  return { commit: position };
}
