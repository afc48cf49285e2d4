import { sql, type Transaction } from "kysely";
import { pino } from "pino";
import { expect, onTestFinished, test, vi } from "vitest";
import { readCommits } from "../../src/postgres/commits.ts";
import type { Database } from "../../src/postgres/schema.ts";
import type { LogEntry } from "../../src/shop/log-entry.ts";
import { type WatchStep, watchLog } from "../../src/shop/watch.ts";
import { WatchHub } from "../../src/shop/watch-hub.ts";
import { createShop } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
const commitCount = 300;

/** A shop that sold nothing yet, and the side of its watchers. */
async function watchedShop(): Promise<{ readonly shopId: string; readonly hub: WatchHub }> {
  const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
  return { shopId, hub: holdfast.server.store.shops.hub(shopId) };
}

/** Makes commits; returns the position of the last one. */
async function makeCommits(shopId: string): Promise<number> {
  const deposit = () => holdfast.grpc.users.depositFunds({ shopId, userId: "ann", amountMinor: 1n });
  const answers = await Promise.all(Array.from({ length: commitCount }, deposit));
  return Math.max(...answers.map(({ commit }) => Number(commit?.position)));
}

/** Whether the hub holds the newest commits, so many of them. */
const holds = (hub: WatchHub, count: number): boolean => hub.after(hub.head - count, 1) !== undefined;

/** Returns what puts the clock of `performance` forward, by so many milliseconds. */
function startClock(): (ms: number) => void {
  const nowMs = performance.now.bind(performance);
  let aheadMs = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => nowMs() + aheadMs);
  onTestFinished(() => clock.mockRestore());
  return (ms) => {
    aheadMs += ms;
  };
}

test("what all watches were sent is not kept, and nothing when the last one is over", async () => {
  const { shopId, hub } = await watchedShop();
  const pass = startClock();
  const ending = new AbortController();
  const positions: number[] = [];
  const watching = (async () => {
    for await (const { message } of holdfast.grpc.events.watchEvents({ shopId }, { signal: ending.signal })) {
      if (message.case === "batch") positions.push(Number(message.value.position));
    }
  })().catch(() => {});
  await until("the watch has begun", () => positions.length > 0);
  for (let round = 0; round < 2; round += 1) {
    const head = await makeCommits(shopId);
    await until("all were sent", () => positions.at(-1) === head);
  }
  // The sweeper tells where Postgres is once a second.
  const isLetGo = (): boolean => {
    pass(100);
    return !holds(hub, 1);
  };
  await until("they are let go", isLetGo, 100_000);
  expect(positions).toEqual(positions.map((_, index) => index + 1));

  ending.abort();
  await watching;
  await until("the watch is over", () => hub.watcherCount === 0);
  expect([...holdfast.server.store.shops.hubs]).not.toContain(hub);
});

test("what a watch was not sent yet is kept for it", async () => {
  const { shopId, hub } = await watchedShop();
  const { db } = holdfast.server.store.shops;
  const ending = new AbortController();
  const cursor = hub.enter();
  const steps = watchLog({
    ...{ shopId, hub, db, cursor, signal: ending.signal, bookmarkMs: 60_000 },
    past: { from: () => Promise.reject(new Error("the past was asked")), forget: () => {} },
    start: { after: "now", afterCommitId: "" },
  });
  const next = async (): Promise<WatchStep | undefined> => (await steps.next()).value;
  const first = await next();
  const from = first?.kind === "caught up" ? first.position : 0;
  const head = await makeCommits(shopId);
  await until("all are durable", () => hub.head === head);
  const pass = startClock();
  for (let count = 0; count < 3; count += 1) {
    pass(10_000);
    hub.offer({ position: head, commitId: hub.writerOf(head) ?? "" }, []);
  }
  const positions: number[] = [];
  while (positions.length < commitCount) {
    const step = await next();
    if (step?.kind === "commits") positions.push(...step.entries.map(({ position }) => position));
  }
  expect(positions).toEqual(Array.from({ length: commitCount }, (_, index) => from + index + 1));
  ending.abort();
  await next();
  hub.leave(cursor);
});

/** A hub that holds the newest commit alone, over a transaction that is undone, and the commit ten before. */
async function withLateHub(
  work: (hub: WatchHub, earlier: LogEntry, trx: Transaction<Database>, shopId: string) => Promise<void>,
) {
  const { shopId } = await watchedShop();
  const head = await makeCommits(shopId);
  const { db } = holdfast.server.store.shops;
  const [earlier] = await readCommits(db, shopId, head - 10, 1);
  const trx = await db.startTransaction().execute();
  try {
    const hub = new WatchHub(shopId, trx, 2000, pino({ enabled: false }), () => {});
    await hub.start();
    await work(hub, earlier as LogEntry, trx, shopId);
  } finally {
    await trx.rollback().execute();
  }
}

test("a history that went back to before what is held is followed from there", () =>
  withLateHub(async (hub, earlier, trx, shopId) => {
    const { position: head_position, commitId: head_commit_id } = earlier;
    await trx.updateTable("shops").set({ head_position, head_commit_id }).where("shop_id", "=", shopId).execute();
    const woken = hub.wait(20_000, new AbortController().signal);
    hub.offer(earlier, []);
    await woken;
    expect([hub.head, hub.writerOf(hub.head)]).toEqual([head_position, head_commit_id]);
  }));

test("what comes late is not taken for a history that went back", () =>
  withLateHub(async (hub, earlier, trx) => {
    const { head } = hub;
    hub.offer(earlier, []);
    // A transaction has one connection: what the hub asked Postgres was answered before this.
    await sql`select 1`.execute(trx);
    expect(hub.head).toBe(head);
  }));

test("a watch after the last one was over has all of what came meanwhile, and what comes", async () => {
  const { shopId } = await watchedShop();
  const watcherCount = (): number => holdfast.server.store.shops.hub(shopId).watcherCount;
  const watch = async (after: number, to: number): Promise<number[]> => {
    const ending = new AbortController();
    const start = { case: "afterPosition", value: BigInt(after) } as const;
    const positions: number[] = [];
    try {
      for await (const { message } of holdfast.grpc.events.watchEvents({ shopId, start }, { signal: ending.signal })) {
        if (message.case === "batch") positions.push(Number(message.value.position));
        if (positions.at(-1) === to) break;
      }
    } finally {
      ending.abort();
    }
    await until("the watch is over", () => watcherCount() === 0);
    return positions;
  };
  const first = await makeCommits(shopId);
  await watch(0, first);
  const second = await makeCommits(shopId);
  const both = watch(first, second + commitCount);
  await until("it has begun", () => watcherCount() === 1);
  await makeCommits(shopId);
  expect(await both).toEqual(Array.from({ length: 2 * commitCount }, (_, index) => first + index + 1));
});
