import type { Transport } from "@connectrpc/connect";
import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { EventBatch } from "../../gen/holdfast/v1/event_service_pb.js";
import {
  createGrpcTransport,
  createHoldfastClient,
  type HoldfastClient,
  RefusedError,
  type Watched,
} from "../../src/client/index.ts";
import { spawnHoldfast, startHoldfast } from "../helpers/holdfast.ts";
import { audience, fromNow, issuer, signWithSecret } from "../helpers/issuer.ts";
import { createShop } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";
import { openClient, openTransport } from "./doors.ts";

const holdfast = useHoldfast();
let cleanUp: AsyncDisposableStack;

beforeEach(() => {
  cleanUp = new AsyncDisposableStack();
});
afterEach(() => cleanUp.disposeAsync());

type WatchRequest = NonNullable<Parameters<HoldfastClient["watch"]>[0]>;

/** Watches in the background until the test is over, or until the watch fails. */
function follow(client: HoldfastClient, request: WatchRequest, options: { readonly silenceMs?: number } = {}) {
  const stopper = new AbortController();
  const commits: EventBatch[] = [];
  const messages: Watched[] = [];
  const run = async (): Promise<never> => {
    for await (const message of client.watch(request, { ...options, signal: stopper.signal })) {
      messages.push(message);
      if (message.case === "batch") commits.push(message.value);
    }
    throw new Error("a watch does not end by itself");
  };
  const ended = run().catch((error: unknown) => error);
  cleanUp.defer(async () => {
    stopper.abort();
    await ended;
  });
  return {
    commits,
    messages,
    ended,
    stopper,
    positions: () => commits.map(({ position }) => Number(position)),
    reached: (position: bigint | undefined) =>
      until(
        `position ${position} is seen`,
        () => messages.some(({ value }) => value.position >= (position ?? 0n)),
        30_000,
      ),
  };
}

const upTo = (last: bigint | undefined, first = 1) =>
  Array.from({ length: Number(last) - first + 1 }, (_, index) => first + index);

/** Makes some commits; returns the last one's position. */
async function commitSome(shopId: string, count = 5): Promise<bigint | undefined> {
  let position: bigint | undefined;
  for (let made = 0; made < count; made += 1) {
    const deposit = { shopId, userId: "ann", amountMinor: 1n, reference: "some" };
    position = (await holdfast.grpc.users.depositFunds(deposit)).commit?.position;
  }
  return position;
}

const commitIdsOf = async (shopId: string) => {
  const database = new Client({ connectionString: holdfast.urls.databaseUrl });
  await database.connect();
  const { rows } = await database
    .query("select commit_id from commits where shop_id = $1 order by position", [shopId])
    .finally(() => database.end());
  return rows.map((row: { commit_id: string }) => row.commit_id);
};

/** Puts another commit at a position, as a history would have that both stores lost and went on without. */
async function rewrite(shopId: string, position: bigint | undefined): Promise<void> {
  const database = new Client({ connectionString: holdfast.urls.databaseUrl });
  await database.connect();
  const statement = "update commits set commit_id = gen_random_uuid() where shop_id = $1 and position = $2";
  const { rowCount } = await database.query(statement, [shopId, Number(position)]).finally(() => database.end());
  expect(rowCount).toBe(1);
}

describe.each([
  ["by position", {}],
  ["by position, in batches", { maxCommitsPerMessage: 1000 }],
  ["as a consumer that acknowledges nothing", { start: { case: "consumer", value: "mailer" } }],
] as const)("a watch %s", (_, request) => {
  it("sees every commit once, in order, over cut connections and servers that die and stop", async () => {
    const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
    const [dying, stopping] = await Promise.all([spawnHoldfast(holdfast.urls), spawnHoldfast(holdfast.urls)]);
    cleanUp.defer(() => dying.kill());
    cleanUp.defer(() => stopping.kill());
    const ends: unknown[] = [];
    const { proxy, client } = await openClient(dying, cleanUp, { onRepeat: (error) => ends.push(error) });
    const watch = follow(client, { shopId, ...request });
    await watch.reached(await commitSome(shopId));
    proxy.cut();
    await watch.reached(await commitSome(shopId));
    proxy.refuse();
    await commitSome(shopId);
    proxy.accept();
    await dying.kill();
    await commitSome(shopId);
    proxy.retarget(`http://${stopping.grpcAddress}`);
    await watch.reached(await commitSome(shopId));
    stopping.signal("SIGTERM");
    await until("the server ends the watch", () => ends.includes(undefined));
    await stopping.ended;
    proxy.retarget(`http://${holdfast.grpcAddress}`);
    const last = await commitSome(shopId);
    await watch.reached(last);
    expect(watch.positions()).toEqual(upTo(last));
    expect(watch.commits.map(({ commitId }) => commitId)).toEqual(await commitIdsOf(shopId));
  }, 90_000);
});

it("goes on after what its filter left out, whose commits it is not shown again", async () => {
  const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
  const { proxy, client } = await openClient(holdfast, cleanUp);
  const bookmarkInterval = { seconds: 0n, nanos: 20_000_000 };
  const watch = follow(client, { shopId, eventTypes: ["user_created"], bookmarkInterval });
  await watch.reached(await commitSome(shopId));
  proxy.cut();
  const { commit } = await holdfast.grpc.users.createUser({ shopId, userId: "bob" });
  await watch.reached(commit?.position);
  expect(watch.commits.map(({ events }) => events[0]?.subjects[0])).toEqual(["user:ann", "user:bob"]);
});

it("from now on sees what is committed after its first message, also while it is cut off", async () => {
  const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
  const before = await commitSome(shopId);
  const { proxy, client } = await openClient(holdfast, cleanUp);
  const watch = follow(client, { shopId, start: { case: "fromNow", value: true } });
  await watch.reached(before);
  proxy.refuse();
  const last = await commitSome(shopId);
  proxy.accept();
  await watch.reached(last);
  expect(watch.positions()).toEqual(upTo(last, Number(before) + 1));
});

describe("a watch with a token", () => {
  const secret = "a secret of 32 characters, all of it";
  const guarded = useHoldfast({
    settings: { HOLDFAST_JWT_SECRET: secret, HOLDFAST_JWT_ISSUER: issuer, HOLDFAST_JWT_AUDIENCE: audience },
  });

  /** Gives each attempt the next of some tokens, which last so many seconds; all later ones get the last. */
  function openWith(lifetimes: readonly number[]) {
    const attempts: number[] = [];
    const headers = async () => {
      const lifetime = lifetimes[Math.min(attempts.length, lifetimes.length - 1)] as number;
      attempts.push(lifetime);
      // From now on to the full second after it, which is how tokens tell the time.
      const token = await signWithSecret(secret, { exp: Math.ceil(fromNow(lifetime)) });
      return { authorization: `Bearer ${token}` };
    };
    const transport = createGrpcTransport({ target: guarded.grpcAddress, headers });
    cleanUp.defer(() => transport.close());
    return { attempts, client: createHoldfastClient({ transport }) };
  }

  it("goes on with the next one when it expires", async () => {
    const { attempts, client } = openWith([1, 3600]);
    const watch = follow(client, { shopId: "default" });
    await until("a second attempt is made", () => attempts.length === 2, 30_000);
    const admin = openWith([3600]).client;
    const { commit } = await admin.users.createUser({ userId: "ann" });
    await watch.reached(commit?.position);
    expect(watch.positions()).toEqual(upTo(commit?.position));
  });

  it("ends when there is no valid one any more", async () => {
    const { attempts, client } = openWith([1, -60]);
    const error = await follow(client, { shopId: "default" }).ended;
    expect([(error as RefusedError).refusal.reason, attempts]).toEqual(["UNAUTHENTICATED", [1, -60]]);
  });
});

it("leaves a connection that went silent", async () => {
  const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
  const { proxy, client } = await openClient(holdfast, cleanUp, {}, "connect-node by HTTP/1.1 and JSON");
  const bookmarkInterval = { seconds: 0n, nanos: 50_000_000 };
  const watch = follow(client, { shopId, bookmarkInterval }, { silenceMs: 500 });
  await watch.reached(await commitSome(shopId));
  proxy.swallow();
  const last = await commitSome(shopId);
  proxy.accept();
  await watch.reached(last);
  expect(watch.positions()).toEqual(upTo(last));
});

it.each([Number.POSITIVE_INFINITY, 2 ** 31])("with a silence of %d ms stays on its connection", async (silenceMs) => {
  const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
  const ends: unknown[] = [];
  const { client } = await openClient(holdfast, cleanUp, { onRepeat: (error) => ends.push(error) });
  const watch = follow(client, { shopId }, { silenceMs });
  await watch.reached(await commitSome(shopId));
  expect(ends).toEqual([]);
});

describe("a watch that cannot go on", () => {
  it.each([
    ["by position", {}],
    ["as a consumer", { start: { case: "consumer", value: "mailer" } }],
  ] as const)("%s says that the history has changed", async (_, request) => {
    const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
    const { proxy, client } = await openClient(holdfast, cleanUp);
    const watch = follow(client, { shopId, ...request });
    const last = await commitSome(shopId);
    await watch.reached(last);
    await holdfast.grpc.events.ackEvents({ shopId, consumer: "mailer", position: last ?? 0n });
    proxy.refuse();
    await commitSome(shopId);
    await rewrite(shopId, last);
    // One that has not seen the commit that was there: only the watcher's own memory tells.
    const other = await startHoldfast(holdfast.urls);
    cleanUp.defer(() => other.stop());
    proxy.retarget(`http://${other.grpcAddress}`);
    proxy.accept();
    const error = await watch.ended;
    expect(error).toBeInstanceOf(RefusedError);
    expect((error as RefusedError).refusal.reason).toBe("HISTORY_CHANGED");
  });

  it("says that a newer watch took its consumer, and leaves it to that one", async () => {
    const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
    const { client } = await openClient(holdfast, cleanUp);
    const request = { shopId, start: { case: "consumer", value: "mailer" } } as const;
    const older = follow(client, request);
    await older.reached(1n);
    const newer = follow(client, request);
    const error = await older.ended;
    expect(error).toBeInstanceOf(RefusedError);
    expect((error as RefusedError).refusal.reason).toBe("CONSUMER_TAKEN");
    await newer.reached(await commitSome(shopId));
  });

  it("says that there is no such shop", async () => {
    const { client } = await openClient(holdfast, cleanUp);
    const error = await follow(client, { shopId: "no-such-shop" }).ended;
    expect((error as RefusedError).refusal.reason).toBe("SHOP_NOT_FOUND");
  });

  it.each(["while it waits for a commit", "while its server is away"])(
    "ends with its signal's reason %s",
    async (when) => {
      const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
      const away = Promise.withResolvers<void>();
      const slow = { firstPauseMs: 60_000, longestPauseMs: 60_000, onRepeat: () => setImmediate(away.resolve) };
      const { proxy, client } = await openClient(holdfast, cleanUp, slow);
      const watch = follow(client, { shopId });
      await watch.reached(1n);
      if (when === "while its server is away") {
        proxy.refuse();
        await away.promise;
      }
      watch.stopper.abort("enough");
      expect(await watch.ended).toBe("enough");
    },
  );
});

it("ends its stream when its loop is left", async () => {
  const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
  const { transport } = await openTransport("grpc-js", holdfast, cleanUp);
  const signals: (AbortSignal | undefined)[] = [];
  const stream: Transport["stream"] = (method, signal, ...rest) => {
    signals.push(signal);
    return transport.stream(method, signal, ...rest);
  };
  for await (const message of createHoldfastClient({ transport: { ...transport, stream } }).watch({ shopId })) {
    expect(message.value.position).toBe(1n);
    break;
  }
  expect(signals.map((signal) => signal?.aborted)).toEqual([true]);
});
