import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventBatch } from "../../gen/holdfast/v1/event_service_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { type Clients, type HoldfastProcess, spawnHoldfast } from "../helpers/holdfast.ts";
import { startLoad } from "../helpers/load.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const watcherCount = 50;
const requestCount = 1200;
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

/** What a watcher was sent, in the order it came. */
interface Watched {
  readonly batches: EventBatch[];
  /** Where it stood (the last commit sent) when each bookmark came, and what the bookmark said. */
  readonly bookmarks: { readonly sentPosition: bigint; readonly position: bigint; readonly commitId: string }[];
  /** Where each of its watches began. */
  readonly resumedAfter: bigint[];
  caughtUpCount: number;
}

const first = useHoldfast();
let second: HoldfastProcess;

beforeAll(async () => {
  second = await spawnHoldfast(first.urls);
});

afterAll(async () => {
  await second?.kill();
});

/** A small random generator, so that a failure can be repeated: run again with SEED. */
function createRandom(state: number): () => number {
  let next = state;
  return () => {
    next = (Math.imul(next, 1_664_525) + 1_013_904_223) >>> 0;
    return next / 2 ** 32;
  };
}

/** Watches until `isDone` says so, and cuts the stream at random: each time it resumes after the last commit it was sent. */
async function watchWithCuts(
  clients: readonly Clients[],
  shopId: string,
  index: number,
  isDone: (position: bigint) => boolean,
): Promise<Watched> {
  const random = createRandom(seed + index);
  const watched: Watched = { batches: [], bookmarks: [], resumedAfter: [], caughtUpCount: 0 };
  let position = 0n;
  let commitId = "";
  while (!(isDone(position) && watched.caughtUpCount > 0)) {
    const cut = new AbortController();
    let left = 20 + Math.floor(random() * 400);
    const { events } = clients[Math.floor(random() * clients.length)] as Clients;
    watched.resumedAfter.push(position);
    const start = { case: "afterPosition", value: position } as const;
    const bookmarkInterval = { seconds: 0n, nanos: 100_000_000 };
    const maxCommitsPerMessage = index % 3 === 0 ? 16 : 1;
    try {
      const request = { shopId, start, afterCommitId: commitId, bookmarkInterval, maxCommitsPerMessage };
      for await (const { message } of events.watchEvents(request, { signal: cut.signal })) {
        if (message.case === "batch" || message.case === "batches") {
          const batches = message.case === "batch" ? [message.value] : message.value.batches;
          watched.batches.push(...batches);
          const newest = batches.at(-1) as EventBatch;
          ({ position, commitId } = newest);
        } else if (message.case === "bookmark") {
          watched.bookmarks.push({
            sentPosition: position,
            position: message.value.position,
            commitId: message.value.commitId,
          });
        } else if (message.case === "caughtUp") {
          watched.caughtUpCount += 1;
        }
        left -= 1;
        if (left === 0 || (isDone(position) && watched.caughtUpCount > 0)) {
          cut.abort();
        }
      }
    } catch (error) {
      if (!cut.signal.aborted) {
        throw error;
      }
    }
  }
  return watched;
}

describe(`50 watchers that cut and resume while two processes write and Redis is emptied (SEED=${seed})`, () => {
  let watchers: Watched[];
  let recorded: { position: number; commitId: string; events: Record<string, unknown>[] }[];

  beforeAll(async () => {
    const clients = [first.grpc, second.grpc, first.http, second.http];
    const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 1_000_000]));
    const shopId = await createShop(first.grpc, { stock: { ps5: 1_000_000 }, users });
    let head: bigint | undefined;
    const watching = Array.from({ length: watcherCount }, (_, index) =>
      watchWithCuts(clients, shopId, index, (position) => head !== undefined && position >= head),
    );
    const load = startLoad({ clients, shopId, callerCount: 16, requestCount });
    const holding = holdAndBuy(clients, shopId);
    await load.reached(requestCount / 3);
    const redis = new Redis(first.urls.redisUrl);
    await redis.flushall();
    redis.disconnect();
    await Promise.all([load.result, holding]);
    // A last commit tells every watcher, wherever it stands, that there is nothing more to come.
    const { shop } = await first.grpc.admin.getShop({ shopId });
    head = (shop?.durablePosition ?? 0n) + 1n;
    await first.grpc.users.createUser({ shopId, userId: "last" });
    watchers = await Promise.all(watching);
    recorded = await readCommits(first.urls.databaseUrl, shopId);
  }, 60_000);

  it("are sent every commit of the record", () => {
    expect(recorded.length).toBeGreaterThan(requestCount);
    for (const { batches } of watchers) {
      expect(batches.map((batch) => batch.commitId)).toEqual(recorded.map((commit) => commit.commitId));
    }
  });

  it("get commits in order", () => {
    for (const { batches } of watchers) {
      const positions = batches.map((batch) => Number(batch.position));
      expect(positions).toEqual([...positions].sort((a, b) => a - b));
    }
  });

  it("get no commit twice", () => {
    for (const { batches } of watchers) {
      expect(new Set(batches.map((batch) => batch.commitId)).size).toBe(batches.length);
    }
  });

  it("get positions without a gap", () => {
    for (const { batches } of watchers) {
      expect(batches.every((batch, index) => Number(batch.position) === index + 1)).toBe(true);
    }
  });

  it("get commits whole", () => {
    for (const { batches } of watchers) {
      for (const [index, batch] of batches.entries()) {
        const names = recorded[index]?.events.map((event) => Object.keys(event)[0]);
        expect(batch.events.map((event) => snakeCase(event.payload.case ?? ""))).toEqual(names);
        expect(batch.events.map((event) => event.index)).toEqual(batch.events.map((_, place) => place));
      }
    }
  });

  it("resume where they were cut", () => {
    const resumedCount = watchers.reduce((sum, { resumedAfter }) => sum + resumedAfter.length - 1, 0);
    expect(resumedCount).toBeGreaterThan(watcherCount);
    expect(watchers.every(({ caughtUpCount }) => caughtUpCount > 0)).toBe(true);
  });

  it("get bookmarks that cover just what was sent", () => {
    const bookmarks = watchers.flatMap((each) => each.bookmarks);
    expect(bookmarks.length).toBeGreaterThan(0);
    for (const bookmark of bookmarks) {
      expect(bookmark.position).toBe(bookmark.sentPosition);
      expect(recorded[Number(bookmark.position) - 1]?.commitId ?? "").toBe(bookmark.commitId);
    }
  });
});

describe("WatchEvents", () => {
  const open = (request: Parameters<Clients["events"]["watchEvents"]>[0], clients: Clients = first.grpc) => {
    const end = new AbortController();
    const messages = clients.events.watchEvents(request, { signal: end.signal })[Symbol.asyncIterator]();
    return {
      next: async () => ((await messages.next()).value as { message: { case?: string; value?: unknown } }).message,
      end: () => end.abort(),
    };
  };
  const refusalOf = async (request: Parameters<Clients["events"]["watchEvents"]>[0]): Promise<string> => {
    const watch = open(request);
    const error = await watch.next().then(
      () => undefined,
      (failure: Error) => failure,
    );
    return error?.message ?? "not refused";
  };

  it("begins now when asked to, and says that it has caught up", async () => {
    const shopId = await createShop(first.grpc, { stock: { ps5: 5 } });
    const watch = open({ shopId, start: { case: "fromNow", value: true } });
    expect((await watch.next()).case).toBe("caughtUp");
    const { commit } = await second.grpc.orders.placeOrder({
      shopId,
      lines: [{ sku: "ps5", quantity: 1 }],
      paymentMethod: PaymentMethod.NONE,
    });
    expect((await watch.next()).value).toMatchObject({ commitId: commit?.commitId });
    watch.end();
  });

  it("sends the matching events of a commit with their index, and bookmarks past the rest", async () => {
    const shopId = await createShop(first.grpc, { stock: { ps5: 5, xbox: 5 } });
    await first.grpc.inventory.holdStock({ shopId, holdId: "h1", lines: [{ sku: "ps5", quantity: 1 }] });
    await first.grpc.orders.placeOrder({ shopId, orderId: "o1", holdId: "h1", paymentMethod: PaymentMethod.NONE });
    const { commit } = await first.grpc.inventory.adjustStock({ shopId, sku: "xbox", deltaCount: 1n, reason: 1 });
    const bookmarkInterval = { seconds: 0n, nanos: 20_000_000 };
    const watch = open({ shopId, eventTypes: ["order_placed"], subjects: ["sku:ps5"], bookmarkInterval });
    const { value } = (await watch.next()) as { value: EventBatch };
    expect(value.events.map((event) => [event.index, event.payload.case])).toEqual([[1, "orderPlaced"]]);
    expect(value.events[0]?.subjects).toEqual(["order:o1", "hold:h1", "sku:ps5"]);
    let message = await watch.next();
    while (message.case !== "bookmark") {
      message = await watch.next();
    }
    expect(message.value).toMatchObject({ position: commit?.position, commitId: commit?.commitId });
    watch.end();
  });

  it("puts several commits into one message when asked to", async () => {
    const shopId = await createShop(first.grpc, { stock: { ps5: 5 } });
    const watch = open({ shopId, maxCommitsPerMessage: 100 });
    const { value } = (await watch.next()) as { value: { batches: EventBatch[] } };
    expect(value.batches.map((batch) => Number(batch.position))).toEqual([1, 2, 3]);
    watch.end();
  });

  it("carries no e-mail and no name", async () => {
    const shopId = await createShop(first.grpc, { users: { u1: 100 } });
    const { events } = await first.grpc.events.listEvents({ shopId });
    const payloads = events.map((event) => event.payload.value as { user?: { email: string; displayName: string } });
    const users = payloads.flatMap((payload) => (payload.user === undefined ? [] : [payload.user]));
    expect(users.length).toBe(2);
    expect(users.every((user) => user.email === "" && user.displayName === "")).toBe(true);
  });

  it("refuses a position whose commit is another than the caller knew", async () => {
    const shopId = await createShop(first.grpc, { stock: { ps5: 5 } });
    const start = { case: "afterPosition", value: 2n } as const;
    expect(await refusalOf({ shopId, start, afterCommitId: uniqueId("c") })).toContain("another commit stands there");
  });

  it("refuses a position beyond the head, after having waited for it", async () => {
    const shopId = await createShop(first.grpc);
    expect(await refusalOf({ shopId, start: { case: "afterPosition", value: 99n } })).toContain(
      "beyond the durable head",
    );
  }, 20_000);

  it("refuses an unknown shop", async () => {
    expect(await refusalOf({ shopId: uniqueId("nowhere") })).toContain("there is no shop");
  });

  it("ends with OK after its last position when the server stops", async () => {
    const leaving = await spawnHoldfast(first.urls);
    const shopId = await createShop(first.grpc, { stock: { ps5: 5 } });
    const seen: string[] = [];
    const watching = (async () => {
      for await (const { message } of leaving.grpc.events.watchEvents({ shopId })) {
        seen.push(message.case ?? "");
        if (message.case === "caughtUp") {
          leaving.signal("SIGTERM");
        }
      }
    })();
    await watching;
    expect(seen).toEqual(["batch", "batch", "batch", "caughtUp", "bookmark"]);
    expect(await leaving.ended).toBe(0);
  });

  it("says last where it stands behind its filter when the server stops", async () => {
    const leaving = await spawnHoldfast(first.urls);
    const shopId = await createShop(first.grpc, { stock: { ps5: 5 } });
    const watch = open({ shopId, eventTypes: ["order_placed"] }, leaving.grpc);
    expect((await watch.next()).case).toBe("caughtUp");
    const all = open({ shopId, start: { case: "fromNow", value: true } }, leaving.grpc);
    expect((await all.next()).case).toBe("caughtUp");
    const { commit } = await first.grpc.inventory.adjustStock({ shopId, sku: "ps5", deltaCount: 1n, reason: 1 });
    expect((await all.next()).value).toMatchObject({ position: commit?.position });
    leaving.signal("SIGTERM");
    const { position, commitId } = commit as { position: bigint; commitId: string };
    expect(await watch.next()).toMatchObject({ case: "bookmark", value: { position, commitId } });
    watch.end();
    all.end();
    expect(await leaving.ended).toBe(0);
  });

  it("lists pages that never split a commit, from either end", async () => {
    const shopId = await createShop(first.grpc, { stock: { ps5: 5 } });
    await first.grpc.inventory.holdStock({ shopId, holdId: "h1", lines: [{ sku: "ps5", quantity: 1 }] });
    await first.grpc.orders.placeOrder({ shopId, orderId: "o1", holdId: "h1", paymentMethod: PaymentMethod.NONE });
    const page = await first.http.events.listEvents({ shopId, afterPosition: 4n, pageSize: 1 });
    expect(page.events.map((event) => event.payload.case)).toEqual(["holdCommitted", "orderPlaced"]);
    expect(page.nextAfterPosition).toBe(5n);
    const newest = await first.grpc.events.listEvents({ shopId, pageSize: 3, newestFirst: true });
    expect(newest.events.map((event) => Number(event.position))).toEqual([5, 5, 4]);
    const filtered = await first.grpc.events.listEvents({ shopId, subjects: ["hold:h1"] });
    expect(filtered.events.map((event) => event.payload.case)).toEqual(["stockHeld", "holdCommitted", "orderPlaced"]);
  });
});

/** Holds stock and buys the holds, next to the load: commits of two events, and expiries nobody asked for. */
async function holdAndBuy(clients: readonly Clients[], shopId: string): Promise<void> {
  for (let index = 0; index < 60; index += 1) {
    const { inventory, orders } = clients[index % clients.length] as Clients;
    const holdId = `h${index}`;
    const holdDuration = { seconds: index % 2 === 0 ? 0n : 600n, nanos: index % 2 === 0 ? 1_000_000 : 0 };
    await inventory.holdStock({
      shopId,
      holdId,
      requestId: `hold-${index}`,
      lines: [{ sku: "ps5", quantity: 1 }],
      holdDuration,
    });
    if (index % 2 === 1) {
      await orders.placeOrder({ shopId, holdId, requestId: `buy-${index}`, paymentMethod: PaymentMethod.NONE });
    }
  }
}

async function readCommits(databaseUrl: string, shopId: string) {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  const { rows } = await client
    .query('select position::int, commit_id as "commitId", events from commits where shop_id = $1 order by position', [
      shopId,
    ])
    .finally(() => client.end());
  return rows;
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
