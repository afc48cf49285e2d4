import type { Kysely, KyselyPlugin, RootOperationNode } from "kysely";
import { beforeAll, expect, test } from "vitest";
import type { Database } from "../../src/postgres/schema.ts";
import { makeId } from "../../src/shop/ids.ts";
import { createPast, type PastOptions, pageCommits } from "../../src/shop/past.ts";
import { watchLog } from "../../src/shop/watch.ts";
import { createShop, stockProduct } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
const wanted = new AbortController().signal;
const commitCount = 250;
let shopId: string;
let otherId: string;

beforeAll(async () => {
  [shopId, otherId] = await Promise.all([createShop(holdfast.grpc), createShop(holdfast.grpc)]);
  const { shop } = await holdfast.grpc.admin.getShop({ shopId });
  const left = commitCount - Number(shop?.headPosition);
  await Promise.all(
    Array.from({ length: left }, (_, index) =>
      holdfast.grpc.inventory.putProduct({ shopId, sku: `sku-${index}`, title: "t", priceMinor: 1n }),
    ),
  );
}, 30_000);

/** The past by a database that tells what is read, as `shop first`; `beforeRead` may fail a read. */
function openPast(beforeRead: (read: string) => void = () => {}, options: Partial<PastOptions> = {}) {
  const reads: string[] = [];
  const plugin: KyselyPlugin = {
    transformQuery: ({ node }) => {
      const [shop, first] = valuesOf(node);
      const read = `${shop} ${first}`;
      reads.push(read);
      beforeRead(read);
      return node;
    },
    transformResult: async ({ result }) => result,
  };
  const db: Kysely<Database> = holdfast.server.store.shops.db.withPlugin(plugin);
  return { reads, past: createPast(db, { maxReads: 4, keptMs: 60_000, ...options }) };
}

function valuesOf(node: RootOperationNode): unknown[] {
  const { parameters } = node as unknown as { parameters: readonly { readonly value?: unknown }[] };
  return parameters.flatMap(({ value }) => (value === undefined ? [] : [value]));
}

const positionsOf = (entries: readonly { readonly position: number }[]) => entries.map(({ position }) => position);
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

test("gives the commits from a position to the one with which the next page begins", async () => {
  const { past } = openPast();
  for (const position of [1, 2, 99, 100, 101, 199, 200, 201, 249, 250]) {
    const next = position - (position % pageCommits) + pageCommits;
    const expected = range(position, Math.min(next, commitCount));
    expect(positionsOf(await past.from(shopId, position, wanted))).toEqual(expected);
  }
  expect(positionsOf(await past.from(shopId, 0, wanted))).toEqual(range(1, pageCommits));
  expect(await past.from(shopId, 251, wanted)).toEqual([]);
});

test("a page is read once for all who want it, also a moment later", async () => {
  const { past, reads } = openPast();
  const [one, other] = await Promise.all([past.from(shopId, 7, wanted), past.from(shopId, 50, wanted)]);
  const [later] = await past.from(shopId, 7, wanted);
  expect(reads).toEqual([`${shopId} 0`]);
  expect(later).toBe(one[0]);
  expect(other[0]).toBe(one[43]);
});

test("a page is kept for a time, up to so many characters, and until it is to be forgotten", async () => {
  const [short, small, told] = [
    openPast(undefined, { keptMs: 20 }),
    openPast(undefined, { keptLength: 1 }),
    openPast(),
  ];
  for (const { past } of [short, small, told]) {
    await past.from(shopId, 1, wanted);
  }
  await until("it is read again", async () => {
    await short.past.from(shopId, 1, wanted);
    return short.reads.length > 1;
  });
  await small.past.from(shopId, 1, wanted);
  told.past.forget();
  await told.past.from(shopId, 1, wanted);
  expect([small.reads, told.reads].map((reads) => reads.length)).toEqual([2, 2]);
});

test("what is forgotten while it is read is read again for the next one", async () => {
  const { past, reads } = openPast();
  const first = past.from(shopId, 1, wanted);
  past.forget();
  const second = past.from(shopId, 1, wanted);
  expect(await first).toEqual(await second);
  await past.from(shopId, 1, wanted);
  expect(reads).toHaveLength(2);
});

test("a page with room for more commits is read again", async () => {
  const { past, reads } = openPast();
  const before = await past.from(otherId, 1, wanted);
  await stockProduct(holdfast.grpc, otherId, "ps5", 1);
  const after = await past.from(otherId, 1, wanted);
  expect(reads).toHaveLength(2);
  expect(after.length).toBeGreaterThan(before.length);
});

test("who wants one page of a shop does not wait for all pages of another", async () => {
  const { past, reads } = openPast();
  const many = range(0, 199).map((page) => past.from(shopId, page * pageCommits, wanted));
  const one = past.from(otherId, 0, wanted);
  await Promise.all([...many, one]);
  expect(reads).toHaveLength(201);
  expect(reads.indexOf(`${otherId} 0`)).toBeLessThan(10);
});

test("what cannot be read is the failure of those who wanted it, and is read for the next one", async () => {
  let isLost = true;
  const { past, reads } = openPast(() => {
    if (isLost) throw new Error("the connection was lost");
  });
  const results = await Promise.allSettled([past.from(shopId, 1, wanted), past.from(shopId, 2, wanted)]);
  isLost = false;
  expect(results).toEqual([1, 2].map(() => ({ status: "rejected", reason: new Error("the connection was lost") })));
  expect(positionsOf(await past.from(shopId, 99, wanted))).toEqual([99, 100]);
  expect(reads).toHaveLength(2);
});

test("what nobody wants any more is not read, unless somebody else does", async () => {
  const { past, reads } = openPast();
  const gone = new AbortController();
  const line = range(0, 9).map((page) => past.from(otherId, page * pageCommits, wanted));
  const unwanted = past.from(shopId, 1, gone.signal);
  const shared = [past.from(shopId, 101, gone.signal), past.from(shopId, 150, wanted)];
  gone.abort();
  await Promise.all([...line, ...shared]);
  expect(await unwanted).toEqual([]);
  expect(reads.filter((read) => read.startsWith(shopId))).toEqual([`${shopId} 100`]);
});

test("a watch that knows a newer history than a kept page is not refused by it", async () => {
  const { past, reads } = openPast();
  const { shops } = holdfast.server.store;
  const position = 30;
  await past.from(shopId, position, wanted);
  const commitId = makeId();
  await shops.db
    .updateTable("commits")
    .set({ commit_id: commitId })
    .where("shop_id", "=", shopId)
    .where("position", "=", position)
    .execute();
  const end = new AbortController();
  const hub = shops.hub(shopId);
  const watch = watchLog({
    ...{ shopId, hub, past, db: shops.db, cursor: hub.enter(), signal: end.signal },
    start: { after: position, afterCommitId: commitId },
    bookmarkMs: 60_000,
  });
  const { value } = await watch.next();
  end.abort();
  expect(value).toMatchObject({ kind: "commits" });
  expect(value?.kind === "commits" && positionsOf(value.entries)).toEqual(range(position + 1, pageCommits));
  expect(reads).toHaveLength(2);
});
