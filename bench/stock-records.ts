import type { Client } from "pg";
import type { Books } from "./contestant.ts";
import { balanceMinor, catalogueSkus, hotSku, lastSku } from "./sale.ts";
import type { WorkloadName } from "./workloads.ts";

/** A rival's records, looked at from outside. */
export interface StockRecords {
  /** Sees that no unit runs out that should not, before a measurement. */
  topUp(workload: WorkloadName): Promise<void>;
  /** Makes exactly so many of the last units available. */
  supply(count: number): Promise<void>;
  /** Units sold since the start. */
  countSold(): Promise<number>;
  audit(): Promise<Books>;
}

/** Of a rival that keeps levels in PostgreSQL. */
export function levelRecords(database: Client, schema: string, { hasPromises = false } = {}): StockRecords {
  const read = (sql: string) => readNumbers(database, sql);
  return {
    topUp: async () => {},
    supply: async (count) => {
      await database.query(
        `update ${schema}.stock set available_count = $2, supplied_count = $2 + held_count + sold_count where sku = $1`,
        [lastSku, count],
      );
    },
    countSold: async () => (await read(`select sum(sold_count) as sold from ${schema}.stock`)).sold as number,
    audit: async () => {
      const { wrong, ...units } =
        await read(`select sum(sold_count) as stock, (select sum(item_count) from ${schema}.orders) as orders,
          count(*) filter (where available_count < 0 or available_count + held_count + sold_count <> supplied_count) as wrong
        from ${schema}.stock`);
      const orders = await read(`select count(*) as orders from ${schema}.orders`);
      if (!hasPromises) {
        return { units, orders, money: {}, wrongSkuCount: wrong as number };
      }
      const rows = await readPromisedRows(database, schema);
      const money = await readMoney(database, schema);
      return { units, orders: { ...orders, ...rows }, money, wrongSkuCount: wrong as number };
    },
  };
}

/** A request id and an event for every hold and every order. */
function readPromisedRows(database: Client, schema: string): Promise<Record<string, number>> {
  return readNumbers(
    database,
    `select (select count(*) from ${schema}.requests) - holds as requests, (select count(*) from ${schema}.events) - holds as events
      from (select count(*) as holds from ${schema}.holds) as counted`,
  );
}

function readMoney(database: Client, schema: string): Promise<Record<string, number>> {
  return readNumbers(
    database,
    `select (select sum(amount_minor) from ${schema}.orders where user_id is not null) as orders,
      (select -sum(delta_minor) from ${schema}.ledger) as ledger,
      (select sum(${balanceMinor} - balance_minor) from ${schema}.users) as wallets`,
  );
}

/** Units that are there when a turn begins. */
const freePerSku = { hot: 100_000, skus: 60 };

/** Of a rival that keeps a row for each unit. */
export function unitRecords(database: Client, schema: string): StockRecords {
  const read = (sql: string) => readNumbers(database, sql);
  const isFree = "order_id is null and hold_id is null";
  const fill = async (skus: readonly string[], count: number): Promise<void> => {
    await database.query(
      `insert into ${schema}.units (sku)
        select want.sku from unnest($1::text[]) as want (sku) cross join lateral generate_series(1, $2 - (
          select count(*) from ${schema}.units where units.sku = want.sku and ${isFree}
        ))`,
      [skus, count],
    );
  };
  return {
    topUp: async (workload) => {
      if (workload === "skus" || workload === "cart") {
        await fill(catalogueSkus, freePerSku.skus);
      } else if (workload !== "last") {
        await fill([hotSku], freePerSku.hot);
      }
    },
    supply: async (count) => {
      await database.query(`delete from ${schema}.units where sku = $1 and ${isFree}`, [lastSku]);
      await fill([lastSku], count);
    },
    countSold: async () => (await read(`select sum(item_count) as sold from ${schema}.orders`)).sold as number,
    audit: async () => ({
      units: await read(`select (select count(*) from ${schema}.units where order_id is not null) as units,
          (select sum(item_count) from ${schema}.orders) as orders`),
      orders: await read(`select count(*) as orders, (select count(distinct order_id) from ${schema}.units) as units
        from ${schema}.orders`),
      money: {},
      wrongSkuCount: 0,
    }),
  };
}

/** One row; a sum of nothing is 0. */
async function readNumbers(database: Client, sql: string): Promise<Record<string, number>> {
  const { rows } = await database.query<Record<string, string | null>>(sql);
  return Object.fromEntries(Object.entries(rows[0] ?? {}).map(([name, value]) => [name, Number(value ?? 0)]));
}
