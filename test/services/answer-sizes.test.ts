import { describe, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import type { Clients } from "../helpers/holdfast.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** Small enough that a few dozen carts are more than one answer may have. */
const maxBytes = 65_536;
const holdfast = useHoldfast({ settings: { HOLDFAST_MAX_RESPONSE_BYTES: String(maxBytes) } });

const longText = "\u{1F4E6}".repeat(256);
const skus = Array.from({ length: 30 }, (_, index) => `${index}`.padStart(64, "x"));
const lines = skus.map((sku) => ({ sku, quantity: 1 }));
const ids = (kind: string, count: number): string[] => Array.from({ length: count }, (_, index) => `${kind}-${index}`);

/** One after the other, so that they are listed in this order. */
async function inOrder(each: readonly string[], make: (id: string) => Promise<unknown>): Promise<void> {
  for (const id of each) await make(id);
}

/** All pages of a list, and how many it took. */
async function allPages<Item>(
  read: (pageToken: string) => Promise<{ readonly items: readonly Item[]; readonly nextPageToken: string }>,
): Promise<{ readonly items: Item[]; readonly pageCount: number }> {
  const items: Item[] = [];
  let [pageToken, pageCount] = ["", 0];
  do {
    const page = await read(pageToken);
    expect(page.items.length).toBeGreaterThan(0);
    items.push(...page.items);
    pageToken = page.nextPageToken;
    pageCount += 1;
  } while (pageToken !== "");
  return { items, pageCount };
}

describe.each(["grpc", "http"] as const)("What is too much for one answer, on the %s door,", (door) => {
  const clients = (): Clients => holdfast[door];
  const pageSize = 1000;

  test("comes in pages of fewer rows", async () => {
    const [orderIds, holdIds, userIds] = [ids("o", 40), ids("h", 40), ids("u", 60)];
    const shopId = await createShop(clients(), { stock: Object.fromEntries(skus.map((sku) => [sku, 100])) });
    await inOrder(userIds, (userId) =>
      clients().users.createUser({ shopId, userId, email: `${userId}${longText.slice(20)}`, displayName: longText }),
    );
    await inOrder(ids("deposit", 200), () =>
      clients().users.depositFunds({ shopId, userId: "u-0", amountMinor: 1n, reference: longText }),
    );
    await inOrder(orderIds, (orderId) =>
      clients().orders.placeOrder({ shopId, orderId, paymentMethod: PaymentMethod.NONE, lines }),
    );
    await inOrder(holdIds, (holdId) => clients().inventory.holdStock({ shopId, holdId, lines }));

    const orders = await allPages(async (pageToken) => {
      const page = await clients().orders.listOrders({ shopId, pageSize, pageToken });
      return { ...page, items: page.orders.map(({ orderId }) => orderId) };
    });
    expect(orders.items).toEqual(orderIds.toReversed());
    expect(orders.pageCount).toBeGreaterThan(1);
    const holds = await allPages(async (pageToken) => {
      const page = await clients().inventory.listHolds({ shopId, pageSize, pageToken });
      return { ...page, items: page.holds.map(({ holdId }) => holdId) };
    });
    expect(holds.items).toEqual(holdIds.toReversed());
    const users = await allPages(async (pageToken) => {
      const page = await clients().users.listUsers({ shopId, pageSize, pageToken });
      return { ...page, items: page.users.map(({ userId }) => userId) };
    });
    expect(users.items).toEqual(userIds.toReversed());
    const entries = await allPages(async (pageToken) => {
      const page = await clients().users.listWalletEntries({ shopId, userId: "u-0", pageSize, pageToken });
      return { ...page, items: page.entries.map(({ balanceAfter }) => balanceAfter) };
    });
    expect(entries.items).toEqual([...Array.from({ length: 200 }, (_, index) => BigInt(200 - index)), 100n]);
  });

  test("comes as whole commits in fewer events", async () => {
    const orderIds = ids("o", 40);
    const shopId = await createShop(clients(), { stock: Object.fromEntries(skus.map((sku) => [sku, 100])) });
    const watching = new AbortController();
    const start = { case: "fromNow", value: true } as const;
    const watcher = clients()
      .events.watchEvents({ shopId, start }, { signal: watching.signal })
      [Symbol.asyncIterator]();
    // From here on the server keeps what becomes durable for its watchers.
    const { value: first } = await watcher.next();
    const head = first?.message.case === "caughtUp" ? first.message.value.position : 0n;
    await inOrder(orderIds, (orderId) =>
      clients().orders.placeOrder({ shopId, orderId, paymentMethod: PaymentMethod.NONE, lines }),
    );

    let afterPosition = head;
    const listed: string[] = [];
    for (;;) {
      const page = await clients().events.listEvents({ shopId, pageSize, afterPosition });
      if (page.events.length === 0) break;
      listed.push(...page.events.map(({ subjects: [subject = ""] }) => subject));
      afterPosition = page.nextAfterPosition;
    }
    expect(listed).toEqual(orderIds.map((id) => `order:${id}`));

    for (const from of [0n, head]) {
      const watched: bigint[] = [];
      const request = { shopId, start: { case: "afterPosition", value: from } as const, maxCommitsPerMessage: 1000 };
      for await (const { message } of clients().events.watchEvents(request)) {
        if (message.case === "batches") watched.push(...message.value.batches.map(({ position }) => position));
        if (message.case === "caughtUp") break;
      }
      const count = Number(head - from) + orderIds.length;
      expect(watched).toEqual(Array.from({ length: count }, (_, index) => from + BigInt(index + 1)));
    }
    watching.abort();
    await watcher.next().catch(() => {});
  });
});
