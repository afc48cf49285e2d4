import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { expectRefusal, refusalOf } from "../helpers/refusals.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();

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
