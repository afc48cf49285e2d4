import { afterAll, beforeAll, expect, test } from "vitest";
import { HoldState, OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
const clock = { nowMs: Date.now() + 3_600_000 };
let proxy: TcpProxy;
let holdfast: Holdfast;

beforeAll(async () => {
  proxy = await startProxy(stores.database.url);
  const urls = { redisUrl: stores.redis.url, databaseUrl: proxy.url };
  holdfast = await startHoldfast({ ...urls, clock: () => clock.nowMs });
});
afterAll(async () => {
  await holdfast.stop();
  await proxy.stop();
});

/** Reads while time passes and the shop commits, after what is due was looked for and before the record is read. */
async function readLate<Answer>(shopId: string, read: () => Promise<Answer>): Promise<Answer> {
  const isHeld = proxy.hold((request) => request.includes("repeatable read"));
  const answer = read();
  await isHeld;
  clock.nowMs += 3_600_000;
  await holdfast.grpc.users.depositFunds({ shopId, userId: "ann", amountMinor: 1n });
  proxy.release();
  return answer;
}

test("a hold that is over at the newest commit it is read with is expired", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 5 }, users: { ann: 10 } });
  await holdfast.grpc.inventory.holdStock({ shopId, holdId: "h", lines: [{ sku: "a", quantity: 1 }] });
  const { hold } = await readLate(shopId, () => holdfast.grpc.inventory.getHold({ shopId, holdId: "h" }));
  expect(hold?.state).toBe(HoldState.EXPIRED);
});

test("an unpaid order that is over at the newest commit it is read with is cancelled", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 5 }, users: { ann: 10 } });
  const [lines, paymentMethod] = [[{ sku: "a", quantity: 1 }], PaymentMethod.EXTERNAL];
  await holdfast.grpc.orders.placeOrder({ shopId, orderId: "o", lines, paymentMethod });
  const { order } = await readLate(shopId, () => holdfast.grpc.orders.getOrder({ shopId, orderId: "o" }));
  expect(order?.state).toBe(OrderState.CANCELLED);
});
