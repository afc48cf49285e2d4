import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Discrepancy } from "../../gen/holdfast/v1/admin_service_pb.js";
import { AdjustReason, ChangeTiming, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** The shop's clock, which stands still until a test moves it on, in a shop that remembers as little as it may. */
const clock = { nowMs: Date.now() + 3_600_000 };
const settings = { HOLDFAST_REQUEST_MEMORY_COUNT: "100" };
const holdfast = useHoldfast({ clock: () => clock.nowMs, settings });
let redis: Redis;
let shopId: string;

const periodMs = 30 * 24 * 3_600_000;
const key = (name: string) => `{${shopId}}:${name}`;

beforeAll(async () => {
  redis = new Redis(holdfast.redis.url);
  shopId = await createShop(holdfast.grpc, { stock: { a: 1000 }, users: { ann: 100_000, bob: 0, cy: 0 } });
});
afterAll(() => redis?.disconnect());

async function verify(): Promise<Discrepancy[]> {
  const found: Discrepancy[] = [];
  for await (const { discrepancies } of holdfast.grpc.admin.verifyShop({ shopId })) found.push(...discrepancies);
  return found;
}

/** Makes so many commits that the memory turns, when its youngest record is old enough. */
async function adjustMany(): Promise<void> {
  const adjust = { shopId, sku: "a", deltaCount: 1n, reason: AdjustReason.RESTOCK };
  await Promise.all(Array.from({ length: 210 }, () => holdfast.grpc.inventory.adjustStock(adjust)));
}

test("nothing is wrong after three periods, with renewals, and after the memory let go", async () => {
  const { orders, users, subscriptions } = holdfast.grpc;
  await users.grantCredits({ shopId, userId: "ann", credits: 6000n });
  await users.grantCredits({ shopId, userId: "bob", credits: 20_000n });
  await subscriptions.changeTier({ shopId, userId: "ann", tier: "pro" });
  await subscriptions.changeTier({ shopId, userId: "bob", tier: "enterprise" });
  await subscriptions.changeTier({ shopId, userId: "bob", tier: "pro", timing: ChangeTiming.PERIOD_END });
  await subscriptions.changeTier({ shopId, userId: "cy", tier: "pro", timing: ChangeTiming.PERIOD_END });
  await subscriptions.cancelScheduledChange({ shopId, userId: "cy" });
  expect(await verify()).toEqual([]);
  for (const period of [1, 2, 3]) {
    const lines = [{ sku: "a", quantity: period }];
    await orders.placeOrder({ shopId, orderId: `o${period}`, userId: "ann", lines });
    const pending = { shopId, orderId: `p${period}`, userId: "bob", lines, paymentMethod: PaymentMethod.EXTERNAL };
    await orders.placeOrder(pending);
    clock.nowMs += periodMs + 1;
    for (const userId of ["ann", "bob", "cy"]) await subscriptions.getSubscription({ shopId, userId });
    await adjustMany();
    await orders.refundOrder({ shopId, orderId: `o${period}`, amountMinor: 1n });
    expect(await verify(), `period ${period}`).toEqual([]);
  }
  await adjustMany();
  clock.nowMs += 600_001;
  await adjustMany();
  expect(await verify()).toEqual([]);
  const [forgotten, tier] = [await redis.hget(key("meta"), "forgotten"), await redis.hget(key("users"), "ann:sub")];
  expect(Number(forgotten)).toBeGreaterThan(0);
  expect(tier, "who cannot pay falls back to free").toMatch(/^free /);
});

test("a young record that is gone is named, also after the memory let others go", async () => {
  const order = { shopId, orderId: "young", requestId: "young", userId: "ann", lines: [{ sku: "a", quantity: 1 }] };
  const { commit } = await holdfast.grpc.orders.placeOrder(order);
  const { commit: changed } = await holdfast.grpc.orders.fulfillOrder({ shopId, orderId: "young", reference: "f" });
  const gone = ["request:young", "order:young"];
  await redis
    .multi()
    .hdel(key("recent_0"), ...gone)
    .hdel(key("recent_1"), ...gone)
    .exec();
  const found = await verify();
  expect(found.map(({ kind, subject, expected, found: is }) => ({ kind, subject, expected, is }))).toEqual([
    { kind: "ORDER_RECORD", subject: "order:young", expected: `${commit?.position} ${changed?.position}`, is: "" },
    { kind: "REQUEST_RECORD", subject: "request:young", expected: `${commit?.position}`, is: "" },
  ]);
  for await (const { done } of holdfast.grpc.admin.rebuildShop({ shopId })) if (done) break;
  expect(await verify()).toEqual([]);
  await holdfast.grpc.orders.refundOrder({ shopId, orderId: "young", restock: true });
  expect(await verify()).toEqual([]);
});
