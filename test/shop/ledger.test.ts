import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { startLoad } from "../helpers/load.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
let postgres: Client;

beforeAll(async () => {
  postgres = new Client({ connectionString: holdfast.database.url });
  await postgres.connect();
});
afterAll(async () => {
  await postgres?.end();
});

async function readEntries(shopId: string): Promise<string[]> {
  const { rows } = await postgres.query(
    `select format('%s %s %s %s', cause, account, kind, delta) || coalesce(' = ' || balance_after, '')
       || case when order_id = '' then '' else ' for ' || order_id end
       || case when reference = '' then '' else ' (' || reference || ')' end as text
     from ledger_entries where shop_id = $1 order by position, index`,
    [shopId],
  );
  return rows.map(({ text }) => text);
}

test("every movement has two sides, and what moves no money has none", async () => {
  const { inventory, orders, users } = holdfast.grpc;
  const shopId = await createShop(holdfast.grpc, { stock: { a: 10 } });
  const lines = [{ sku: "a", quantity: 2 }];
  await users.createUser({ shopId, userId: "ann" });
  await users.depositFunds({ shopId, userId: "ann", amountMinor: 700n, reference: "bank 1" });
  await orders.placeOrder({ shopId, orderId: "o1", userId: "ann", lines });
  await orders.placeOrder({ shopId, orderId: "free", userId: "ann", lines, paymentMethod: PaymentMethod.NONE });
  await inventory.holdStock({ shopId, holdId: "h", userId: "ann", lines });
  await inventory.putProduct({ shopId, sku: "a", priceMinor: 999n });
  await orders.placeOrder({ shopId, orderId: "o2", holdId: "h" });
  expect(await refusalOf(orders.placeOrder({ shopId, userId: "ann", lines }))).toMatchObject({
    reason: "INSUFFICIENT_FUNDS",
  });
  expect(await readEntries(shopId)).toEqual([
    "SIGNUP user:ann 2 100 = 100",
    "SIGNUP credits 2 -100",
    "DEPOSIT user:ann 1 700 = 700 (bank 1)",
    "DEPOSIT funding 1 -700 (bank 1)",
    "ORDER user:ann 1 -200 = 500 for o1",
    "ORDER revenue 1 200 for o1",
    "ORDER user:ann 1 -200 = 300 for o2",
    "ORDER revenue 1 200 for o2",
  ]);
  await auditShop({ ...holdfast.urls, shopId });
});

test("under load the books balance, to the last unit of money", async () => {
  const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 1000]));
  const shopId = await createShop(holdfast.grpc, { stock: { ps5: 1000 }, users });
  const orders = startLoad({ clients: [holdfast.grpc, holdfast.http], shopId, callerCount: 16, requestCount: 300 });
  const deposits = Promise.all(
    Array.from({ length: 50 }, (_, index) =>
      holdfast.grpc.users.depositFunds({ shopId, userId: `u${index % 10}`, amountMinor: BigInt(index + 1) }),
    ),
  );
  const { acknowledged, refusedCount } = await orders.result;
  await deposits;
  expect(acknowledged.length + refusedCount).toBe(300);
  expect(refusedCount, "wallets of 10 units each run dry").toBeGreaterThan(0);
  await auditShop({ ...holdfast.urls, shopId }, acknowledged);
  const { rows } = await postgres.query(
    `select account, sum(delta)::int as total from ledger_entries where shop_id = $1 and kind = 1 and account not like 'user:%'
     group by 1 order by 1`,
    [shopId],
  );
  expect(rows).toEqual([
    { account: "funding", total: -(10 * 1000 + (50 * 51) / 2) },
    { account: "revenue", total: acknowledged.length * 100 },
  ]);
});
