import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import type { Event } from "../../gen/holdfast/v1/event_service_pb.js";
import { AdjustReason, HoldState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { expectRefusal, refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** The shops' clock stands still until a test moves it on; it is ahead of the real one, which CreateShop reads. */
const clock = { nowMs: Date.now() + 3_600_000 };
const holdfast = useHoldfast({ clock: () => clock.nowMs });
const dayMs = 86_400_000;
const none = { paymentMethod: PaymentMethod.NONE };
const seconds = (count: number) => ({ seconds: BigInt(count) });

async function expiryEvents(shopId: string): Promise<Event[]> {
  return (await holdfast.grpc.events.listEvents({ shopId, eventTypes: ["hold_expired"], pageSize: 1000 })).events;
}

async function headOf(shopId: string): Promise<bigint> {
  return (await holdfast.grpc.admin.getShop({ shopId })).shop?.headPosition ?? 0n;
}

describe("a hold", () => {
  test("keeps its units until the millisecond before its end, and not a moment longer", async () => {
    const { inventory, orders } = holdfast.grpc;
    const shopId = await createShop(holdfast.grpc, { stock: { a: 2, b: 1 } });
    const lines = [
      { sku: "a", quantity: 2 },
      { sku: "b", quantity: 1 },
    ];
    const { hold } = await inventory.holdStock({ shopId, holdId: "h", lines, holdDuration: seconds(10) });
    const end = clock.nowMs + 10_000;
    const buy = () => orders.placeOrder({ shopId, orderId: "o", lines: [{ sku: "a", quantity: 2 }], ...none });
    clock.nowMs = end - 1;
    expect(await refusalOf(buy())).toMatchObject({ reason: "HELD_OUT", retryMs: 1000 });
    expect((await inventory.getHold({ shopId, holdId: "h" })).hold?.state).toBe(HoldState.ACTIVE);
    clock.nowMs = end;
    const { stocks, commit } = await buy();
    expect(stocks).toMatchObject([{ availableCount: 0n, heldCount: 0n, soldCount: 2n }]);

    const events = await expiryEvents(shopId);
    expect(events).toMatchObject([
      {
        position: (commit?.position ?? 0n) - 1n,
        subjects: ["hold:h", "sku:a", "sku:b"],
        payload: {
          value: {
            hold: {
              holdId: "h",
              state: HoldState.EXPIRED,
              expireTime: timestampFromMs(end),
              createTime: hold?.createTime,
            },
            stocks: [
              { sku: "a", availableCount: 2n, heldCount: 0n },
              { sku: "b", availableCount: 1n, heldCount: 0n },
            ],
          },
        },
      },
    ]);
    const found = await inventory.getHold({ shopId, holdId: "h" });
    expect(found.hold).toEqual({ ...hold, state: HoldState.EXPIRED, position: events[0]?.position });
    await auditShop({ ...holdfast.urls, shopId });
  });

  const touches: Record<string, (shopId: string) => Promise<unknown>> = {
    GetStock: (shopId) => holdfast.grpc.inventory.getStock({ shopId, sku: "a" }),
    BatchGetStock: (shopId) => holdfast.http.inventory.batchGetStock({ shopId, skus: ["b", "a"] }),
    GetHold: (shopId) => holdfast.grpc.inventory.getHold({ shopId, holdId: "h" }),
    HoldStock: (shopId) => holdfast.grpc.inventory.holdStock({ shopId, lines: [{ sku: "a", quantity: 5 }] }),
    PlaceOrder: (shopId) => holdfast.grpc.orders.placeOrder({ shopId, lines: [{ sku: "a", quantity: 5 }], ...none }),
    AdjustStock: (shopId) =>
      holdfast.grpc.inventory.adjustStock({ shopId, sku: "a", deltaCount: -5n, reason: AdjustReason.DAMAGE }),
    "PlaceOrder from it": (shopId) => refusalOf(holdfast.grpc.orders.placeOrder({ shopId, holdId: "h", ...none })),
    ExtendHold: (shopId) => refusalOf(holdfast.grpc.inventory.extendHold({ shopId, holdId: "h" })),
    ReleaseHold: (shopId) => refusalOf(holdfast.grpc.inventory.releaseHold({ shopId, holdId: "h" })),
    "a refused PlaceOrder": (shopId) =>
      refusalOf(holdfast.grpc.orders.placeOrder({ shopId, lines: [{ sku: "a", quantity: 6 }], ...none })),
  };

  test.each(Object.entries(touches))(
    "that is over has expired, committed and durable, before %s is answered",
    async (_, touch) => {
      const shopId = await createShop(holdfast.grpc, { stock: { a: 5, b: 5 } });
      await holdfast.grpc.inventory.holdStock({
        shopId,
        holdId: "h",
        lines: [{ sku: "a", quantity: 5 }],
        holdDuration: seconds(1),
      });
      clock.nowMs += 1000;
      const answer = await touch(shopId);
      if (typeof answer === "object" && answer !== null && "reason" in answer) {
        expect(["HOLD_EXPIRED", "SOLD_OUT"]).toContain(answer.reason);
      }
      expect(await expiryEvents(shopId)).toHaveLength(1);
    },
  );

  test("that ends with others of one SKU, more than a script takes at once, makes room for one order", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 250 } });
    const hold = { shopId, lines: [{ sku: "a", quantity: 1 }], holdDuration: seconds(5) };
    await Promise.all(Array.from({ length: 250 }, () => holdfast.grpc.inventory.holdStock(hold)));
    clock.nowMs += 5000;
    const { stocks } = await holdfast.grpc.orders.placeOrder({ shopId, lines: [{ sku: "a", quantity: 250 }], ...none });
    expect(stocks).toMatchObject([{ availableCount: 0n, heldCount: 0n, soldCount: 250n }]);
    const events = await expiryEvents(shopId);
    expect(new Set(events.map(({ subjects }) => subjects[0])).size).toBe(250);
    for (const { index } of events) expect(index).toBeLessThan(100);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("that expires gives its units back to the user's limit", async () => {
    const { inventory, orders } = holdfast.grpc;
    const shopId = await createShop(holdfast.grpc, { stock: { a: 9 }, users: { ann: 0 } });
    await inventory.putProduct({ shopId, sku: "a", maxPerUser: 2 });
    const two = { shopId, userId: "ann", lines: [{ sku: "a", quantity: 2 }] };
    await inventory.holdStock({ ...two, holdDuration: seconds(5) });
    expect(await refusalOf(orders.placeOrder({ ...two, ...none }))).toMatchObject({ reason: "PER_USER_LIMIT" });
    clock.nowMs += 5000;
    await orders.placeOrder({ ...two, ...none });
  });

  test("stays expired when Redis is emptied and the clock goes back", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
    await holdfast.grpc.inventory.holdStock({
      shopId,
      holdId: "h",
      lines: [{ sku: "a", quantity: 1 }],
      holdDuration: seconds(60),
    });
    clock.nowMs += 60_000;
    expect((await holdfast.grpc.inventory.getHold({ shopId, holdId: "h" })).hold?.state).toBe(HoldState.EXPIRED);
    const { commit: before } = await holdfast.grpc.inventory.putProduct({ shopId, sku: "a" });
    const redis = new Redis(holdfast.redis.url);
    await redis.flushall();
    redis.disconnect();
    clock.nowMs -= 50_000;
    const order = { shopId, holdId: "h", ...none };
    expect(await refusalOf(holdfast.grpc.orders.placeOrder(order))).toMatchObject({ reason: "HOLD_EXPIRED" });
    const { commit: after } = await holdfast.grpc.inventory.putProduct({ shopId, sku: "a" });
    expect(after?.commitTime && timestampMs(after.commitTime)).toBe(
      before?.commitTime && timestampMs(before.commitTime),
    );
    clock.nowMs += 50_000;
  });
});

describe("the sweeper", () => {
  test("expires what is due without traffic, in commits of their own", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 300, b: 300 } });
    const hold = {
      shopId,
      lines: [
        { sku: "a", quantity: 1 },
        { sku: "b", quantity: 1 },
      ],
      holdDuration: seconds(5),
    };
    await Promise.all(Array.from({ length: 220 }, () => holdfast.grpc.inventory.holdStock(hold)));
    const later = await holdfast.grpc.inventory.holdStock({
      ...hold,
      holdId: "later",
      holdDuration: { seconds: 5n, nanos: 1_000_000 },
    });
    const before = await headOf(shopId);
    clock.nowMs += 5000;
    await expect.poll(async () => (await expiryEvents(shopId)).length, { timeout: 4000, interval: 50 }).toBe(220);
    const events = await expiryEvents(shopId);
    expect(events.every(({ position }) => position > before)).toBe(true);
    expect(await headOf(shopId)).toBe(before + 3n);
    expect((await holdfast.grpc.inventory.getHold({ shopId, holdId: "later" })).hold).toEqual(later.hold);
    await auditShop({ ...holdfast.urls, shopId });
  });

  test("leaves an idle shop with nothing due alone", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
    await holdfast.grpc.inventory.holdStock({
      shopId,
      holdId: "h",
      lines: [{ sku: "a", quantity: 1 }],
      holdDuration: seconds(5),
    });
    const before = await headOf(shopId);
    const other = await createShop(holdfast.grpc, { stock: { a: 1 } });
    await holdfast.grpc.inventory.holdStock({
      shopId: other,
      lines: [{ sku: "a", quantity: 1 }],
      holdDuration: seconds(1),
    });
    clock.nowMs += 1000;
    // By then the sweeper has been at both shops.
    await expect.poll(async () => (await expiryEvents(other)).length, { timeout: 4000, interval: 50 }).toBe(1);
    expect(await headOf(shopId)).toBe(before);
  });
});

describe("ExtendHold", () => {
  test("goes to exactly 24 hours after the hold was made, and refuses a millisecond more", async () => {
    const { inventory } = holdfast.grpc;
    const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
    const { hold } = await inventory.holdStock({
      shopId,
      holdId: "h",
      lines: [{ sku: "a", quantity: 1 }],
      holdDuration: seconds(86_400),
    });
    const end = clock.nowMs + dayMs;
    expect(hold?.expireTime).toEqual(timestampFromMs(end));
    clock.nowMs += 1;
    await expectRefusal(
      holdfast.grpc,
      shopId,
      () => inventory.extendHold({ shopId, holdId: "h", holdDuration: seconds(86_400) }),
      {
        code: Code.FailedPrecondition,
        reason: "HOLD_LIMIT_REACHED",
        metadata: expect.objectContaining({ hold_id: "h", last_expire_time: new Date(end).toISOString() }),
      },
    );
    clock.nowMs = end - 1000;
    const extended = await inventory.extendHold({ shopId, holdId: "h", holdDuration: seconds(1) });
    expect(extended.hold?.expireTime).toEqual(timestampFromMs(end));
    await expectRefusal(
      holdfast.grpc,
      shopId,
      () => inventory.extendHold({ shopId, holdId: "h", holdDuration: { seconds: 1n, nanos: 1_000_000 } }),
      { reason: "HOLD_LIMIT_REACHED" },
    );
    clock.nowMs = end;
    expect((await inventory.getHold({ shopId, holdId: "h" })).hold?.state).toBe(HoldState.EXPIRED);
  });

  test("moves the moment at which the units are free again", async () => {
    const { inventory } = holdfast.grpc;
    const shopId = await createShop(holdfast.grpc, { stock: { a: 1, b: 1 } });
    const lines = [
      { sku: "a", quantity: 1 },
      { sku: "b", quantity: 1 },
    ];
    await inventory.holdStock({ shopId, holdId: "h", lines, holdDuration: seconds(10) });
    clock.nowMs += 9000;
    await inventory.extendHold({ shopId, holdId: "h", holdDuration: seconds(10) });
    clock.nowMs += 9999;
    expect((await inventory.getStock({ shopId, sku: "b" })).stock).toMatchObject({ availableCount: 0n, heldCount: 1n });
    clock.nowMs += 1;
    expect((await inventory.getStock({ shopId, sku: "b" })).stock).toMatchObject({ availableCount: 1n, heldCount: 0n });
    expect(await expiryEvents(shopId)).toHaveLength(1);
    await auditShop({ ...holdfast.urls, shopId });
  });
});

test("nothing of all this is a fault of ours", () => {
  expect(holdfast.faults).toEqual([]);
});

test("an expiry that ends in its middle has the shop rebuilt, and is not committed again", async () => {
  const { inventory, admin } = holdfast.grpc;
  const shopId = await createShop(holdfast.grpc, { stock: { a: 2 } });
  await inventory.holdStock({ shopId, holdId: "h", lines: [{ sku: "a", quantity: 2 }], holdDuration: seconds(10) });
  const redis = new Redis(holdfast.redis.url);
  const due = `{${shopId}}:due_skus`;
  await redis.multi().del(due).set(due, "no sorted set").exec();
  redis.disconnect();
  clock.nowMs += 10_000;
  const levels = async () => (await inventory.getStock({ shopId, sku: "a" }).catch(() => undefined))?.stock;
  await expect.poll(levels, { timeout: 10_000 }).toMatchObject({ availableCount: 2n, heldCount: 0n });
  expect(await expiryEvents(shopId)).toHaveLength(1);
  for await (const { discrepancies } of admin.verifyShop({ shopId })) expect(discrepancies).toEqual([]);
  await auditShop({ redisUrl: holdfast.redis.url, databaseUrl: holdfast.database.url, shopId });
}, 20_000);
