import type { PoolClient, QueryResult } from "pg";
import { openPool, withClient } from "./open-pool.ts";
import type { CreateRival, Outcome, Purchase } from "./rival.ts";

/**
 * The transaction that most shops write: lock the stock, look, update, insert. Two round trips: `begin` travels with the
 * lock, and everything after the look travels with `commit`.
 */
export const createRowLock: CreateRival = async (options) => {
  const pool = await openPool(options);
  return {
    buy: (purchase) => withClient(pool, (client) => buy(client, purchase)),
    hold: (purchase) => withClient(pool, (client) => hold(client, purchase)),
    buyHeld: (purchase) => withClient(pool, (client) => buyHeld(client, purchase)),
    close: () => pool.end(),
  };
};

/** A level of stock, as its row was locked. */
export interface LockedLevel {
  readonly available_count: string;
  readonly price_minor: string;
}

const lockLine = {
  name: "lock_line",
  text: "select available_count, price_minor from stock where sku = $1 for update",
};
const lockCart = {
  name: "lock_cart",
  text: "select available_count, price_minor from stock where sku = any($1) order by sku for update",
};

/** Locks levels in the order of their ids, so that two carts never wait for each other. */
export function lockLevels(client: PoolClient, skus: readonly string[]): Promise<QueryResult<LockedLevel>> {
  return skus.length === 1
    ? client.query({ ...lockLine, values: [skus[0]] })
    : client.query({ ...lockCart, values: [skus] });
}

/** A hold, as its row was locked. */
export interface LockedHold {
  readonly user_id: string | null;
  readonly skus: readonly string[];
  readonly quantities: readonly string[];
  readonly prices: readonly string[];
  readonly is_active: boolean;
}

/** Locks a hold: $1 hold. */
export const lockHold = {
  name: "lock_hold",
  text: `select user_id, skus, quantities, prices, state = 'active' and expire_time > now() as is_active
    from holds where hold_id = $1 for update`,
};

const move = {
  sell: moveStatements("sell", "available_count", "sold_count"),
  hold: moveStatements("hold", "available_count", "held_count"),
  sellHeld: moveStatements("sell_held", "held_count", "sold_count"),
};

function moveStatements(name: string, from: string, to: string) {
  return {
    line: {
      name: `${name}_line`,
      text: `update stock set ${from} = ${from} - $2, ${to} = ${to} + $2 where sku = $1`,
    },
    cart: {
      name: `${name}_cart`,
      text: `update stock set ${from} = ${from} - line.quantity, ${to} = ${to} + line.quantity
        from unnest($1::text[], $2::bigint[]) as line (sku, quantity) where stock.sku = line.sku`,
    },
  };
}

/** Moves units from one count of their level to another. */
export function moveUnits(
  client: PoolClient,
  how: keyof typeof move,
  { skus, quantities }: Pick<Purchase, "skus" | "quantities">,
): Promise<unknown> {
  const { line, cart } = move[how];
  return skus.length === 1
    ? client.query({ ...line, values: [skus[0], quantities[0]] })
    : client.query({ ...cart, values: [skus, quantities] });
}

/** Takes what `orderRow` gives. */
export const insertOrder = {
  name: "insert_order",
  text: `insert into orders (order_id, user_id, skus, quantities, prices, item_count, amount_minor, create_time)
    values ($1, $2, $3, $4, $5, $6, $7, now())`,
};

/** Holds last 10 minutes: $1 hold, $2 user, $3 skus, $4 quantities, $5 prices. */
export const insertHold = {
  name: "insert_hold",
  text: `insert into holds (hold_id, user_id, skus, quantities, prices, state, expire_time)
    values ($1, $2, $3, $4, $5, 'active', now() + interval '10 minutes')`,
};

/** Ends a hold that became an order: $1 hold, $2 order. */
export const commitHold = {
  name: "commit_hold",
  text: "update holds set state = 'committed', order_id = $2 where hold_id = $1",
};

/** Whether every SKU is there and has enough. */
export function hasEnough(levels: readonly LockedLevel[], { quantities }: Purchase): boolean {
  return (
    levels.length === quantities.length &&
    levels.every(({ available_count }, index) => Number(available_count) >= (quantities[index] as number))
  );
}

/** What an order's row holds. */
export function orderRow(
  { orderId, userId, skus, quantities }: Pick<Purchase, "orderId" | "userId" | "skus" | "quantities">,
  prices: readonly number[],
): unknown[] {
  const itemCount = quantities.reduce((sum, quantity) => sum + quantity, 0);
  const amountMinor = quantities.reduce((sum, quantity, index) => sum + quantity * (prices[index] as number), 0);
  return [orderId, userId, skus, quantities, prices, itemCount, amountMinor];
}

async function buy(client: PoolClient, purchase: Purchase): Promise<Outcome> {
  const [, { rows: levels }] = await Promise.all([client.query("begin"), lockLevels(client, purchase.skus)]);
  if (!hasEnough(levels, purchase)) {
    await client.query("rollback");
    return "refused";
  }
  const prices = levels.map(({ price_minor }) => Number(price_minor));
  await Promise.all([
    moveUnits(client, "sell", purchase),
    client.query({ ...insertOrder, values: orderRow(purchase, prices) }),
    client.query("commit"),
  ]);
  return "done";
}

async function hold(client: PoolClient, purchase: Purchase): Promise<Outcome> {
  const { holdId, userId, skus, quantities } = purchase;
  const [, { rows: levels }] = await Promise.all([client.query("begin"), lockLevels(client, skus)]);
  if (!hasEnough(levels, purchase)) {
    await client.query("rollback");
    return "refused";
  }
  const prices = levels.map(({ price_minor }) => Number(price_minor));
  await Promise.all([
    moveUnits(client, "hold", purchase),
    client.query({ ...insertHold, values: [holdId, userId, skus, quantities, prices] }),
    client.query("commit"),
  ]);
  return "done";
}

function buyHeld(client: PoolClient, purchase: Purchase): Promise<Outcome> {
  return sellHold(client, purchase, ({ skus }, order) => [
    ...(skus.length > 1 ? [lockLevels(client, skus)] : []),
    moveUnits(client, "sellHeld", order),
  ]);
}

/** Makes a hold an order in two round trips; `moveHeld` sends what takes its units. */
export async function sellHold(
  client: PoolClient,
  { orderId, holdId }: Purchase,
  moveHeld: (held: LockedHold, order: Parameters<typeof orderRow>[0]) => readonly Promise<unknown>[],
): Promise<Outcome> {
  const [, { rows }] = await Promise.all([
    client.query("begin"),
    client.query<LockedHold>({ ...lockHold, values: [holdId] }),
  ]);
  const [held] = rows;
  if (held?.is_active !== true) {
    await client.query("rollback");
    return "refused";
  }
  const order = { orderId, userId: held.user_id, skus: held.skus, quantities: held.quantities.map(Number) };
  await Promise.all([
    ...moveHeld(held, order),
    client.query({ ...insertOrder, values: orderRow(order, held.prices.map(Number)) }),
    client.query({ ...commitHold, values: [holdId, orderId] }),
    client.query("commit"),
  ]);
  return "done";
}
