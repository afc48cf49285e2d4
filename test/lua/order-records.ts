import { expect, test } from "vitest";
import { expectNoChange, type GoodCall, type RefusalRow } from "./decision-tables.ts";
import { type Arguments, type LuaShop, readEntries, startMs, threeLinesJson, type useShops } from "./fixture.ts";

/** When the order `o1` of `givenCart` and one more commit is placed, in milliseconds: its eighth position. */
export const placedMs = startMs + 7;

/** The order `o1` of a cart of three lines, paid from the wallet, as it stands in events and in Postgres. */
export const orderJson = (fields: object = {}) => ({
  order_id: "o1",
  user_id: "u1",
  lines: threeLinesJson,
  item_count: 4,
  amount_minor: 400,
  refunded_minor: 0,
  state: 2,
  payment_method: 1,
  hold_id: "",
  create_time: placedMs,
  update_time: placedMs,
  create_position: 8,
  position: 8,
  ...fields,
});

/** What a caller brings of {@link orderJson} from Postgres. */
export const recordOf = (fields: object = {}, as_of_position = 8): Arguments => ({
  as_of_position,
  record: JSON.stringify(orderJson(fields)),
});

/** What a caller brings of an order from Postgres once everything is there. */
export async function readRecord(shop: LuaShop, orderId: string): Promise<Arguments> {
  const entries = await readEntries(shop, 1);
  const orders = entries.flatMap(({ events }) => events.flatMap((event) => Object.values(event)));
  const last = (orders as { order?: { order_id: string } }[]).findLast(({ order }) => order?.order_id === orderId);
  return { as_of_position: entries.at(-1)?.position ?? 0, record: JSON.stringify(last?.order ?? null) };
}

/** What is gone from `orders` when an order no longer waits for its payment. */
export function goneFields(orderId: string): Record<string, null> {
  return Object.fromEntries(
    ["user", "expire", "created", "lines", "terms"].map((attribute) => [`${orderId}:${attribute}`, null]),
  );
}

/** The refusal of an order in a state that does not allow the call. */
export const wrongState = (title: string, state: string, row: Partial<RefusalRow> = {}): RefusalRow => ({
  title,
  reason: "ORDER_STATE_INVALID",
  metadata: { order_id: "o1", state },
  ...row,
});

/** The refusal of an order that neither store has. */
export const notFound: RefusalRow = {
  title: "Postgres has no such order",
  args: { order_id: "nope", as_of_position: 1000, record: "null" },
  reason: "ORDER_NOT_FOUND",
  metadata: { order_id: "nope" },
};

/** Arguments that name no order, or no row of one. */
export const badRecords = {
  order_id: [""],
  as_of_position: ["", "x", "-1", "1.5"],
  record: ["x", "[]", " {}"],
};

/** How a call about an order that is not in Redis asks for its row, and answers from it. `args` are good with that row. */
export function describeRecord(
  shops: ReturnType<typeof useShops>,
  { script, given, args, tail }: GoodCall,
  reached?: { readonly state: number; readonly fields?: object },
): void {
  const open = async () => {
    const shop = await shops.open();
    await given(shop);
    return shop;
  };
  const loadFirst = async (shop: LuaShop, changed: Arguments) => {
    const { position, commit_id } = (await shop.dump()).meta as Record<string, string>;
    const reply = await expectNoChange(shop, () => shop.run(script, { ...args, ...changed }, tail));
    expect(reply).toEqual({ kind: "LOAD_FIRST", position: Number(position), commitId: commit_id });
  };

  test("asks for the row of an order that is not in Redis", async () => {
    const shop = await open();
    await loadFirst(shop, { record: "" });
    await loadFirst(shop, { order_id: "nope", record: "" });
  });

  test("asks again for a row that is older than the order, or than what the memory let go", async () => {
    const shop = await open();
    await loadFirst(shop, { as_of_position: 7 });
    await shop.redis.hset(shop.keys.recent_0 as string, "order:o1", "8 100");
    await loadFirst(shop, { as_of_position: 99 });
    await shop.redis.hdel(shop.keys.recent_0 as string, "order:o1");
    await shop.setMeta({ forgotten_position: 200 });
    await loadFirst(shop, { as_of_position: 199 });
    await shop.commit(script, { ...args, as_of_position: 200 }, tail);
  });

  if (reached !== undefined) {
    test("answers a state that is reached already with the commit that reached it", async () => {
      const shop = await open();
      const record = recordOf({ position: 8, ...reached.fields, state: reached.state });
      const reply = await expectNoChange(shop, () => shop.run(script, { ...args, ...record }, tail));
      expect(reply).toMatchObject({ kind: "EXISTS", at: 8, fields: expect.arrayContaining(["commit"]) });
    });
  }
}
