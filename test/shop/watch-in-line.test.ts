import { expect, test } from "vitest";
import { watchLog } from "../../src/shop/watch.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();

/** A watch from the beginning that is never read. */
async function watchInLine(signal: AbortSignal) {
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const { shops } = holdfast.server.store;
  const hub = shops.hub(shopId);
  return watchLog({
    ...{ shopId, hub, signal, db: shops.db, cursor: hub.enter() },
    past: { from: () => new Promise(() => {}), forget: () => {} },
    start: { after: 0, afterCommitId: "" },
    bookmarkMs: 50,
  });
}

test("a watch that waits for a page of the past sends bookmarks meanwhile", async () => {
  const steps = await watchInLine(new AbortController().signal);
  const bookmark = { done: false, value: { kind: "bookmark", position: 0, commitId: "" } };
  expect([await steps.next(), await steps.next()]).toEqual([bookmark, bookmark]);
});

test("a watch that is to end while it waits for a page ends at once", async () => {
  const end = new AbortController();
  const steps = await watchInLine(end.signal);
  await steps.next();
  const next = steps.next();
  end.abort();
  expect((await next).value).toMatchObject({ kind: "bookmark", position: 0 });
  expect(await steps.next()).toEqual({ done: true, value: undefined });
});
