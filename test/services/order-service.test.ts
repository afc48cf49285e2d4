import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { HoldState, OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { expectRefusal } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** The shops' clock stands still until a test moves it on; it is ahead of the real one, which CreateShop reads. */
const clock = { nowMs: Date.now() + 3_600_000 };
const holdfast = useHoldfast({ clock: () => clock.nowMs });

describe.each(["grpc", "http"] as const)("OrderService on the %s door", (door) => {
  const clients = () => holdfast[door];
  const content = { stock: { a: 10, b: 5 }, users: { ann: 1000, bob: 0 } };
  const line = (sku: string, quantity: number) => ({ sku, quantity });

  test("PlaceOrder sells lines and charges the wallet", async () => {
    const shopId = await createShop(clients(), content);
    const lines = [line("b", 1), { ...line("a", 2), expectedPriceMinor: 100n }, line("b", 3)];
    const answer = await clients().orders.placeOrder({ shopId, orderId: "o1", requestId: "r1", userId: "ann", lines });
    const now = timestampFromMs(clock.nowMs);
    expect(answer.order).toMatchObject({
      orderId: "o1",
      userId: "ann",
      lines: [
        { sku: "b", quantity: 1, priceMinor: 100n },
        { sku: "a", quantity: 2, priceMinor: 100n },
        { sku: "b", quantity: 3, priceMinor: 100n },
      ],
      itemCount: 6n,
      amountMinor: 600n,
      refundedMinor: 0n,
      state: OrderState.PAID,
      paymentMethod: PaymentMethod.WALLET,
      paymentReference: "",
      chargeId: "",
      fulfillReference: "",
      cancelReason: "",
      holdId: "",
      createTime: now,
      updateTime: now,
      position: answer.commit?.position,
    });
    expect(answer.order?.expireTime).toBeUndefined();
    expect(answer.stocks).toMatchObject([
      { sku: "b", availableCount: 1n, heldCount: 0n, soldCount: 4n, priceMinor: 100n },
      { sku: "a", availableCount: 8n, heldCount: 0n, soldCount: 2n, priceMinor: 100n },
    ]);
    expect(answer.balanceMinor).toBe(400n);
    expect(answer.commit).toMatchObject({
      requestId: "r1",
      epoch: 1n,
      commitTime: now,
      replayed: false,
      durable: true,
    });

    const found = await clients().orders.getOrder({ shopId, orderId: "o1" });
    expect(found).toMatchObject({ order: answer.order, asOf: { position: answer.commit?.position, epoch: 1n } });
    const { user } = await clients().users.getUser({ shopId, userId: "ann" });
    expect(user).toMatchObject({ balanceMinor: 400n, orderCount: 1n, lifetimeValueMinor: 600n });
  });

  test("PlaceOrder takes a last balance and a last unit to exactly zero", async () => {
    const shopId = await createShop(clients(), { stock: { a: 10 }, users: { ann: 1000 } });
    const answer = await clients().orders.placeOrder({ shopId, userId: "ann", lines: [line("a", 10)] });
    expect(answer.balanceMinor).toBe(0n);
    expect(answer.stocks).toMatchObject([{ availableCount: 0n, soldCount: 10n }]);
  });

  test("PlaceOrder without payment is PAID, charges nothing and serves guests", async () => {
    const shopId = await createShop(clients(), content);
    const order = { shopId, lines: [line("a", 3)], paymentMethod: PaymentMethod.NONE };
    const guest = await clients().orders.placeOrder(order);
    expect(guest.order).toMatchObject({
      orderId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      userId: "",
      state: OrderState.PAID,
      amountMinor: 300n,
    });
    expect(guest.balanceMinor).toBeUndefined();
    await clients().orders.placeOrder({ ...order, userId: "ann" });
    const { user } = await clients().users.getUser({ shopId, userId: "ann" });
    expect(user).toMatchObject({ balanceMinor: 1000n, orderCount: 1n, lifetimeValueMinor: 0n });
  });

  test("PlaceOrder uses a hold whole, at the hold's prices, for the hold's user, also after the sale", async () => {
    const shopId = await createShop(clients(), content);
    const held = { shopId, holdId: "h1", userId: "ann", lines: [line("a", 2), line("b", 1), line("a", 1)] };
    const { hold } = await clients().inventory.holdStock(held);
    const put = { shopId, sku: "a", priceMinor: 999n, withdrawn: true };
    await clients().inventory.putProduct(put);
    const answer = await clients().orders.placeOrder({ shopId, orderId: "o1", holdId: "h1" });
    expect(answer.order).toMatchObject({ userId: "ann", holdId: "h1", amountMinor: 400n, itemCount: 4n });
    expect(answer.order?.lines).toMatchObject(
      hold?.lines.map(({ sku, quantity, priceMinor }) => ({ sku, quantity, priceMinor })) ?? [],
    );
    expect(answer.stocks).toMatchObject([
      { sku: "a", availableCount: 7n, heldCount: 0n, soldCount: 3n, priceMinor: 999n },
      { sku: "b", availableCount: 4n, heldCount: 0n, soldCount: 1n },
    ]);
    expect(answer.balanceMinor).toBe(600n);
    const found = await clients().inventory.getHold({ shopId, holdId: "h1" });
    expect(found.hold).toEqual({
      ...hold,
      state: HoldState.COMMITTED,
      orderId: "o1",
      position: answer.commit?.position,
    });
  });

  test("PlaceOrder lets a user buy a guest's hold, and nobody another user's", async () => {
    const shopId = await createShop(clients(), content);
    await clients().inventory.holdStock({ shopId, holdId: "guest", lines: [line("a", 1)] });
    const answer = await clients().orders.placeOrder({ shopId, holdId: "guest", userId: "ann" });
    expect(answer.order).toMatchObject({ userId: "ann", amountMinor: 100n });
    await clients().inventory.holdStock({ shopId, holdId: "anns", userId: "ann", lines: [line("a", 1)] });
    const theft = { shopId, holdId: "anns", userId: "bob", paymentMethod: PaymentMethod.NONE };
    await expectRefusal(clients(), shopId, () => clients().orders.placeOrder(theft), {
      code: Code.NotFound,
      reason: "HOLD_NOT_FOUND",
    });
  });

  test("max_per_user counts held and sold units once, and gives released ones back", async () => {
    const shopId = await createShop(clients(), content);
    await clients().inventory.putProduct({ shopId, sku: "a", maxPerUser: 3 });
    const order = { shopId, userId: "ann", paymentMethod: PaymentMethod.NONE };
    await clients().inventory.holdStock({ shopId, holdId: "h1", userId: "ann", lines: [line("a", 2)] });
    await clients().orders.placeOrder({ ...order, holdId: "h1" });
    await clients().inventory.holdStock({ shopId, holdId: "h2", userId: "ann", lines: [line("a", 1)] });
    const one = () => clients().orders.placeOrder({ ...order, lines: [line("a", 1)] });
    const expected = {
      code: Code.FailedPrecondition,
      reason: "PER_USER_LIMIT",
      metadata: expect.objectContaining({ sku: "a", limit: "3", had_count: "3", requested_count: "1" }),
      violations: ["PER_USER_LIMIT sku:a"],
    };
    await expectRefusal(clients(), shopId, one, expected);
    await clients().inventory.releaseHold({ shopId, holdId: "h2" });
    await one();
    await expectRefusal(clients(), shopId, one, expected);
  });

  const wallet = { userId: "ann" };
  const none = { paymentMethod: PaymentMethod.NONE };
  test.each<[string, object, Code, string, object, string[] | undefined]>([
    [
      "an unknown product",
      { ...wallet, lines: [line("x", 1)] },
      Code.NotFound,
      "PRODUCT_NOT_FOUND",
      { sku: "x" },
      ["PRODUCT_NOT_FOUND sku:x"],
    ],
    [
      "an unknown user",
      { userId: "eve", lines: [line("a", 1)] },
      Code.NotFound,
      "USER_NOT_FOUND",
      { user_id: "eve" },
      undefined,
    ],
    ["a guest with a wallet", { lines: [line("a", 1)] }, Code.NotFound, "USER_NOT_FOUND", { user_id: "" }, undefined],
    [
      "another price",
      { ...wallet, lines: [{ ...line("a", 1), expectedPriceMinor: 1n }] },
      Code.FailedPrecondition,
      "PRICE_CHANGED",
      { sku: "a", expected_minor: "1", price_minor: "100" },
      ["PRICE_CHANGED sku:a"],
    ],
    [
      "more than there is, before looking at the money",
      { ...wallet, lines: [line("a", 11)] },
      Code.FailedPrecondition,
      "SOLD_OUT",
      { sku: "a", requested_count: "11", available_count: "10", held_count: "0" },
      ["SOLD_OUT sku:a"],
    ],
    [
      "two lines of one SKU that only fit alone",
      { ...none, lines: [line("b", 3), line("b", 3)] },
      Code.FailedPrecondition,
      "SOLD_OUT",
      { sku: "b", requested_count: "6", available_count: "5" },
      ["SOLD_OUT sku:b"],
    ],
    [
      "every SKU that fails",
      { ...none, lines: [line("b", 6), line("a", 11), line("b", 1)] },
      Code.FailedPrecondition,
      "SOLD_OUT",
      { sku: "b", requested_count: "7" },
      ["SOLD_OUT sku:b", "SOLD_OUT sku:a"],
    ],
    [
      "more than the wallet has",
      { ...wallet, lines: [line("a", 10), line("b", 1)] },
      Code.FailedPrecondition,
      "INSUFFICIENT_FUNDS",
      { required_minor: "1100", balance_minor: "1000" },
      undefined,
    ],
  ])("PlaceOrder refuses %s", async (_, fields, code, reason, metadata, violations) => {
    const shopId = await createShop(clients(), content);
    await expectRefusal(clients(), shopId, () => clients().orders.placeOrder({ shopId, ...fields }), {
      code,
      reason,
      metadata: expect.objectContaining(metadata),
      violations,
      retryMs: undefined,
    });
  });

  test.each([
    ["the next hold's end", 30_000, 30_000],
    ["a second at least", 300, 1000],
    ["a minute at most", 300_000, 60_000],
  ])("HELD_OUT says to come back after %s", async (_, holdMs, retryMs) => {
    const shopId = await createShop(clients(), content);
    const holdDuration = { seconds: BigInt(Math.floor(holdMs / 1000)), nanos: (holdMs % 1000) * 1_000_000 };
    await clients().inventory.holdStock({ shopId, lines: [line("a", 4)], holdDuration });
    const call = () => clients().orders.placeOrder({ shopId, ...none, lines: [line("a", 10)] });
    await expectRefusal(clients(), shopId, call, {
      code: Code.FailedPrecondition,
      reason: "HELD_OUT",
      metadata: expect.objectContaining({ sku: "a", requested_count: "10", available_count: "6", held_count: "4" }),
      violations: ["HELD_OUT sku:a"],
      retryMs,
    });
  });

  test("PlaceOrder refuses sums past 2^53-1, and takes the largest one below", async () => {
    const shopId = await createShop(clients(), { stock: { a: 0 } });
    const most = 9_007_199_254_740_991n;
    await clients().inventory.adjustStock({ shopId, sku: "a", deltaCount: 10_000_000n, reason: 1 });
    await clients().inventory.putProduct({ shopId, sku: "a", priceMinor: most });
    const order = (quantity: number) => clients().orders.placeOrder({ shopId, ...none, lines: [line("a", quantity)] });
    const expected = { code: Code.OutOfRange, reason: "BALANCE_LIMIT" };
    await expectRefusal(clients(), shopId, () => order(2), expected);
    await expectRefusal(clients(), shopId, () => order(1_000_000), expected);
    const { order: placed } = await order(1);
    expect(placed?.amountMinor).toBe(most);
    expect((await clients().orders.getOrder({ shopId, orderId: placed?.orderId ?? "" })).order).toEqual(placed);
  });

  test("PlaceOrder sells a hundred lines of one SKU, with a million units each", async () => {
    const shopId = await createShop(clients(), { stock: { a: 100_000_000 } });
    await clients().inventory.putProduct({ shopId, sku: "a", priceMinor: 90_071_992n });
    const lines = Array.from({ length: 100 }, () => line("a", 1_000_000));
    const { order, stocks } = await clients().orders.placeOrder({ shopId, ...none, lines });
    expect(order).toMatchObject({ itemCount: 100_000_000n, amountMinor: 9_007_199_200_000_000n });
    expect(stocks).toMatchObject([{ availableCount: 0n, soldCount: 100_000_000n }]);
    expect(order?.lines).toHaveLength(100);
  });

  test("PlaceOrder refuses an id that another body used, and repeats an equal one", async () => {
    const shopId = await createShop(clients(), content);
    const request = { shopId, orderId: "o1", ...none, lines: [line("a", 1), line("b", 1)] };
    const first = await clients().orders.placeOrder(request);
    const again = await clients().orders.placeOrder(request);
    expect(again).toEqual({ ...first, commit: { ...first.commit, replayed: true } });
    const other = { ...request, lines: [line("a", 1), line("b", 2)] };
    await expectRefusal(clients(), shopId, () => clients().orders.placeOrder(other), {
      code: Code.AlreadyExists,
      reason: "ORDER_EXISTS",
      message: 'order "o1" exists with another "lines[1].quantity"',
      metadata: expect.objectContaining({ order_id: "o1", field: "lines[1].quantity" }),
    });
  });

  test("GetOrder refuses an unknown order", async () => {
    const shopId = await createShop(clients());
    await expectRefusal(clients(), shopId, () => clients().orders.getOrder({ shopId, orderId: "none" }), {
      code: Code.NotFound,
      reason: "ORDER_NOT_FOUND",
      metadata: expect.objectContaining({ order_id: "none" }),
    });
  });
});
