import { type CompiledQuery, Kysely, PostgresDialect } from "kysely";
import { Pool } from "pg";
import { describe, expect, test } from "vitest";
import { OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { listOrders } from "../../src/postgres/orders.ts";
import type { Database } from "../../src/postgres/schema.ts";
import { expectRefusal } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();

describe.each(["grpc", "http"] as const)("ListOrders on the %s door", (door) => {
  const clients = () => holdfast[door];
  const orders = () => clients().orders;

  /** A shop with orders in every state: `p<n>` pending, `c<n>` cancelled, `w<n>` paid, `f<n>` fulfilled, `r<n>` refunded. */
  async function withOrders(): Promise<{ shopId: string; placed: string[] }> {
    const shopId = await createShop(clients(), { stock: { a: 100 }, users: { ann: 10_000, bob: 10_000 } });
    const placed: string[] = [];
    for (let count = 0; count < 3; count += 1) {
      for (const kind of ["p", "w", "c", "f", "r"]) {
        const orderId = `${kind}${count}`;
        const paymentMethod = kind === "p" || kind === "c" ? PaymentMethod.EXTERNAL : PaymentMethod.WALLET;
        const userId = count === 1 ? "bob" : "ann";
        await orders().placeOrder({ shopId, orderId, userId, paymentMethod, lines: [{ sku: "a", quantity: 1 }] });
        placed.unshift(orderId);
      }
    }
    for (let count = 0; count < 3; count += 1) {
      await orders().refundOrder({ shopId, orderId: `r${count}` });
      await orders().fulfillOrder({ shopId, orderId: `f${count}` });
      await orders().cancelOrder({ shopId, orderId: `c${count}` });
    }
    return { shopId, placed };
  }

  /** Every order of a list, page by page. */
  async function listAll(filter: object, pageSize: number): Promise<string[]> {
    const found: string[] = [];
    let pageToken = "";
    do {
      const page = await orders().listOrders({ ...filter, pageSize, pageToken });
      expect(page.orders.length).toBeLessThanOrEqual(pageSize);
      found.push(...page.orders.map(({ orderId }) => orderId));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return found;
  }

  const anns = (orderId: string) => !orderId.endsWith("1");
  test.each([1, 2, 7, 1000])("lists every order once, newest first, %d on a page", async (pageSize) => {
    const { shopId, placed } = await withOrders();
    expect(await listAll({ shopId }, pageSize)).toEqual(placed);
    expect(await listAll({ shopId, userId: "ann" }, pageSize)).toEqual(placed.filter(anns));
    expect(await listAll({ shopId, userId: "nobody" }, pageSize)).toEqual([]);
    const kinds = [
      ["p", OrderState.PENDING_PAYMENT],
      ["w", OrderState.PAID],
      ["f", OrderState.FULFILLED],
      ["c", OrderState.CANCELLED],
      ["r", OrderState.REFUNDED],
    ] as const;
    for (const [kind, state] of kinds) {
      const ofKind = placed.filter((orderId) => orderId.startsWith(kind));
      expect(await listAll({ shopId, state }, pageSize)).toEqual(ofKind);
      expect(await listAll({ shopId, state, userId: "ann" }, pageSize)).toEqual(ofKind.filter(anns));
    }
  });

  test("shows orders as GetOrder does", async () => {
    const { shopId } = await withOrders();
    const { orders: listed } = await orders().listOrders({ shopId });
    for (const order of listed) {
      expect((await orders().getOrder({ shopId, orderId: order.orderId })).order).toEqual(order);
    }
  });

  test("is empty in a new shop", async () => {
    const shopId = await createShop(clients());
    expect(await orders().listOrders({ shopId })).toMatchObject({ orders: [], nextPageToken: "" });
  });

  test("takes a page token only for the list it came from", async () => {
    const { shopId } = await withOrders();
    const { nextPageToken: pageToken } = await orders().listOrders({ shopId, userId: "ann", pageSize: 1 });
    for (const other of [{}, { userId: "bob" }, { userId: "ann", state: OrderState.PAID }]) {
      await expectRefusal(clients(), shopId, () => orders().listOrders({ shopId, ...other, pageToken }), {
        reason: "VALIDATION_FAILED",
        fields: ["page_token"],
      });
    }
  });
});

/** A step of what Postgres plans to do, with what it did. */
interface PlanNode {
  readonly "Relation Name"?: string;
  readonly "Actual Rows": number;
  readonly "Rows Removed by Filter"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** How many rows of a table a plan read. */
function countRead(node: PlanNode): number {
  const own = node["Relation Name"] === "orders" ? node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0) : 0;
  return (node.Plans ?? []).reduce((sum, each) => sum + countRead(each), own);
}

test("ListOrders reads no more than a page per state, however many orders the user or the state has", async () => {
  const shopId = await createShop(holdfast.grpc);
  const queries: CompiledQuery[] = [];
  const pool = new Pool({ connectionString: holdfast.database.url });
  const dialect = new PostgresDialect({ pool });
  const db = new Kysely<Database>({ dialect, log: ({ query }) => void queries.push(query) });
  try {
    // All of ann's are paid, all of bob's cancelled.
    await pool.query(
      `insert into orders (shop_id, order_id, user_id, lines, item_count, amount_minor, refunded_minor, state, payment_method, hold_id,
         create_time, update_time, create_position, position)
       select $1, 'o' || n, case n % 2 when 0 then 'ann' else 'bob' end, '[]', 1, 100, 0, case n % 2 when 0 then 2 else 4 end, 1, '',
         now(), now(), n, n from generate_series(1, 10000) n`,
      [shopId],
    );
    await pool.query("analyze orders");
    for (const userId of ["", "ann", "bob", "nobody"]) {
      for (const state of [0, OrderState.PAID, OrderState.CANCELLED, OrderState.REFUNDED]) {
        await listOrders(db, shopId, { userId, state }, 9000, 10);
        const { sql, parameters } = queries.at(-1) as CompiledQuery;
        const { rows } = await pool.query(`explain (analyze, format json) ${sql}`, [...parameters]);
        const read = countRead(rows[0]["QUERY PLAN"][0].Plan);
        expect(read, `of ${userId} in state ${state}`).toBeLessThanOrEqual(state === 0 ? 20 : 10);
      }
    }
  } finally {
    await db.destroy();
  }
});
