import pg from "pg";
import { makeId } from "../src/shop/ids.ts";
import { answerParent } from "./child.ts";
import { serveBytes } from "./serve-bytes.ts";

/** How a rival sells. */
export type Purchase = "row lock" | "one statement";

/** What a rival needs. */
export interface PurchaseRequest {
  readonly path: string;
  readonly response: Uint8Array;
  readonly databaseUrl: string;
  /** Its tables. */
  readonly schema: string;
  readonly purchase: Purchase;
  /** Connections to PostgreSQL. */
  readonly poolSize: number;
}

const sku = "console";

answerParent<PurchaseRequest>(({ path, response, databaseUrl, schema, purchase, poolSize }) => {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: poolSize, options: `-c search_path=${schema}` });
  const buy = purchase === "row lock" ? buyUnderRowLock : buyInOneStatement;
  return serveBytes(path, response, () => buy(pool));
});

const lock = { name: "lock", text: "select available_count, price_minor from stock where sku = $1 for update" };
const take = {
  name: "take",
  text: "update stock set available_count = available_count - 1, sold_count = sold_count + 1 where sku = $1",
};
const insert = {
  name: "insert",
  text: "insert into orders (order_id, sku, quantity, price_minor, create_time) values ($1, $2, 1, $3, now())",
};

/** The transaction that most shops write. Every statement is prepared once per connection. */
async function buyUnderRowLock(pool: pg.Pool): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    const { rows } = await client.query<{ available_count: string; price_minor: string }>({ ...lock, values: [sku] });
    const [level] = rows;
    if (level === undefined || Number(level.available_count) < 1) {
      throw new Error("sold out");
    }
    await client.query({ ...take, values: [sku] });
    await client.query({ ...insert, values: [makeId(), sku, level.price_minor] });
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

const takeAndInsert = {
  name: "take_and_insert",
  text: `with taken as (
      update stock set available_count = available_count - 1, sold_count = sold_count + 1
      where sku = $1 and available_count >= 1
      returning price_minor
    )
    insert into orders (order_id, sku, quantity, price_minor, create_time)
    select $2, $1, 1, price_minor, now() from taken`,
};

/** The shortest that PostgreSQL can do: one round trip, the lock held for the commit only. */
async function buyInOneStatement(pool: pg.Pool): Promise<void> {
  const { rowCount } = await pool.query({ ...takeAndInsert, values: [sku, makeId()] });
  if (rowCount !== 1) {
    throw new Error("sold out");
  }
}
