import type { PoolClient } from "pg";
import { openPool, withClient } from "./open-pool.ts";
import type { CreateRival, Outcome, Purchase } from "./rival.ts";
import { insertHold, insertOrder, orderRow, sellHold } from "./row-lock.ts";

/** A row for each unit: callers skip the units that others have locked, so nobody waits. */
export const createUnitRows: CreateRival = async (options) => {
  const pool = await openPool(options);
  return {
    buy: (purchase) => withClient(pool, (client) => buy(client, purchase)),
    hold: (purchase) => withClient(pool, (client) => hold(client, purchase)),
    buyHeld: (purchase) => withClient(pool, (client) => buyHeld(client, purchase)),
    close: () => pool.end(),
  };
};

const pickUnits = {
  name: "pick_units",
  text: `select unit_id from units where sku = $1 and order_id is null and hold_id is null
    limit $2 for update skip locked`,
};
const readPrices = { name: "read_prices", text: "select price_minor from stock where sku = any($1) order by sku" };
const sellUnits = { name: "sell_units", text: "update units set order_id = $2 where unit_id = any($1)" };
const holdUnits = { name: "hold_units", text: "update units set hold_id = $2 where unit_id = any($1)" };
const sellHeldUnits = { name: "sell_held_units", text: "update units set order_id = $2 where hold_id = $1" };

/** The units of a purchase, locked, and the prices of its lines; undefined when there are not enough. All in one round trip. */
async function pick(client: PoolClient, { skus, quantities }: Purchase) {
  const [, { rows: priced }, ...picked] = await Promise.all([
    client.query("begin"),
    client.query<{ price_minor: string }>({ ...readPrices, values: [skus] }),
    ...skus.map((sku, index) => client.query<{ unit_id: string }>({ ...pickUnits, values: [sku, quantities[index]] })),
  ]);
  const isEnough = picked.every(({ rowCount }, index) => rowCount === quantities[index]);
  const unitIds = picked.flatMap(({ rows }) => rows.map(({ unit_id }) => unit_id));
  return isEnough ? { unitIds, prices: priced.map(({ price_minor }) => Number(price_minor)) } : undefined;
}

async function buy(client: PoolClient, purchase: Purchase): Promise<Outcome> {
  const picked = await pick(client, purchase);
  if (picked === undefined) {
    await client.query("rollback");
    return "refused";
  }
  await Promise.all([
    client.query({ ...sellUnits, values: [picked.unitIds, purchase.orderId] }),
    client.query({ ...insertOrder, values: orderRow(purchase, picked.prices) }),
    client.query("commit"),
  ]);
  return "done";
}

async function hold(client: PoolClient, purchase: Purchase): Promise<Outcome> {
  const { holdId, userId, skus, quantities } = purchase;
  const picked = await pick(client, purchase);
  if (picked === undefined) {
    await client.query("rollback");
    return "refused";
  }
  await Promise.all([
    client.query({ ...holdUnits, values: [picked.unitIds, holdId] }),
    client.query({ ...insertHold, values: [holdId, userId, skus, quantities, picked.prices] }),
    client.query("commit"),
  ]);
  return "done";
}

function buyHeld(client: PoolClient, purchase: Purchase): Promise<Outcome> {
  const { holdId, orderId } = purchase;
  return sellHold(client, purchase, () => [client.query({ ...sellHeldUnits, values: [holdId, orderId] })]);
}
