import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { AdjustReason, HoldState, PaymentMethod, type Product } from "../../gen/holdfast/v1/resources_pb.js";
import { expectRefusal } from "../helpers/refusals.ts";
import { createShop, createUser, stockProduct } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** The shops' clock stands still until a test moves it on; it is ahead of the real one, which CreateShop reads. */
const clock = { nowMs: Date.now() + 3_600_000 };
const holdfast = useHoldfast({ clock: () => clock.nowMs });

const seconds = (count: number) => ({ seconds: BigInt(count) });

describe.each(["grpc", "http"] as const)("InventoryService on the %s door", (door) => {
  const clients = () => holdfast[door];

  describe("PutProduct", () => {
    test("creates a product without stock", async () => {
      const shopId = await createShop(clients());
      const startTime = timestampFromMs(clock.nowMs - 1);
      const endTime = timestampFromMs(clock.nowMs + 86_400_001);
      const { product, commit } = await clients().inventory.putProduct({
        shopId,
        requestId: "put-1",
        sku: "ps5",
        title: 'PS "5" \\ é 😀 %s\u2028',
        priceMinor: 49_999n,
        maxPerUser: 2,
        saleStartTime: startTime,
        saleEndTime: endTime,
        withdrawn: false,
      });
      const now = timestampFromMs(clock.nowMs);
      expect(product).toMatchObject({
        sku: "ps5",
        title: 'PS "5" \\ é 😀 %s\u2028',
        priceMinor: 49_999n,
        maxPerUser: 2,
        saleStartTime: startTime,
        saleEndTime: endTime,
        withdrawn: false,
        createTime: now,
        updateTime: now,
        position: 2n,
      });
      expect(commit).toMatchObject({
        position: 2n,
        epoch: 1n,
        commitId: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
        commitTime: now,
        requestId: "put-1",
        replayed: false,
        durable: true,
      });
      const found = await clients().inventory.getProduct({ shopId, sku: "ps5" });
      expect(found).toMatchObject({ product, asOf: { position: 2n, epoch: 1n } });
      const { stock } = await clients().inventory.getStock({ shopId, sku: "ps5" });
      expect(stock).toMatchObject({ availableCount: 0n, heldCount: 0n, soldCount: 0n, priceMinor: 49_999n });
    });

    test("leaves what is absent as it is, and takes the title over", async () => {
      const shopId = await createShop(clients());
      const saleStartTime = timestampFromMs(clock.nowMs - 5000);
      const { product: before } = await clients().inventory.putProduct({
        shopId,
        sku: "a",
        title: "first",
        priceMinor: 7n,
        maxPerUser: 3,
        saleStartTime,
        withdrawn: true,
      });
      clock.nowMs += 1000;
      const { product } = await clients().inventory.putProduct({ shopId, sku: "a", title: "second" });
      expect(product).toEqual({
        ...before,
        title: "second",
        updateTime: timestampFromMs(clock.nowMs),
        position: 3n,
      });
    });

    test("takes bounds of a sale away with 1970-01-01", async () => {
      const shopId = await createShop(clients());
      const [saleStartTime, saleEndTime] = [clock.nowMs + 1000, clock.nowMs + 2000].map(timestampFromMs) as never[];
      const put = (bounds: object) => clients().inventory.putProduct({ shopId, sku: "a", priceMinor: 1n, ...bounds });
      await put({ saleStartTime, saleEndTime });
      const { product } = await put({ saleStartTime: timestampFromMs(0), saleEndTime: timestampFromMs(0) });
      expect([product?.saleStartTime, product?.saleEndTime]).toEqual([undefined, undefined]);
      expect((await clients().inventory.getProduct({ shopId, sku: "a" })).product).toEqual(product);
    });

    test("keeps times to the millisecond, to the end of the year 9999", async () => {
      const shopId = await createShop(clients());
      for (const ms of [1, clock.nowMs + 1, 9_000_000_000_001, 253_402_300_798_999]) {
        const times = { saleEndTime: timestampFromMs(ms) };
        const { product } = await clients().inventory.putProduct({ shopId, sku: "a", priceMinor: 1n, ...times });
        expect(product?.saleEndTime).toEqual(times.saleEndTime);
        const found = await clients().inventory.getProduct({ shopId, sku: "a" });
        expect(found.product, `${ms} ms read back`).toEqual(product);
      }
    });

    test.each([
      ["a new product without a price", {}, ["price_minor"]],
      ["a sale that ends when it starts", { priceMinor: 1n, saleStartTime: seconds(9), saleEndTime: seconds(9) }, [""]],
    ])("refuses %s", async (_, fields, expectedFields) => {
      const shopId = await createShop(clients());
      await expectRefusal(clients(), shopId, () => clients().inventory.putProduct({ shopId, sku: "a", ...fields }), {
        code: Code.InvalidArgument,
        reason: "VALIDATION_FAILED",
        fields: expectedFields,
      });
    });

    test("refuses an end before the start that was given earlier", async () => {
      const shopId = await createShop(clients());
      await clients().inventory.putProduct({ shopId, sku: "a", priceMinor: 1n, saleStartTime: seconds(99) });
      const call = () => clients().inventory.putProduct({ shopId, sku: "a", saleEndTime: seconds(98) });
      await expectRefusal(clients(), shopId, call, {
        code: Code.InvalidArgument,
        reason: "VALIDATION_FAILED",
        fields: ["sale_end_time"],
      });
    });

    test("counts what users had before a product's first limit", async () => {
      const shopId = await createShop(clients(), { stock: { a: 100 }, users: { ann: 10_000, bob: 0 } });
      const lines = (quantity: number) => [{ sku: "a", quantity }];
      const order = { shopId, userId: "ann", paymentMethod: PaymentMethod.NONE };
      await clients().orders.placeOrder({ ...order, lines: lines(2) });
      await clients().inventory.holdStock({ shopId, userId: "ann", holdId: "h1", lines: lines(3) });
      await clients().inventory.holdStock({ shopId, userId: "ann", holdId: "h2", lines: lines(4) });
      await clients().inventory.releaseHold({ shopId, holdId: "h2" });
      await clients().orders.placeOrder({ ...order, holdId: "h1" });
      await clients().inventory.putProduct({ shopId, sku: "a", title: "", maxPerUser: 6 });
      await expectRefusal(clients(), shopId, () => clients().orders.placeOrder({ ...order, lines: lines(2) }), {
        reason: "PER_USER_LIMIT",
        metadata: expect.objectContaining({ sku: "a", limit: "6", had_count: "5", requested_count: "2" }),
      });
      await clients().orders.placeOrder({ ...order, lines: lines(1) });
      await clients().orders.placeOrder({ ...order, userId: "bob", lines: lines(6) });
    });
  });

  describe("GetProduct and ListProducts", () => {
    test("pages by SKU in byte order, and reads what was put", async () => {
      const shopId = await createShop(clients());
      const skus = ["B", "a", "a-1", "a.b", "b", "_"];
      const put = new Map<string, Product | undefined>();
      for (const sku of skus) {
        const { product } = await clients().inventory.putProduct({ shopId, sku, title: sku, priceMinor: 5n });
        put.set(sku, product);
      }
      const found: Product[] = [];
      let pageToken = "";
      do {
        const page = await clients().inventory.listProducts({ shopId, pageSize: 2, pageToken });
        expect(page.products.length).toBeLessThanOrEqual(2);
        found.push(...page.products);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      expect(found.map(({ sku }) => sku)).toEqual([...skus].sort());
      for (const product of found) expect(product).toEqual(put.get(product.sku));
    });

    test("refuses an unknown product", async () => {
      const shopId = await createShop(clients());
      await expectRefusal(clients(), shopId, () => clients().inventory.getProduct({ shopId, sku: "none" }), {
        code: Code.NotFound,
        reason: "PRODUCT_NOT_FOUND",
        metadata: expect.objectContaining({ sku: "none" }),
      });
    });

    test("refuses a page token that is forged, of another list or of another shop", async () => {
      const shopId = await createShop(clients(), { stock: { a: 1, b: 1, c: 1 } });
      const { nextPageToken } = await clients().inventory.listProducts({ shopId, pageSize: 1 });
      const expected = { code: Code.InvalidArgument, reason: "VALIDATION_FAILED", fields: ["page_token"] };
      const refuse = (call: () => Promise<unknown>) => expectRefusal(clients(), shopId, call, expected);
      const other = await createShop(clients());
      await refuse(() => clients().inventory.listProducts({ shopId: other, pageToken: nextPageToken }));
      await refuse(() => clients().inventory.listHolds({ shopId, pageToken: nextPageToken }));
      await refuse(() => clients().inventory.listProducts({ shopId, pageToken: `A${nextPageToken}` }));
      await refuse(() => clients().inventory.listProducts({ shopId, pageToken: "x" }));
    });
  });

  describe("AdjustStock", () => {
    test("adds and takes away", async () => {
      const shopId = await createShop(clients(), { stock: { a: 10 } });
      const adjust = { shopId, sku: "a", reason: AdjustReason.DAMAGE, reference: 'note "7"' };
      const { stock, commit } = await clients().inventory.adjustStock({ ...adjust, deltaCount: -4n });
      expect(stock).toMatchObject({ sku: "a", availableCount: 6n, heldCount: 0n, soldCount: 0n, priceMinor: 100n });
      expect(commit).toMatchObject({ position: 4n, replayed: false });
      const expected = { expectedAvailableCount: 6n };
      expect((await clients().inventory.adjustStock({ ...adjust, ...expected, deltaCount: 1n })).stock).toMatchObject({
        availableCount: 7n,
      });
    });

    test("takes exactly as many units as a safe integer counts", async () => {
      const shopId = await createShop(clients(), { stock: { a: 1 } });
      const most = 9_007_199_254_740_991n;
      const adjust = { shopId, sku: "a", reason: AdjustReason.RESTOCK };
      const { stock } = await clients().inventory.adjustStock({ ...adjust, deltaCount: most - 1n });
      expect(stock?.availableCount).toBe(most);
      await expectRefusal(clients(), shopId, () => clients().inventory.adjustStock({ ...adjust, deltaCount: 1n }), {
        code: Code.OutOfRange,
        reason: "BALANCE_LIMIT",
      });
      expect((await clients().inventory.getStock({ shopId, sku: "a" })).stock?.availableCount).toBe(most);
      const after = await clients().inventory.adjustStock({ ...adjust, deltaCount: -most });
      expect(after.stock?.availableCount).toBe(0n);
    });

    test.each([
      ["an unknown product", { sku: "none", deltaCount: 1n }, Code.NotFound, "PRODUCT_NOT_FOUND", { sku: "none" }],
      [
        "another count than expected, before anything else",
        { deltaCount: -99n, expectedAvailableCount: 4n },
        Code.Aborted,
        "STOCK_CHANGED",
        { sku: "a", expected_available_count: "4", available_count: "3" },
      ],
      [
        "to take what exists only as held",
        { deltaCount: -4n },
        Code.FailedPrecondition,
        "HELD_OUT",
        { sku: "a", requested_count: "4", available_count: "3", held_count: "2", delta_count: "-4" },
        '"a" has 3 available and 2 held, 4 cannot be taken away',
      ],
      [
        "to take more than there is",
        { deltaCount: -6n },
        Code.FailedPrecondition,
        "SOLD_OUT",
        { sku: "a", requested_count: "6", available_count: "3", held_count: "2", delta_count: "-6" },
        '"a" has 3 available, 6 cannot be taken away',
      ],
    ])("refuses %s", async (_, fields, code, reason, metadata, message?: string) => {
      const shopId = await createShop(clients(), { stock: { a: 5 } });
      await clients().inventory.holdStock({ shopId, lines: [{ sku: "a", quantity: 2 }] });
      const adjust = { shopId, sku: "a", reason: AdjustReason.CORRECTION, ...fields };
      await expectRefusal(clients(), shopId, () => clients().inventory.adjustStock(adjust), {
        code,
        reason,
        metadata: expect.objectContaining(metadata),
        ...(message !== undefined && { message }),
        ...(reason === "HELD_OUT" ? { retryMs: expect.any(Number) } : { retryMs: undefined }),
      });
    });
  });

  describe("GetStock and BatchGetStock", () => {
    test("answers in the order of the request, at one point of the log", async () => {
      const shopId = await createShop(clients(), { stock: { a: 1, b: 2 } });
      const { stocks, asOf } = await clients().inventory.batchGetStock({ shopId, skus: ["b", "a", "b"] });
      expect(stocks.map(({ sku, availableCount }) => [sku, availableCount])).toEqual([
        ["b", 2n],
        ["a", 1n],
        ["b", 2n],
      ]);
      expect(asOf).toMatchObject({ position: 5n, epoch: 1n });
      expect(await clients().inventory.getStock({ shopId, sku: "a" })).toMatchObject({ stock: stocks[1], asOf });
    });

    test("refuses an unknown product", async () => {
      const shopId = await createShop(clients(), { stock: { a: 1 } });
      const expected = {
        code: Code.NotFound,
        reason: "PRODUCT_NOT_FOUND",
        metadata: expect.objectContaining({ sku: "none" }),
      };
      const { inventory } = clients();
      await expectRefusal(clients(), shopId, () => inventory.getStock({ shopId, sku: "none" }), expected);
      await expectRefusal(clients(), shopId, () => inventory.batchGetStock({ shopId, skus: ["a", "none"] }), expected);
    });
  });

  describe("HoldStock", () => {
    test("sets the units of all lines aside, at the prices of the moment", async () => {
      const shopId = await createShop(clients(), { stock: { a: 10, b: 5 }, users: { ann: 0 } });
      const lines = [
        { sku: "a", quantity: 2 },
        { sku: "b", quantity: 1, expectedPriceMinor: 100n },
        { sku: "a", quantity: 3 },
      ];
      const request = { shopId, holdId: "h1", userId: "ann", lines, holdDuration: seconds(60) };
      const { hold, stocks, commit } = await clients().inventory.holdStock(request);
      expect(hold).toMatchObject({
        holdId: "h1",
        userId: "ann",
        lines: [
          { sku: "a", quantity: 2, priceMinor: 100n },
          { sku: "b", quantity: 1, priceMinor: 100n },
          { sku: "a", quantity: 3, priceMinor: 100n },
        ],
        state: HoldState.ACTIVE,
        createTime: timestampFromMs(clock.nowMs),
        expireTime: timestampFromMs(clock.nowMs + 60_000),
        orderId: "",
        position: commit?.position,
      });
      expect(stocks).toMatchObject([
        { sku: "a", availableCount: 5n, heldCount: 5n, soldCount: 0n },
        { sku: "b", availableCount: 4n, heldCount: 1n, soldCount: 0n },
      ]);
      const found = await clients().inventory.getHold({ shopId, holdId: "h1" });
      expect(found).toMatchObject({ hold, asOf: { position: commit?.position, epoch: 1n } });
    });

    test("makes an id, serves guests, and holds for 600 s when nothing else is said", async () => {
      const shopId = await createShop(clients(), { stock: { a: 1 } });
      const { hold } = await clients().inventory.holdStock({ shopId, lines: [{ sku: "a", quantity: 1 }] });
      expect(hold).toMatchObject({ holdId: expect.stringMatching(/^[0-9a-f-]{36}$/), userId: "" });
      expect(hold?.expireTime).toEqual(timestampFromMs(clock.nowMs + 600_000));
    });

    const line = { sku: "a", quantity: 1 };
    test.each<[string, object, Code, string, object, string[] | undefined]>([
      [
        "an unknown product",
        { lines: [line, { sku: "none", quantity: 1 }] },
        Code.NotFound,
        "PRODUCT_NOT_FOUND",
        { sku: "none" },
        ["PRODUCT_NOT_FOUND sku:none"],
      ],
      ["an unknown user", { userId: "nobody", lines: [line] }, Code.NotFound, "USER_NOT_FOUND", {}, undefined],
      [
        "a guest, for what has a limit",
        { lines: [{ sku: "lim", quantity: 1 }] },
        Code.NotFound,
        "USER_NOT_FOUND",
        {},
        undefined,
      ],
      [
        "what is withdrawn",
        { lines: [{ sku: "gone", quantity: 1 }] },
        Code.FailedPrecondition,
        "NOT_ON_SALE",
        { sku: "gone" },
        ["NOT_ON_SALE sku:gone"],
      ],
      [
        "another price",
        { lines: [{ ...line, expectedPriceMinor: 99n }] },
        Code.FailedPrecondition,
        "PRICE_CHANGED",
        { sku: "a", expected_minor: "99", price_minor: "100" },
        ["PRICE_CHANGED sku:a"],
      ],
      [
        "more than a user may have",
        {
          userId: "ann",
          lines: [
            { sku: "lim", quantity: 2 },
            { sku: "lim", quantity: 1 },
          ],
        },
        Code.FailedPrecondition,
        "PER_USER_LIMIT",
        { sku: "lim", limit: "2", had_count: "0", requested_count: "3" },
        ["PER_USER_LIMIT sku:lim"],
      ],
      [
        "more than there is, summed over lines",
        {
          lines: [
            { sku: "a", quantity: 6 },
            { sku: "a", quantity: 5 },
          ],
        },
        Code.FailedPrecondition,
        "SOLD_OUT",
        { sku: "a", requested_count: "11", available_count: "10", held_count: "0" },
        ["SOLD_OUT sku:a"],
      ],
      [
        "a cart for every SKU that fails, and is about the first reason in order",
        {
          lines: [
            { sku: "a", quantity: 99 },
            { sku: "gone", quantity: 1 },
            { sku: "b", quantity: 1 },
          ],
        },
        Code.FailedPrecondition,
        "NOT_ON_SALE",
        { sku: "gone" },
        ["SOLD_OUT sku:a", "NOT_ON_SALE sku:gone"],
      ],
    ])("refuses %s", async (_, fields, code, reason, metadata, violations) => {
      const shopId = await createShop(clients(), { stock: { a: 10, b: 1, lim: 9, gone: 9 }, users: { ann: 0 } });
      await clients().inventory.putProduct({ shopId, sku: "lim", maxPerUser: 2 });
      await clients().inventory.putProduct({ shopId, sku: "gone", withdrawn: true });
      await expectRefusal(clients(), shopId, () => clients().inventory.holdStock({ shopId, ...fields }), {
        code,
        reason,
        metadata: expect.objectContaining(metadata),
        violations,
        retryMs: undefined,
      });
    });

    test("says when a sale begins, and sells from then until its end", async () => {
      const shopId = await createShop(clients(), { stock: { a: 9 } });
      const begin = clock.nowMs + 90_000;
      const bounds = { saleStartTime: timestampFromMs(begin), saleEndTime: timestampFromMs(begin + 1000) };
      await clients().inventory.putProduct({ shopId, sku: "a", ...bounds });
      const hold = () => clients().inventory.holdStock({ shopId, lines: [line] });
      const expected = { code: Code.FailedPrecondition, reason: "NOT_ON_SALE", violations: ["NOT_ON_SALE sku:a"] };
      await expectRefusal(clients(), shopId, hold, { ...expected, retryMs: 90_000 });
      clock.nowMs = begin - 1;
      await expectRefusal(clients(), shopId, hold, { ...expected, retryMs: 1 });
      clock.nowMs = begin;
      await hold();
      clock.nowMs = begin + 999;
      await hold();
      clock.nowMs = begin + 1000;
      await expectRefusal(clients(), shopId, hold, { ...expected, retryMs: undefined });
    });

    test.each([
      [{ lines: [{ sku: "a", quantity: 1 }] }, '"a" has 0 available, 1 was asked for'],
      [{ lines: [{ sku: "a", quantity: 2 }] }, '"a" has 0 available, 2 were asked for'],
      [{ lines: [{ sku: "b", quantity: 1 }] }, '"b" has 0 available and 2 held, 1 was asked for'],
      [
        { lines: [line, { sku: "lim", quantity: 1 }] },
        '"lim" has a limit per user: it needs a user, and none was named',
      ],
    ])("says in words what cannot be had: %j", async (fields, message) => {
      const shopId = await createShop(clients(), { stock: { b: 2, lim: 9 } });
      await clients().inventory.putProduct({ shopId, sku: "a", priceMinor: 100n });
      await clients().inventory.putProduct({ shopId, sku: "lim", maxPerUser: 2 });
      await clients().inventory.holdStock({ shopId, lines: [{ sku: "b", quantity: 2 }] });
      const hold = () => clients().inventory.holdStock({ shopId, ...fields });
      await expectRefusal(clients(), shopId, hold, { message });
    });

    test("refuses an id that was used with another body, naming the field", async () => {
      const shopId = await createShop(clients(), { stock: { a: 10 } });
      await clients().inventory.holdStock({ shopId, holdId: "h1", lines: [line] });
      const other = { shopId, holdId: "h1", lines: [{ sku: "a", quantity: 2 }] };
      await expectRefusal(clients(), shopId, () => clients().inventory.holdStock(other), {
        code: Code.AlreadyExists,
        reason: "HOLD_EXISTS",
        message: 'hold "h1" exists with another "lines[0].quantity"',
        metadata: expect.objectContaining({ hold_id: "h1", field: "lines[0].quantity" }),
      });
    });
  });

  describe("ExtendHold", () => {
    test("moves the end to now + duration, never back", async () => {
      const shopId = await createShop(clients(), { stock: { a: 1 } });
      const lines = [{ sku: "a", quantity: 1 }];
      const { hold: made } = await clients().inventory.holdStock({
        shopId,
        holdId: "h",
        lines,
        holdDuration: seconds(60),
      });
      clock.nowMs += 30_000;
      const extend = (count: number) =>
        clients().inventory.extendHold({ shopId, holdId: "h", holdDuration: seconds(count) });
      const shorter = await extend(10);
      expect(shorter.hold).toEqual({ ...made, position: shorter.commit?.position });
      const longer = await extend(60);
      expect(longer.hold?.expireTime).toEqual(timestampFromMs(clock.nowMs + 60_000));
      expect((await clients().inventory.getHold({ shopId, holdId: "h" })).hold).toEqual(longer.hold);
      const { hold } = await clients().inventory.extendHold({ shopId, holdId: "h" });
      expect(hold?.expireTime).toEqual(timestampFromMs(clock.nowMs + 600_000));
    });
  });

  describe("ReleaseHold", () => {
    test("makes the units available again", async () => {
      const shopId = await createShop(clients(), { stock: { a: 5, b: 5 } });
      const lines = [
        { sku: "b", quantity: 2 },
        { sku: "a", quantity: 1 },
        { sku: "b", quantity: 1 },
      ];
      const { hold: made } = await clients().inventory.holdStock({ shopId, holdId: "h", lines });
      const { hold, stocks, commit } = await clients().inventory.releaseHold({ shopId, holdId: "h" });
      expect(hold).toEqual({ ...made, state: HoldState.RELEASED, position: commit?.position });
      expect(stocks).toMatchObject([
        { sku: "b", availableCount: 5n, heldCount: 0n },
        { sku: "a", availableCount: 5n, heldCount: 0n },
      ]);
      expect((await clients().inventory.getHold({ shopId, holdId: "h" })).hold).toEqual(hold);
    });

    test("of a released hold is a replay, without a request id too", async () => {
      const shopId = await createShop(clients(), { stock: { a: 5 } });
      await clients().inventory.holdStock({ shopId, holdId: "h", lines: [{ sku: "a", quantity: 1 }] });
      const first = await clients().inventory.releaseHold({ shopId, holdId: "h" });
      const second = await clients().inventory.releaseHold({ shopId, holdId: "h" });
      expect(second).toEqual({ ...first, commit: { ...first.commit, replayed: true } });
    });
  });

  describe("ended holds", () => {
    const end = {
      HOLD_EXPIRED: async () => {
        clock.nowMs += 600_000;
      },
      HOLD_RELEASED: async (shopId: string) => {
        await clients().inventory.releaseHold({ shopId, holdId: "h" });
      },
      HOLD_COMMITTED: async (shopId: string) => {
        await clients().orders.placeOrder({ shopId, holdId: "h", paymentMethod: PaymentMethod.NONE });
      },
    };

    test.each(Object.entries(end))("are refused for what they are: %s", async (reason, endHold) => {
      const shopId = await createShop(clients(), { stock: { a: 5 } });
      await clients().inventory.holdStock({ shopId, holdId: "h", lines: [{ sku: "a", quantity: 1 }] });
      await endHold(shopId);
      await clients().inventory.getStock({ shopId, sku: "a" });
      const expected = {
        code: Code.FailedPrecondition,
        reason,
        metadata: expect.objectContaining({ hold_id: "h" }),
        violations: undefined,
      };
      const order = { shopId, holdId: "h", paymentMethod: PaymentMethod.NONE };
      await expectRefusal(clients(), shopId, () => clients().inventory.extendHold({ shopId, holdId: "h" }), expected);
      await expectRefusal(clients(), shopId, () => clients().orders.placeOrder(order), expected);
      if (reason !== "HOLD_RELEASED") {
        await expectRefusal(
          clients(),
          shopId,
          () => clients().inventory.releaseHold({ shopId, holdId: "h" }),
          expected,
        );
      }
    });

    test("are unknown when they never were", async () => {
      const shopId = await createShop(clients());
      const hold = { shopId, holdId: "never" };
      for (const call of [
        () => clients().inventory.getHold(hold),
        () => clients().inventory.extendHold(hold),
        () => clients().inventory.releaseHold(hold),
        () => clients().orders.placeOrder({ ...hold, paymentMethod: PaymentMethod.NONE }),
      ]) {
        await expectRefusal(clients(), shopId, call, {
          code: Code.NotFound,
          reason: "HOLD_NOT_FOUND",
          metadata: expect.objectContaining({ hold_id: "never" }),
        });
      }
    });
  });

  describe("ListHolds", () => {
    test("pages newest first, of one user or of everybody, in every state", async () => {
      const shopId = await createShop(clients());
      await stockProduct(clients(), shopId, "a", 10);
      await createUser(clients(), shopId, "ann", 0);
      for (const [index, userId] of ["ann", "", "ann", "", "ann"].entries()) {
        await clients().inventory.holdStock({
          shopId,
          holdId: `h${index}`,
          userId,
          lines: [{ sku: "a", quantity: 1 }],
        });
      }
      await clients().inventory.releaseHold({ shopId, holdId: "h2" });
      const list = async (userId: string) => {
        const found: string[] = [];
        let pageToken = "";
        do {
          const page = await clients().inventory.listHolds({ shopId, userId, pageSize: 2, pageToken });
          found.push(...page.holds.map(({ holdId, state }) => `${holdId} ${HoldState[state]}`));
          pageToken = page.nextPageToken;
        } while (pageToken !== "");
        return found;
      };
      expect(await list("ann")).toEqual(["h4 ACTIVE", "h2 RELEASED", "h0 ACTIVE"]);
      expect(await list("")).toEqual(["h4 ACTIVE", "h3 ACTIVE", "h2 RELEASED", "h1 ACTIVE", "h0 ACTIVE"]);
    });
  });
});

test("times of commits never go back, also when the clock does", async () => {
  const { grpc } = holdfast;
  const shopId = await createShop(grpc, { stock: { a: 5 } });
  const before = (await grpc.inventory.putProduct({ shopId, sku: "a" })).commit?.commitTime;
  clock.nowMs -= 5000;
  const after = (await grpc.inventory.putProduct({ shopId, sku: "a" })).commit?.commitTime;
  clock.nowMs += 5000;
  expect(after && timestampMs(after)).toBe(before && timestampMs(before));
});

test("a first limit is set also when the shop is rebuilt while what users have had is loaded", async () => {
  const { grpc, server } = holdfast;
  const shopId = await createShop(grpc, { stock: { a: 5 }, users: { ann: 1000 } });
  await grpc.orders.placeOrder({ shopId, userId: "ann", lines: [{ sku: "a", quantity: 2 }] });
  const shop = server.store.shops.get(shopId);
  const loadLimits = shop.loadLimits.bind(shop);
  shop.loadLimits = async (args) => {
    shop.loadLimits = loadLimits;
    const isLoaded = await loadLimits(args);
    await shop.rebuild(() => {});
    return isLoaded;
  };
  const { product } = await grpc.inventory.putProduct({ shopId, sku: "a", maxPerUser: 2 });
  expect(product?.maxPerUser).toBe(2);
  await expectRefusal(
    grpc,
    shopId,
    () => grpc.orders.placeOrder({ shopId, userId: "ann", lines: [{ sku: "a", quantity: 1 }] }),
    { reason: "PER_USER_LIMIT" },
  );
});
