import { Code } from "@connectrpc/connect";
import { Client } from "pg";
import { describe, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { expectRefusal, refusalOf } from "../helpers/refusals.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();

/** Every message of a stream. */
async function readAll<Message>(stream: AsyncIterable<Message>): Promise<Message[]> {
  const messages: Message[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

describe.each(["grpc", "http"] as const)("AdminService on the %s door", (door) => {
  const clients = () => holdfast[door];

  test("the shop `default` is there from the start, and is what an empty id means", async () => {
    const { shop } = await clients().admin.getShop({});
    expect(shop).toMatchObject({ shopId: "default", currencyCode: "USD" });
    expect((await clients().admin.getShop({ shopId: "default" })).shop).toEqual(shop);
  });

  test("CreateShop begins a log with shop_created at position 1", async () => {
    const shopId = uniqueId("shop");
    const { shop, commit } = await clients().admin.createShop({ shopId, currencyCode: "EUR", requestId: "r1" });
    expect(shop).toMatchObject({
      shopId,
      currencyCode: "EUR",
      headPosition: 1n,
      durablePosition: 1n,
      productCount: 0n,
      userCount: 0n,
      openHoldCount: 0n,
      openOrderCount: 0n,
    });
    expect(commit).toMatchObject({ position: 1n, requestId: "r1", replayed: false, durable: true });
    const found = await clients().admin.getShop({ shopId });
    // The first use of a shop opens it, which begins its first epoch.
    expect(found).toMatchObject({ shop: { ...shop, epoch: 1n }, asOf: { position: 1n, epoch: 1n } });
    const { events } = await clients().events.listEvents({ shopId });
    expect(events).toMatchObject([
      {
        position: 1n,
        index: 0,
        subjects: [`shop:${shopId}`],
        payload: { case: "shopCreated", value: { shopId, currencyCode: "EUR" } },
      },
    ]);
  });

  test("CreateShop repeats an equal body, and refuses another", async () => {
    const shopId = uniqueId("shop");
    const request = { shopId, currencyCode: "USD" };
    const first = await clients().admin.createShop({ ...request, requestId: "r1" });
    const expected = { ...first, commit: { ...first.commit, replayed: true } };
    expect(await clients().admin.createShop({ ...request, requestId: "r1" })).toEqual(expected);
    expect(await clients().admin.createShop(request)).toEqual(expected);
    const other = { shopId, currencyCode: "EUR" };
    await expectRefusal(clients(), shopId, () => clients().admin.createShop(other), {
      code: Code.AlreadyExists,
      reason: "SHOP_EXISTS",
      metadata: expect.objectContaining({ field: "currency_code" }),
    });
    await expectRefusal(clients(), shopId, () => clients().admin.createShop({ ...other, requestId: "r1" }), {
      code: Code.InvalidArgument,
      reason: "REQUEST_ID_REUSED",
      metadata: expect.objectContaining({ field: "currency_code" }),
    });
  });

  test("CreateShop shares its shop's request ids with all RPCs", async () => {
    const shopId = uniqueId("shop");
    await clients().admin.createShop({ shopId, currencyCode: "USD", requestId: "r1" });
    const expected = {
      code: Code.InvalidArgument,
      reason: "REQUEST_ID_REUSED",
      metadata: expect.objectContaining({ field: "rpc" }),
    };
    const put = { shopId, sku: "a", priceMinor: 1n };
    await expectRefusal(clients(), shopId, () => clients().inventory.putProduct({ ...put, requestId: "r1" }), expected);
    await clients().inventory.putProduct({ ...put, requestId: "r2" });
    const create = { shopId, requestId: "r2", currencyCode: "USD" };
    await expectRefusal(clients(), shopId, () => clients().admin.createShop(create), expected);
  });

  test("GetShop counts what there is", async () => {
    const shopId = await createShop(clients(), { stock: { a: 10, b: 1 }, users: { ann: 0 } });
    const line = { sku: "a", quantity: 1 };
    await clients().inventory.holdStock({ shopId, holdId: "h1", lines: [line] });
    await clients().inventory.holdStock({ shopId, holdId: "h2", lines: [line] });
    await clients().inventory.holdStock({ shopId, holdId: "h3", lines: [line] });
    await clients().inventory.releaseHold({ shopId, holdId: "h1" });
    const { commit } = await clients().orders.placeOrder({ shopId, holdId: "h2", paymentMethod: PaymentMethod.NONE });
    const { shop, asOf } = await clients().admin.getShop({ shopId });
    expect(shop).toMatchObject({
      epoch: 1n,
      headPosition: commit?.position,
      durablePosition: commit?.position,
      productCount: 2n,
      userCount: 1n,
      openHoldCount: 1n,
      openOrderCount: 0n,
    });
    expect(asOf).toMatchObject({ position: commit?.position, epoch: 1n });
  });

  test("GetShopStats and ListSkuStats tell what was sold, as Postgres does", async () => {
    const shopId = await createShop(clients(), { stock: { a: 10, b: 5, c: 1 }, users: { ann: 1000, bob: 1000 } });
    const { orders, admin } = clients();
    const buy = (userId: string, lines: { sku: string; quantity: number }[], paymentMethod: PaymentMethod) =>
      orders.placeOrder({ shopId, userId, lines, paymentMethod });
    const two = [
      { sku: "a", quantity: 2 },
      { sku: "b", quantity: 1 },
      { sku: "a", quantity: 1 },
    ];
    await buy("ann", two, PaymentMethod.WALLET);
    const { commit } = await buy("bob", [{ sku: "a", quantity: 1 }], PaymentMethod.NONE);
    await buy("", [{ sku: "b", quantity: 3 }], PaymentMethod.EXTERNAL);
    const expected = { userCount: 2n, orderCount: 2n, itemCount: 5n, revenueMinor: 400n, refundedMinor: 0n };
    const { stats, asOf } = await admin.getShopStats({ shopId });
    expect(stats).toMatchObject({ ...expected, upgradeCredits: 0n, downgradeCredits: 0n });
    expect(stats?.tiers).toMatchObject([{ tier: "free", userCount: 2n }]);
    expect(asOf).toMatchObject({ position: (commit?.position ?? 0n) + 1n, epoch: 1n });
    const first = await admin.listSkuStats({ shopId, pageSize: 2 });
    expect(first.skuStats).toMatchObject([
      { sku: "a", orderCount: 2n, unitCount: 4n, revenueMinor: 300n },
      { sku: "b", orderCount: 1n, unitCount: 1n, revenueMinor: 100n },
    ]);
    const { skuStats, nextPageToken } = await admin.listSkuStats({ shopId, pageToken: first.nextPageToken });
    expect(skuStats).toMatchObject([{ sku: "c", orderCount: 0n, unitCount: 0n, revenueMinor: 0n }]);
    expect(nextPageToken).toBe("");
    const client = new Client({ connectionString: holdfast.database.url });
    await client.connect();
    const { rows } = await client.query("select * from shops where shop_id = $1", [shopId]).finally(() => client.end());
    expect(rows[0]).toMatchObject({
      user_count: String(stats?.userCount),
      order_count: String(stats?.orderCount),
      item_count: String(stats?.itemCount),
      revenue_minor: String(stats?.revenueMinor),
      refunded_minor: String(stats?.refundedMinor),
    });
  });

  test("VerifyShop ends with its last message, and RebuildShop begins a new epoch with the same state", async () => {
    const shopId = await createShop(clients(), { stock: { a: 10 }, users: { ann: 1000 } });
    const lines = [{ sku: "a", quantity: 1 }];
    await clients().inventory.holdStock({ shopId, holdId: "h", lines });
    await clients().orders.placeOrder({ shopId, userId: "ann", lines });
    const { stocks } = await clients().inventory.batchGetStock({ shopId, skus: ["a"] });
    const rebuilt = await readAll(clients().admin.rebuildShop({ shopId }));
    expect(rebuilt.at(-1)).toMatchObject({ epoch: 2n, done: true });
    expect(rebuilt.at(-1)?.loadedCount).toBeGreaterThan(2n);
    expect(await clients().inventory.batchGetStock({ shopId, skus: ["a"] })).toMatchObject({
      stocks,
      asOf: { epoch: 2n },
    });
    const verified = await readAll(clients().admin.verifyShop({ shopId }));
    expect(verified.at(-1)).toMatchObject({ done: true });
    expect(verified.at(-1)?.checkedCount).toBeGreaterThan(20n);
    expect(verified.flatMap(({ discrepancies }) => discrepancies)).toEqual([]);
  });

  test("ListShops pages by id in byte order", async () => {
    for (const shopId of ["Z", "_", "a", "a-b", "a.b"])
      await clients().admin.createShop({ shopId, currencyCode: "USD" });
    const found: string[] = [];
    let pageToken = "";
    do {
      const page = await clients().admin.listShops({ pageSize: 3, pageToken });
      expect(page.shops.length).toBeLessThanOrEqual(3);
      found.push(...page.shops.map(({ shopId }) => shopId));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(found).toEqual([...found].sort());
    expect(found).toEqual(expect.arrayContaining(["Z", "_", "a", "a-b", "a.b", "default"]));
    expect(new Set(found).size).toBe(found.length);
  });

  test("an unknown shop is refused by every RPC, and not made by any", async () => {
    const shopId = "nowhere";
    const { inventory, orders, users, events, admin } = clients();
    const lines = [{ sku: "a", quantity: 1 }];
    const calls: Record<string, () => Promise<unknown>> = {
      PutProduct: () => inventory.putProduct({ shopId, sku: "a", priceMinor: 1n }),
      GetProduct: () => inventory.getProduct({ shopId, sku: "a" }),
      ListProducts: () => inventory.listProducts({ shopId }),
      AdjustStock: () => inventory.adjustStock({ shopId, sku: "a", deltaCount: 1n, reason: 1 }),
      GetStock: () => inventory.getStock({ shopId, sku: "a" }),
      BatchGetStock: () => inventory.batchGetStock({ shopId, skus: ["a"] }),
      HoldStock: () => inventory.holdStock({ shopId, lines }),
      GetHold: () => inventory.getHold({ shopId, holdId: "h" }),
      ListHolds: () => inventory.listHolds({ shopId }),
      ExtendHold: () => inventory.extendHold({ shopId, holdId: "h" }),
      ReleaseHold: () => inventory.releaseHold({ shopId, holdId: "h" }),
      PlaceOrder: () => orders.placeOrder({ shopId, lines }),
      GetOrder: () => orders.getOrder({ shopId, orderId: "o" }),
      CreateUser: () => users.createUser({ shopId }),
      GetUser: () => users.getUser({ shopId, userId: "u" }),
      DepositFunds: () => users.depositFunds({ shopId, userId: "u", amountMinor: 1n }),
      ListEvents: () => events.listEvents({ shopId }),
      GetShop: () => admin.getShop({ shopId }),
      GetShopStats: () => admin.getShopStats({ shopId }),
      ListSkuStats: () => admin.listSkuStats({ shopId }),
      VerifyShop: () => readAll(admin.verifyShop({ shopId })),
      RebuildShop: () => readAll(admin.rebuildShop({ shopId })),
    };
    for (const [rpc, call] of Object.entries(calls)) {
      expect(await refusalOf(call()), rpc).toMatchObject({
        code: Code.NotFound,
        reason: "SHOP_NOT_FOUND",
        metadata: { shop_id: shopId },
      });
    }
    const { shops } = await admin.listShops({ pageSize: 1000 });
    expect(shops.map((shop) => shop.shopId)).not.toContain(shopId);
  });
});

test("a rebuild is one also when the shop begins to be opened while Redis is asked for memory", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 10 } });
  const shop = holdfast.server.store.shops.get(shopId);
  const rebuilt = shop.rebuild(() => {});
  await shop.reopen();
  expect((await rebuilt).epoch).toBe(2);
});
