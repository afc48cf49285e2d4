import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openRivalShop, schemaOf } from "../../bench/open-rival-shop.ts";
import type { Outcome, Purchase, Rival } from "../../bench/rivals/rival.ts";
import { type RivalName, rivals } from "../../bench/rivals/rivals.ts";
import { balanceMinor, catalogueSkus, goneSku, hotSku, lastSku, priceMinor, userIds } from "../../bench/sale.ts";
import type { StockRecords } from "../../bench/stock-records.ts";
import { makeId } from "../../src/shop/ids.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
const cleanUp = new AsyncDisposableStack();
const database = { client: undefined as unknown as Client };

beforeAll(async () => {
  database.client = new Client({ connectionString: stores.database.url });
  await database.client.connect();
});

afterAll(async () => {
  await cleanUp.disposeAsync();
  await database.client.end();
});

const broken: readonly RivalName[] = ["check-then-decrement", "bare-decrement"];
const names = (Object.keys(rivals) as RivalName[]).filter((name) => !broken.includes(name));
const withPromises = names.filter((name) => name.endsWith("-promises"));
const withoutCarts: readonly RivalName[] = ["redis-lock"];
const withoutHolds: readonly RivalName[] = ["redis-lock", "redis-watch"];

/** A test of those to whom it applies; the others have none. */
const itFor =
  (applies: boolean) =>
  (title: string, work: () => Promise<void>): void => {
    if (applies) it(title, work);
  };

async function open(name: RivalName): Promise<{ readonly rival: Rival; readonly records: StockRecords }> {
  const records = await openRivalShop(name, stores.redis.url, database.client, cleanUp);
  await records.topUp("hot");
  await records.topUp("cart");
  const options = { databaseUrl: stores.database.url, schema: schemaOf(name), redisUrl: stores.redis.url, poolSize: 8 };
  const rival = await rivals[name](options);
  cleanUp.defer(() => rival.close());
  return { rival, records };
}

function purchase(skus: readonly string[], more: Partial<Purchase> = {}): Purchase {
  const ids = { orderId: makeId(), requestId: makeId(), holdId: makeId() };
  return { ...ids, userId: null, skus, quantities: skus.map(() => 1), ...more };
}

function count(outcomes: readonly Outcome[], outcome: Outcome): number {
  return outcomes.filter((each) => each === outcome).length;
}

/** What `work` sells; meanwhile the records agree, and no level is below zero. */
async function unitsSoldBy(records: StockRecords, work: () => Promise<unknown>): Promise<number> {
  const before = await records.countSold();
  await work();
  const { units, orders, money, wrongSkuCount } = await records.audit();
  for (const record of [units, orders, money]) {
    expect(new Set(Object.values(record)).size).toBeLessThanOrEqual(1);
  }
  expect(wrongSkuCount).toBe(0);
  return (await records.countSold()) - before;
}

describe.each(names)("%s", (name) => {
  let rival: Rival;
  let records: StockRecords;

  beforeAll(async () => {
    ({ rival, records } = await open(name));
  });

  it("sells the last units once each, however many want them", async () => {
    await records.supply(5);
    const soldCount = await unitsSoldBy(records, async () => {
      const outcomes = await Promise.all(Array.from({ length: 40 }, () => rival.buy(purchase([lastSku]))));
      while ((await rival.buy(purchase([lastSku]))) !== "refused") outcomes.push("done");
      expect(count(outcomes, "done")).toBe(5);
    });
    expect(soldCount).toBe(5);
  });

  itFor(!withoutCarts.includes(name))("sells a cart whole or not at all", async () => {
    const cart = catalogueSkus.slice(0, 9);
    const soldCount = await unitsSoldBy(records, async () => {
      expect(await rival.buy(purchase([...cart, goneSku].sort()))).toBe("refused");
      expect(await rival.buy(purchase(cart))).toBe("done");
    });
    expect(soldCount).toBe(9);
  });

  itFor(!withoutCarts.includes(name))("sells carts that have SKUs in common at the same time", async () => {
    const carts = Array.from({ length: 30 }, (_, index) => catalogueSkus.slice(index % 7, (index % 7) + 6));
    const outcomes: Outcome[] = [];
    const soldCount = await unitsSoldBy(records, async () => {
      outcomes.push(...(await Promise.all(carts.map((cart) => rival.buy(purchase(cart))))));
    });
    expect(count(outcomes, "refused")).toBe(0);
    expect(soldCount).toBe(count(outcomes, "done") * 6);
  });

  itFor(!withoutHolds.includes(name))("sells what a hold holds, once", async () => {
    await records.supply(1);
    const held = purchase([lastSku]);
    const ofHold = () => purchase([], { holdId: held.holdId });
    const soldCount = await unitsSoldBy(records, async () => {
      expect(await rival.hold?.(held)).toBe("done");
      expect(await rival.buy(purchase([lastSku]))).toBe("refused");
      expect(await rival.buyHeld?.(ofHold())).toBe("done");
      expect(await rival.buyHeld?.(ofHold())).toBe("refused");
    });
    expect(soldCount).toBe(1);
  });

  itFor(withPromises.includes(name))("answers a repeated request without selling again", async () => {
    await records.supply(1);
    const first = purchase([lastSku]);
    const repeat = () => rival.buy({ ...first, orderId: makeId() });
    const soldCount = await unitsSoldBy(records, async () => {
      const outcomes = await Promise.all(Array.from({ length: 10 }, repeat));
      expect(count(outcomes, "done")).toBe(10);
      expect(await repeat()).toBe("done");
    });
    expect(soldCount).toBe(1);
  });

  itFor(withPromises.includes(name))("refuses a request id that was used for something else", async () => {
    const { requestId } = purchase([hotSku]);
    const soldCount = await unitsSoldBy(records, async () => {
      expect(await rival.buy(purchase([hotSku], { requestId }))).toBe("done");
      expect(await rival.buy(purchase(catalogueSkus.slice(0, 1), { requestId }))).toBe("refused");
    });
    expect(soldCount).toBe(1);
  });

  itFor(withPromises.includes(name))("takes the units and the money, or neither", async () => {
    const [userId, otherId] = userIds as [string, string];
    const move = (id: string, minor: number) =>
      database.client.query(
        `update ${schemaOf(name)}.users set balance_minor = balance_minor + $2 where user_id = $1`,
        [id, minor],
      );
    const soldCount = await unitsSoldBy(records, async () => {
      expect(await rival.buy(purchase([hotSku], { userId }))).toBe("done");
      await move(userId, priceMinor - balanceMinor);
      expect(await rival.buy(purchase([hotSku], { userId }))).toBe("refused");
      // What the one lost the other gets: the wallets' sum is compared with the orders'.
      await move(otherId, balanceMinor - priceMinor);
    });
    expect(soldCount).toBe(1);
  });
});

it.each(broken)("%s sells more than there is", async (name) => {
  const { rival, records } = await open(name);
  await records.supply(2);
  const outcomes = await Promise.all(Array.from({ length: 40 }, () => rival.buy(purchase([lastSku]))));
  expect(count(outcomes, "done")).toBeGreaterThan(2);
});
