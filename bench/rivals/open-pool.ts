import pg from "pg";
import type { RivalOptions } from "./rival.ts";

/**
 * Opens all connections of a pool. They pipeline: statements sent at once take one round trip together. Every statement
 * has a name, so that it is prepared once per connection.
 */
export async function openPool({ databaseUrl, schema, poolSize }: RivalOptions): Promise<pg.Pool> {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    // Every row is in memory: an index is cheaper than PostgreSQL assumes for disks.
    options: `-c search_path=${schema} -c random_page_cost=1.1`,
    max: poolSize,
    idleTimeoutMillis: 0,
    pipeline: true,
  });
  const clients = await Promise.all(Array.from({ length: poolSize }, () => pool.connect()));
  for (const client of clients) {
    client.release();
  }
  return pool;
}

/** Lends a connection to `work`. One whose work failed is in an unknown state and is closed. */
export async function withClient<Value>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<Value>,
): Promise<Value> {
  const client = await pool.connect();
  try {
    const value = await work(client);
    client.release();
    return value;
  } catch (error) {
    client.release(true);
    throw error;
  }
}
