import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import type { Event } from "../../gen/holdfast/v1/event_service_pb.js";
import { AdjustReason, HoldState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import type { Clients } from "../helpers/holdfast.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** The shops' clock stands still until a test moves it on; it is ahead of the real one, which CreateShop reads. */
const clock = { nowMs: Date.now() + 3_600_000 };
const holdfast = useHoldfast({ clock: () => clock.nowMs });

describe.each(["grpc", "http"] as const)("ListEvents on the %s door", (door) => {
  const clients = () => holdfast[door];

  test("shows what each RPC answered, under the same names", async () => {
    const { inventory, orders, users, events } = clients();
    const shopId = await createShop(clients());
    const put = await inventory.putProduct({ shopId, sku: "a", title: "A", priceMinor: 5n });
    const adjusted = await inventory.adjustStock({
      shopId,
      sku: "a",
      deltaCount: 9n,
      reason: AdjustReason.RETURN,
      reference: "n",
    });
    const created = await users.createUser({ shopId, userId: "ann" });
    const deposited = await users.depositFunds({ shopId, userId: "ann", amountMinor: 50n, reference: "d" });
    const lines = [{ sku: "a", quantity: 2 }];
    const held = await inventory.holdStock({ shopId, holdId: "h1", userId: "ann", lines });
    const extended = await inventory.extendHold({ shopId, holdId: "h1", holdDuration: { seconds: 900n } });
    const fromHold = await orders.placeOrder({ shopId, orderId: "o1", holdId: "h1" });
    await inventory.holdStock({ shopId, holdId: "h2", lines });
    const released = await inventory.releaseHold({ shopId, holdId: "h2" });
    await inventory.holdStock({ shopId, holdId: "h3", lines, holdDuration: { seconds: 1n } });
    clock.nowMs += 1000;
    const { stock } = await inventory.getStock({ shopId, sku: "a" });
    const guest = await orders.placeOrder({ shopId, orderId: "o2", lines, paymentMethod: PaymentMethod.NONE });

    const { events: found, nextAfterPosition } = await events.listEvents({ shopId });
    const byName = (name: string): Event["payload"]["value"][] =>
      found.filter((event) => event.payload.case === name).map((event) => event.payload.value);
    expect(found.map(({ position, index, payload }) => `${position}.${index} ${payload.case}`)).toEqual([
      "1.0 shopCreated",
      "2.0 productPut",
      "3.0 stockAdjusted",
      "4.0 userCreated",
      "5.0 fundsDeposited",
      "6.0 stockHeld",
      "7.0 holdExtended",
      "8.0 holdCommitted",
      "8.1 orderPlaced",
      "9.0 stockHeld",
      "10.0 holdReleased",
      "11.0 stockHeld",
      "12.0 holdExpired",
      "13.0 orderPlaced",
    ]);
    expect(nextAfterPosition).toBe(13n);
    expect(byName("productPut")).toMatchObject([{ product: put.product }]);
    expect(byName("stockAdjusted")).toMatchObject([
      { stock: adjusted.stock, deltaCount: 9n, reason: AdjustReason.RETURN, reference: "n" },
    ]);
    expect(byName("userCreated")).toMatchObject([{ user: created.user }]);
    expect(byName("fundsDeposited")).toMatchObject([{ user: deposited.user, amountMinor: 50n, reference: "d" }]);
    expect(byName("stockHeld")[0]).toMatchObject({ hold: held.hold, stocks: held.stocks });
    expect(byName("holdExtended")).toMatchObject([{ hold: extended.hold }]);
    expect(byName("holdCommitted")).toMatchObject([
      { hold: { ...extended.hold, state: HoldState.COMMITTED, orderId: "o1", position: 8n } },
    ]);
    const { order, stocks, balanceMinor } = fromHold;
    expect(byName("orderPlaced")[0]).toMatchObject({ order, stocks, balanceMinor });
    expect(byName("orderPlaced")[1]).toMatchObject({ order: guest.order, stocks: guest.stocks });
    expect(byName("orderPlaced")[1]).not.toHaveProperty("balanceMinor");
    expect(byName("holdReleased")).toMatchObject([{ hold: released.hold, stocks: released.stocks }]);
    expect(byName("holdExpired")).toMatchObject([
      { hold: { holdId: "h3", state: HoldState.EXPIRED, expireTime: timestampFromMs(clock.nowMs) }, stocks: [stock] },
    ]);
    const subjects = Object.fromEntries(found.map((event) => [`${event.position}.${event.index}`, event.subjects]));
    expect(subjects).toMatchObject({
      "2.0": ["sku:a"],
      "3.0": ["sku:a"],
      "4.0": ["user:ann"],
      "6.0": ["hold:h1", "user:ann", "sku:a"],
      "8.0": ["hold:h1", "order:o1", "user:ann", "sku:a"],
      "8.1": ["order:o1", "hold:h1", "user:ann", "sku:a"],
      "13.0": ["order:o2", "sku:a"],
    });
  });

  describe("with filters and pages", () => {
    const sell = async (): Promise<string> => {
      const shopId = await createShop(clients(), { stock: { a: 10, b: 10 } });
      for (const [index, sku] of ["a", "b", "a", "b"].entries()) {
        const lines = [{ sku, quantity: 1 }];
        await clients().inventory.holdStock({ shopId, holdId: `h${index}`, lines });
        await clients().orders.placeOrder({
          shopId,
          orderId: `o${index}`,
          holdId: `h${index}`,
          paymentMethod: PaymentMethod.NONE,
        });
      }
      return shopId;
    };
    const list = async (request: Parameters<Clients["events"]["listEvents"]>[0]) => {
      const page = await clients().events.listEvents(request);
      return {
        events: page.events.map(({ position, index, payload }) => `${position}.${index} ${payload.case}`),
        next: page.nextAfterPosition,
      };
    };

    test("never splits a commit", async () => {
      const shopId = await sell();
      expect(await list({ shopId, afterPosition: 5n, pageSize: 2 })).toEqual({
        events: ["6.0 stockHeld", "7.0 holdCommitted", "7.1 orderPlaced"],
        next: 7n,
      });
    });

    test("goes backwards from the newest, with the order within a commit kept", async () => {
      const shopId = await sell();
      expect(await list({ shopId, newestFirst: true, pageSize: 3 })).toEqual({
        events: ["13.0 holdCommitted", "13.1 orderPlaced", "12.0 stockHeld"],
        next: 12n,
      });
      expect(await list({ shopId, newestFirst: true, afterPosition: 3n, pageSize: 10 })).toMatchObject({
        events: [expect.stringMatching("^2.0"), "1.0 shopCreated"],
        next: 1n,
      });
    });

    test("filters by type and by subject, and says how far it looked", async () => {
      const shopId = await sell();
      expect(await list({ shopId, eventTypes: ["order_placed"], subjects: ["sku:b"] })).toEqual({
        events: ["9.1 orderPlaced", "13.1 orderPlaced"],
        next: 13n,
      });
      expect(await list({ shopId, subjects: ["order:o0", "hold:h3"] })).toEqual({
        events: ["7.0 holdCommitted", "7.1 orderPlaced", "12.0 stockHeld", "13.0 holdCommitted", "13.1 orderPlaced"],
        next: 13n,
      });
      expect(await list({ shopId, eventTypes: ["user_created"] })).toEqual({ events: [], next: 13n });
    });

    test("says where it was when there is nothing after it", async () => {
      const shopId = await sell();
      expect(await list({ shopId, afterPosition: 13n })).toEqual({ events: [], next: 13n });
    });

    test("refuses a position beyond the durable head, except backwards", async () => {
      const shopId = await sell();
      for (const afterPosition of [14n, 99n]) {
        expect(await refusalOf(list({ shopId, afterPosition }))).toMatchObject({
          code: Code.OutOfRange,
          reason: "POSITION_AHEAD",
          metadata: { position: "13", epoch: expect.any(String) },
        });
        const backwards = await list({ shopId, afterPosition, newestFirst: true, pageSize: 1 });
        expect(backwards).toMatchObject({ next: 13n });
      }
    });
  });
});
