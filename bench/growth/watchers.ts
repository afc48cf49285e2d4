import type { MemoryUse } from "../memory-use.ts";
import { hotSku } from "../sale.ts";
import { type CheckedWatcher, watchAndCheck } from "./checked-watcher.ts";
import { inTurns, type Measured, type Rounds } from "./in-turns.ts";
import { measureOrders, type OrderRates } from "./measure-orders.ts";
import { openSmallShop } from "./shops.ts";
import type { Testbed } from "./testbed.ts";
import type { Deliveries } from "./watch-crowd.ts";
import type { WatchRequest } from "./watch-process.ts";

/** So many watchers, to whom so many commits may come in one message. */
export interface WatchCase {
  readonly size: number;
  readonly maxCommits: number;
}

/** What callers and watchers got under all the load that callers can make, and under half of it. */
export interface WatchRates extends OrderRates {
  /** Events per second, over all watchers. */
  readonly deliveredPerSecond: number;
  /** Commits between the head and the slowest watcher when the load ended. */
  readonly behindCount: number;
  /** Memory of the server for each watcher that waits for something to come; NaN when there are none. */
  readonly usedBytesEach: number;
  /** All memory of the server with these watchers. */
  readonly residentBytes: number;
  readonly half: HalfRates;
}

/** What callers and watchers got when half of the orders were placed. */
export interface HalfRates extends OrderRates {
  /** From the decision of a commit until it came; NaN without watchers. */
  readonly lagP50Ms: number;
  readonly lagP99Ms: number;
  /** Commits that the slowest watcher had not got ten seconds after the load. */
  readonly behindCount: number;
}

/** So many of several watchers use the generated client, and look into every event. */
const mostCheckedCount = 2;
const reachMs = 10_000;
const settledBytes = 16_384;
const shopId = "watched";

/** Orders of one shop's one product, and everybody who watches them. */
export async function growWatchers(
  testbed: Testbed,
  sizes: readonly number[],
  rounds: Rounds,
): Promise<Measured<WatchCase, WatchRates>[]> {
  await openSmallShop(testbed, shopId);
  const watched = sizes.filter((size) => size > 0);
  const cases = [0, ...watched].flatMap((size) =>
    (size === 0 ? [1] : [1, 64]).map((maxCommits): WatchCase => ({ size, maxCommits })),
  );
  return inTurns(cases, rounds, async (watchCase) => {
    const rates = await measureWatchers(testbed, watchCase, rounds.durationMs);
    const delivered = `${rates.deliveredPerSecond.toFixed(0)}/s delivered`;
    rounds.say(
      `${watchCase.size} watchers, ${watchCase.maxCommits} a message: ${rates.perSecond.toFixed(0)}/s, ${delivered}`,
    );
    return rates;
  });
}

async function measureWatchers(testbed: Testbed, watchCase: WatchCase, durationMs: number): Promise<WatchRates> {
  const orders = { shopIds: [shopId], skus: [hotSku], userIds: [], durationMs };
  const before = await readSettledMemory(testbed);
  const most = await withWatchers(testbed, watchCase, async (watchers) => {
    const { usedBytes, residentBytes } = await readSettledMemory(testbed);
    const usedBytesEach = (usedBytes - before.usedBytes) / watchCase.size;
    const rates = await measureOrders(testbed, orders);
    const { deliveredPerSecond, behindCount } = await watchers.count();
    return { ...rates, deliveredPerSecond, behindCount, usedBytesEach, residentBytes };
  });
  const half = await withWatchers(testbed, watchCase, async (watchers) => {
    const rates = await measureOrders(testbed, { ...orders, perSecond: most.perSecond / 2 });
    await watchers.reach(await headOf(testbed));
    const { lagP50Ms, lagP99Ms, behindCount } = await watchers.count();
    return { ...rates, lagP50Ms, lagP99Ms, behindCount };
  });
  return { ...most, half };
}

/** When two readings in a row are alike: what went before leaves connections to be closed and answers to be forgotten. */
async function readSettledMemory({ readMemory }: Testbed): Promise<MemoryUse> {
  let last = await readMemory();
  for (let left = 10; left > 0; left -= 1) {
    const next = await readMemory();
    if (Math.abs(next.usedBytes - last.usedBytes) < settledBytes) {
      return next;
    }
    last = next;
  }
  return last;
}

interface Watchers {
  /** What they got since they were opened. */
  count(): Promise<Pick<WatchRates, "deliveredPerSecond" | "behindCount"> & Pick<HalfRates, "lagP50Ms" | "lagP99Ms">>;
  /** Resolves when all have come to a position, or have had the time for it. */
  reach(position: number): Promise<void>;
}

const noWatchers: Watchers = {
  count: async () => ({ deliveredPerSecond: 0, behindCount: 0, lagP50Ms: Number.NaN, lagP99Ms: Number.NaN }),
  reach: async () => {},
};

/** Watches from the head on while `work` goes on. Throws unless every watcher got all commits, in order, once. */
async function withWatchers<Value>(
  testbed: Testbed,
  { size, maxCommits: maxCommitsPerMessage }: WatchCase,
  work: (watchers: Watchers) => Promise<Value>,
): Promise<Value> {
  if (size === 0) {
    return await work(noWatchers);
  }
  const { port, crowd, clients } = testbed;
  const ask = <Answer>(request: WatchRequest) => crowd.ask<Answer>(request);
  const from = { shopId, afterPosition: await headOf(testbed), maxCommitsPerMessage };
  const checkedCount = Math.min(mostCheckedCount, size - 1);
  await using cleanUp = new AsyncDisposableStack();
  cleanUp.defer(() => ask<void>({ kind: "close" }));
  await ask<void>({ kind: "open", port, watcherCount: size - checkedCount, ...from });
  const checked: CheckedWatcher[] = [];
  for (let index = 0; index < checkedCount; index += 1) {
    const watcher = await watchAndCheck({ events: clients.events, sku: hotSku, ...from });
    cleanUp.defer(() => watcher.stop());
    checked.push(watcher);
  }
  return await work({
    count: async () => {
      const { count, elapsedMs, leastPosition, lagP50Ms, lagP99Ms } = await ask<Deliveries>({ kind: "count" });
      const delivered = checked.reduce((sum, watcher) => sum + watcher.count, count);
      if (count === 0 || checked.some((watcher) => watcher.count === 0)) {
        throw new Error("a watcher got nothing");
      }
      const behindCount = Math.max(0, (await headOf(testbed)) - leastPosition);
      return { deliveredPerSecond: delivered / (elapsedMs / 1000), behindCount, lagP50Ms, lagP99Ms };
    },
    reach: (position) => ask<void>({ kind: "reach", position, timeoutMs: reachMs }),
  });
}

/** Of a shop where nothing is in flight. */
async function headOf({ clients }: Testbed): Promise<number> {
  const { shop } = await clients.admin.getShop({ shopId });
  return Number(shop?.durablePosition);
}
