import type { PoolClient } from "pg";
import { openPool, withClient } from "./open-pool.ts";
import { answerReplay, fingerprintOf, type KnownRequest, readRequest, replayOf } from "./replay.ts";
import type { CreateRival, Outcome, Purchase } from "./rival.ts";
import { commitHold, hasEnough, type LockedHold, lockHold, lockLevels, moveUnits, orderRow } from "./row-lock.ts";

/**
 * The row lock with what Holdfast keeps besides: the wallet, its ledger, the request id and the event, in the same
 * transaction. Still two round trips. A request id is looked for after the lock: by then its first call has committed.
 */
export const createRowLockPromises: CreateRival = async (options) => {
  const pool = await openPool(options);
  const run = (work: (client: PoolClient, purchase: Purchase) => Promise<Outcome>) => (purchase: Purchase) =>
    answerReplay(pool, purchase, () => withClient(pool, (client) => work(client, purchase)));
  return { buy: run(buy), hold: run(hold), buyHeld: run(buyHeld), close: () => pool.end() };
};

const lockWallet = { name: "lock_wallet", text: "select balance_minor from users where user_id = $1 for update" };
const setBalance = { name: "set_balance", text: "update users set balance_minor = $2 where user_id = $1" };

const recordOrder = {
  name: "record_order",
  text: `with request as (
      insert into requests (request_id, fingerprint) values ($9, $10)
    ), event as (
      insert into events (body) values ($11)
    ), entry as (
      insert into ledger (user_id, delta_minor, balance_after_minor, order_id)
      select $2, -$7::bigint, $8::bigint, $1::uuid where $2::text is not null
    )
    insert into orders (order_id, user_id, skus, quantities, prices, item_count, amount_minor, balance_after_minor, create_time)
    values ($1, $2, $3, $4, $5, $6, $7::bigint, $8, now())`,
};

const recordHold = {
  name: "record_hold",
  text: `with request as (
      insert into requests (request_id, fingerprint) values ($6, $7)
    ), event as (
      insert into events (body) values ($8)
    )
    insert into holds (hold_id, user_id, skus, quantities, prices, state, expire_time)
    values ($1, $2, $3, $4, $5, 'active', now() + interval '10 minutes')`,
};

async function buy(client: PoolClient, purchase: Purchase): Promise<Outcome> {
  const { requestId, userId, skus, quantities } = purchase;
  const [, { rows: levels }, balanceMinor, { rows: known }] = await Promise.all([
    client.query("begin"),
    lockLevels(client, skus),
    lockBalance(client, userId),
    client.query<KnownRequest>({ ...readRequest, values: [requestId] }),
  ]);
  if (known.length > 0 || !hasEnough(levels, purchase)) {
    await client.query("rollback");
    return replayOf(known, purchase);
  }
  const row = orderRow(
    purchase,
    levels.map(({ price_minor }) => Number(price_minor)),
  );
  const rests = levels.map(({ available_count }, index) => Number(available_count) - (quantities[index] as number));
  return pay(client, purchase, { row, rests, balanceMinor }, [() => moveUnits(client, "sell", purchase)]);
}

async function buyHeld(client: PoolClient, purchase: Purchase): Promise<Outcome> {
  const { requestId, orderId, holdId } = purchase;
  const [, { rows }, { rows: known }] = await Promise.all([
    client.query("begin"),
    client.query<LockedHold>({ ...lockHold, values: [holdId] }),
    client.query<KnownRequest>({ ...readRequest, values: [requestId] }),
  ]);
  const [held] = rows;
  if (known.length > 0 || held?.is_active !== true) {
    await client.query("rollback");
    return replayOf(known, purchase);
  }
  const order = { ...purchase, userId: held.user_id, skus: held.skus, quantities: held.quantities.map(Number) };
  const balanceMinor = held.user_id === null ? null : await lockBalance(client, held.user_id);
  const row = orderRow(order, held.prices.map(Number));
  return pay(client, order, { row, rests: [], balanceMinor }, [
    ...(order.skus.length > 1 ? [() => lockLevels(client, order.skus)] : []),
    () => moveUnits(client, "sellHeld", order),
    () => client.query({ ...commitHold, values: [holdId, orderId] }),
  ]);
}

/** Null without a wallet; a wallet that is not there is empty. */
async function lockBalance(client: PoolClient, userId: string | null): Promise<number | null> {
  if (userId === null) {
    return null;
  }
  const { rows } = await client.query<{ balance_minor: string }>({ ...lockWallet, values: [userId] });
  return Number(rows[0]?.balance_minor ?? 0);
}

interface Bill {
  readonly row: readonly unknown[];
  /** What is available of each SKU afterwards; goes into the event. */
  readonly rests: readonly number[];
  readonly balanceMinor: number | null;
}

/** All that is left to do, in one round trip with the commit. */
async function pay(
  client: PoolClient,
  purchase: Purchase,
  { row, rests, balanceMinor }: Bill,
  moves: readonly (() => Promise<unknown>)[],
): Promise<Outcome> {
  const { orderId, requestId, userId, skus } = purchase;
  const balanceAfterMinor = balanceMinor === null ? null : balanceMinor - Number(row.at(-1));
  if (balanceAfterMinor !== null && balanceAfterMinor < 0) {
    await client.query("rollback");
    return "refused";
  }
  const event = JSON.stringify({ order_placed: { order_id: orderId, order: row, skus, rests } });
  await Promise.all([
    ...moves.map((move) => move()),
    ...(userId === null ? [] : [client.query({ ...setBalance, values: [userId, balanceAfterMinor] })]),
    client.query({ ...recordOrder, values: [...row, balanceAfterMinor, requestId, fingerprintOf(purchase), event] }),
    client.query("commit"),
  ]);
  return "done";
}

async function hold(client: PoolClient, purchase: Purchase): Promise<Outcome> {
  const { requestId, holdId, userId, skus, quantities } = purchase;
  const [, { rows: levels }, { rows: known }] = await Promise.all([
    client.query("begin"),
    lockLevels(client, skus),
    client.query<KnownRequest>({ ...readRequest, values: [requestId] }),
  ]);
  if (known.length > 0 || !hasEnough(levels, purchase)) {
    await client.query("rollback");
    return replayOf(known, purchase);
  }
  const prices = levels.map(({ price_minor }) => Number(price_minor));
  const event = JSON.stringify({ stock_held: { hold_id: holdId, skus, quantities, prices } });
  const record = [holdId, userId, skus, quantities, prices, requestId, fingerprintOf(purchase), event];
  await Promise.all([
    moveUnits(client, "hold", purchase),
    client.query({ ...recordHold, values: record }),
    client.query("commit"),
  ]);
  return "done";
}
