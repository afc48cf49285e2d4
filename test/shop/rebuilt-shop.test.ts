import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdjustReason, ChangeTiming, PaymentMethod, ProrationMode } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { persist, startLoad } from "../helpers/load.ts";
import { type RedisState, readRedisState } from "../helpers/redis-state.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
let direct: Redis;
/** Two Holdfasts on the same stores. */
let one: Holdfast;
let two: Holdfast;

beforeAll(async () => {
  direct = new Redis(stores.redis.url);
  [one, two] = await Promise.all([startHoldfast(stores.urls), startHoldfast(stores.urls)]);
});
afterAll(async () => {
  direct?.disconnect();
  await Promise.all([one?.stop(), two?.stop()]);
});

const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 100_000]));
const lines = [{ sku: "ps5", quantity: 1 }];
const none = { paymentMethod: PaymentMethod.NONE };

test("a new shop is logged as opened, and only one that Redis had before as rebuilt", async () => {
  const told = (shopId: string) =>
    one.logged.map((line) => JSON.parse(line)).flatMap(({ shop, msg }) => (shop === shopId ? [msg] : []));
  const shopId = await createShop(one.grpc);
  const use = () => one.grpc.inventory.getStock({ shopId, sku: "a" }).catch(() => undefined);
  await use();
  expect(told(shopId)).toEqual(["shop opened"]);
  await direct.flushall();
  await use();
  expect(told(shopId)).toEqual(["shop opened", "shop rebuilt from Postgres"]);
});

describe("a rebuilt shop", () => {
  /** Users who referred each other, pay for a tier, wait for one, and have orders that wait for their payment. */
  async function fillWithSubscribers(shopId: string): Promise<void> {
    const { orders, subscriptions, users } = one.grpc;
    await users.createUser({ shopId, userId: "ref", email: " Ref@Example.com ", ownReferralCode: "REF" });
    await users.createUser({ shopId, userId: "friend", referralCode: "REF" });
    for (const userId of ["ref", "friend"]) await users.grantCredits({ shopId, userId, credits: 50_000n });
    await subscriptions.putTier({ shopId, tier: "team", priceCredits: 500n, limits: { maxProjects: 7n } });
    await subscriptions.changeTier({ shopId, userId: "ref", tier: "enterprise" });
    await subscriptions.changeTier({ shopId, userId: "ref", tier: "pro", proration: ProrationMode.TIME_BASED });
    await subscriptions.changeTier({ shopId, userId: "friend", tier: "enterprise" });
    await subscriptions.changeTier({ shopId, userId: "friend", tier: "team", timing: ChangeTiming.PERIOD_END });
    await subscriptions.changeTier({ shopId, userId: "u5", tier: "team", timing: ChangeTiming.PERIOD_END });
    await subscriptions.cancelScheduledChange({ shopId, userId: "u5" });
    const waiting = { shopId, paymentMethod: PaymentMethod.EXTERNAL };
    const cart = [...lines, { sku: "b", quantity: 2 }, ...lines];
    await orders.placeOrder({ ...waiting, orderId: "waits", userId: "ref", lines: cart });
    await orders.placeOrder({ ...waiting, orderId: "waits-guest", lines });
    await orders.placeOrder({ ...waiting, orderId: "refunded", userId: "friend", lines: cart });
    await orders.confirmOrder({ shopId, orderId: "refunded", paymentReference: "receipt" });
    const restockLines = [{ sku: "b", quantity: 1 }];
    await orders.refundOrder({ shopId, orderId: "refunded", amountMinor: 7n, restockLines });
  }

  /** What must be the same: all but when an order changed last. A rebuilt shop reads every order anew instead. */
  async function stateOf(shopId: string): Promise<RedisState> {
    const state = await readRedisState(stores.redis.url, shopId);
    const recent = Object.entries(state.recent).map(([field, value]) => [field, value.replace(/ \d+$/, "")]);
    return { ...state, recent: Object.fromEntries(recent) };
  }

  /** A shop with everything in it that Redis keeps. */
  async function fill(): Promise<string> {
    const { inventory, orders } = one.grpc;
    const shopId = await createShop(one.grpc, { stock: { ps5: 1000, b: 50, c: 50, sold: 1 }, users });
    await inventory.putProduct({ shopId, sku: "b", maxPerUser: 5, priceMinor: 7n });
    await inventory.putProduct({
      shopId,
      sku: "c",
      saleStartTime: { seconds: 5n },
      saleEndTime: { seconds: 9_999_999_999n },
    });
    await inventory.putProduct({ shopId, sku: "sold", withdrawn: true });
    await startLoad({ clients: [one.grpc, two.grpc], shopId, callerCount: 8, requestCount: 150 }).result;
    const carts = [
      {
        userId: "u1",
        lines: [
          { sku: "b", quantity: 2 },
          { sku: "ps5", quantity: 1 },
          { sku: "b", quantity: 1 },
        ],
      },
      { userId: "", lines: [{ sku: "c", quantity: 3 }] },
      { userId: "u2", lines: [{ sku: "b", quantity: 5 }] },
      { userId: "u3", lines: [{ sku: "b", quantity: 1 }] },
      { userId: "u3", lines: [{ sku: "b", quantity: 1 }] },
      { userId: "", lines: [{ sku: "ps5", quantity: 1 }] },
    ];
    for (const [index, cart] of carts.entries()) await inventory.holdStock({ shopId, holdId: `h${index}`, ...cart });
    await inventory.extendHold({ shopId, holdId: "h1", holdDuration: { seconds: 5000n } });
    await orders.placeOrder({ shopId, orderId: "from-hold", holdId: "h2", ...none });
    await inventory.releaseHold({ shopId, holdId: "h4" });
    await inventory.holdStock({
      shopId,
      holdId: "h-due",
      userId: "u4",
      lines: [{ sku: "b", quantity: 1 }],
      holdDuration: { nanos: 1_000_000 },
    });
    await expect.poll(async () => (await inventory.getHold({ shopId, holdId: "h-due" })).hold?.state).toBe(4);
    await inventory.adjustStock({ shopId, sku: "c", deltaCount: -1n, reason: AdjustReason.DAMAGE });
    await fillWithSubscribers(shopId);
    await auditShop({ ...stores.urls, shopId });
    return shopId;
  }

  test("equals the one before, from an empty Redis and by force", async () => {
    const shopId = await fill();
    const before = await stateOf(shopId);
    for (const content of [...Object.values(before.hashes), ...Object.values(before.sortedSets)]) {
      expect(Object.keys(content)).not.toHaveLength(0);
    }
    await one.server.store.shops.get(shopId).reopen(true);
    expect(await stateOf(shopId)).toEqual(before);
    await direct.flushall();
    await two.grpc.inventory.getStock({ shopId, sku: "b" });
    expect(await stateOf(shopId)).toEqual(before);
  });

  test("decides as the one before", async () => {
    const shopId = await fill();
    await direct.flushall();
    const { inventory, orders } = two.grpc;
    const wants = (userId: string, quantity: number) =>
      persist(() => orders.placeOrder({ shopId, userId, ...none, lines: [{ sku: "b", quantity }] }));
    expect(await wants("u1", 3), "u1 holds 3 of 5").toBeUndefined();
    expect(await wants("u1", 2)).toBeDefined();
    expect(await wants("u2", 1), "u2 bought 5 of 5").toBeUndefined();
    expect(await wants("u3", 5), "u3 holds 1 of 5, after a release").toBeUndefined();
    expect(await wants("u3", 4)).toBeDefined();
    expect(await wants("u4", 5), "the hold of u4 expired").toBeDefined();
    const { order } = await orders.placeOrder({ shopId, orderId: "o-h0", holdId: "h0" });
    expect(order).toMatchObject({ userId: "u1", amountMinor: 121n });
    await inventory.releaseHold({ shopId, holdId: "h1" });
    await auditShop({ ...stores.urls, shopId });
  });
});

test("holds that are due expire without traffic, also when Redis was emptied", async () => {
  const shopId = await createShop(one.grpc, { stock: { ps5: 10 } });
  await one.grpc.inventory.holdStock({ shopId, holdId: "h", lines, holdDuration: { seconds: 1n } });
  await direct.flushall();
  // Nobody uses the shop: what follows looks at the log in Postgres only.
  await expect
    .poll(async () => (await one.grpc.events.listEvents({ shopId, eventTypes: ["hold_expired"] })).events.length, {
      timeout: 5000,
      interval: 100,
    })
    .toBe(1);
});

test("nothing of all this is a fault of ours", () => {
  expect([...one.faults, ...two.faults]).toEqual([]);
});
