import { Code, ConnectError } from "@connectrpc/connect";
import { Client } from "pg";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventBatch, WatchEventsResponse } from "../../gen/holdfast/v1/event_service_pb.js";
import { createConsumers } from "../../src/shop/consumers.ts";
import { connectRedis } from "../../src/shop/redis.ts";
import {
  type Clients,
  type Holdfast,
  type HoldfastProcess,
  spawnHoldfast,
  startHoldfast,
} from "../helpers/holdfast.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { readRefusal, refusalOf, type SeenRefusal } from "../helpers/refusals.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const first = useHoldfast();
let second: HoldfastProcess;
/** The refusal of a consumer that is ahead of the head for good: it takes ten seconds, so the other tests run meanwhile. */
let aheadForGood: Promise<SeenRefusal>;

beforeAll(async () => {
  second = await spawnHoldfast(first.urls);
  const shopId = await createShop(first.grpc);
  await first.grpc.events.ackEvents({ shopId, consumer: "mail", position: 1n });
  await query("update consumers set position = 9 where shop_id = $1", [shopId]);
  const watch = openWatch(first.grpc, shopId, "mail");
  aheadForGood = refusalOf(watch.next());
  aheadForGood.catch(() => {});
});

afterAll(async () => {
  await second?.kill();
});

async function query(text: string, values: readonly unknown[]): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: first.urls.databaseUrl });
  await client.connect();
  const { rows } = await client.query(text, [...values]).finally(() => client.end());
  return rows;
}

/** A watch of a consumer, read message by message. */
interface Watch {
  next(): Promise<WatchEventsResponse["message"]>;
  /** The position of the next commit; what is no commit is passed over. */
  nextPosition(): Promise<number>;
  /** Reads until the server ends the watch, and says how it did. */
  end(): Promise<SeenRefusal | "OK">;
  cut(): void;
}

function openWatch(clients: Clients, shopId: string, consumer: string, bookmarkMs = 5000): Watch {
  const cut = new AbortController();
  const bookmarkInterval = { seconds: 0n, nanos: bookmarkMs * 1_000_000 };
  const interval = bookmarkMs < 1000 ? { bookmarkInterval } : {};
  const request = { shopId, start: { case: "consumer", value: consumer } as const, ...interval };
  const messages = clients.events.watchEvents(request, { signal: cut.signal })[Symbol.asyncIterator]();
  const next = async (): Promise<WatchEventsResponse["message"]> => {
    const { done, value } = await messages.next();
    if (done === true) {
      throw new Error("the watch ended with OK");
    }
    return value.message;
  };
  const nextPosition = async (): Promise<number> => {
    let message = await next();
    while (message.case !== "batch") {
      message = await next();
    }
    return Number((message.value as EventBatch).position);
  };
  const end = async (): Promise<SeenRefusal | "OK"> => {
    try {
      for (;;) {
        if ((await messages.next()).done === true) {
          return "OK";
        }
      }
    } catch (error) {
      return readRefusal(error);
    }
  };
  return { next, nextPosition, end, cut: () => cut.abort() };
}

/** Makes commits 2 to `count` of a shop. */
async function createUsers(shopId: string, count: number): Promise<void> {
  for (let position = 2; position <= count; position += 1) {
    await first.grpc.users.createUser({ shopId, userId: `u${position}` });
  }
}

const taken = { code: Code.Aborted, reason: "CONSUMER_TAKEN", metadata: { consumer: "mail" } };

describe.each(["grpc", "http"] as const)("consumers on the %s door", (door) => {
  const events = () => first[door].events;

  it("are created by their first acknowledgement, and only move forwards", async () => {
    const shopId = await createShop(first.grpc);
    await createUsers(shopId, 5);
    const ack = async (position: bigint) => (await events().ackEvents({ shopId, consumer: "mail", position })).position;
    const read = async () => (await events().getConsumer({ shopId, consumer: "mail" })).consumer;
    expect(await ack(2n)).toBe(2n);
    const created = await read();
    expect(created).toMatchObject({ consumer: "mail", position: 2n, lagCount: 3n });
    expect(await ack(4n)).toBe(4n);
    const moved = await read();
    expect(moved).toMatchObject({ position: 4n, lagCount: 1n });
    expect(moved?.updateTime).not.toEqual(created?.updateTime);
    expect(await ack(3n), "an older position succeeds and moves nothing").toBe(4n);
    expect(await read()).toEqual(moved);
    expect(await ack(5n)).toBe(5n);
    expect(await read()).toMatchObject({ position: 5n, lagCount: 0n });
  });

  it("may be acknowledged by many at once: the highest position stays", async () => {
    const shopId = await createShop(first.grpc);
    await createUsers(shopId, 20);
    const positions = Array.from({ length: 20 }, (_, index) => BigInt(((index * 7) % 20) + 1));
    const answers = await Promise.all(
      positions.map(async (position) => ({
        position,
        inForce: (await events().ackEvents({ shopId, consumer: "mail", position })).position,
      })),
    );
    expect(answers.every(({ position, inForce }) => inForce >= position)).toBe(true);
    expect((await events().getConsumer({ shopId, consumer: "mail" })).consumer?.position).toBe(20n);
  });

  it("are refused a position beyond the durable head, and not created by it", async () => {
    const shopId = await createShop(first.grpc);
    const ack = events().ackEvents({ shopId, consumer: "mail", position: 2n });
    const at = { position: "1", epoch: expect.any(String) };
    expect(await refusalOf(ack)).toMatchObject({ code: Code.OutOfRange, reason: "POSITION_AHEAD", metadata: at });
    expect(await refusalOf(events().getConsumer({ shopId, consumer: "mail" }))).toMatchObject({
      code: Code.NotFound,
      reason: "CONSUMER_NOT_FOUND",
      metadata: { consumer: "mail", position: "1" },
    });
  });

  it("are refused in a shop that does not exist", async () => {
    const shopId = uniqueId("nowhere");
    const noShop = { code: Code.NotFound, reason: "SHOP_NOT_FOUND", metadata: { shop_id: shopId } };
    expect(await refusalOf(events().ackEvents({ shopId, consumer: "mail", position: 0n }))).toMatchObject(noShop);
    expect(await refusalOf(events().getConsumer({ shopId, consumer: "mail" }))).toMatchObject(noShop);
    expect(await refusalOf(events().listConsumers({ shopId }))).toMatchObject(noShop);
    expect(await refusalOf(openWatch(first[door], shopId, "mail").next())).toMatchObject(noShop);
    expect(await query("select * from consumers where shop_id = $1", [shopId])).toEqual([]);
  });

  it("are refused names and positions that break a rule", async () => {
    const shopId = await createShop(first.grpc);
    const fieldsOf = async (call: Promise<unknown>) => {
      const { reason, fields } = await refusalOf(call);
      return { reason, fields };
    };
    const bad = (field: string) => ({ reason: "VALIDATION_FAILED", fields: [field] });
    expect(await fieldsOf(events().ackEvents({ shopId, consumer: "", position: 0n }))).toEqual(bad("consumer"));
    expect(await fieldsOf(events().ackEvents({ shopId, consumer: "a b", position: 0n }))).toEqual(bad("consumer"));
    expect(await fieldsOf(events().ackEvents({ shopId, consumer: "a", position: -1n }))).toEqual(bad("position"));
    expect(await fieldsOf(events().getConsumer({ shopId, consumer: "x".repeat(65) }))).toEqual(bad("consumer"));
    expect(await fieldsOf(events().listConsumers({ shopId, pageSize: -1 }))).toEqual(bad("page_size"));
    expect(await fieldsOf(openWatch(first[door], shopId, "").next())).toEqual(bad("consumer"));
  });

  it("are listed by name, in pages of their shop's own", async () => {
    const shopId = await createShop(first.grpc);
    await createUsers(shopId, 3);
    for (const [index, consumer] of ["sms", "Mail", "mail", "fulfil-1", "fulfil.2"].entries()) {
      await events().ackEvents({ shopId, consumer, position: BigInt(index % 4) });
    }
    const names: string[] = [];
    let pageToken = "";
    do {
      const page = await events().listConsumers({ shopId, pageSize: 2, pageToken });
      expect(page.consumers.every(({ position, lagCount }) => position + lagCount === 3n)).toBe(true);
      names.push(...page.consumers.map(({ consumer }) => consumer));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(names).toEqual(["Mail", "fulfil-1", "fulfil.2", "mail", "sms"]);
    const other = await createShop(first.grpc);
    const { nextPageToken } = await events().listConsumers({ shopId, pageSize: 2 });
    for (const wrong of [
      events().listConsumers({ shopId: other, pageToken: nextPageToken }),
      events().listConsumers({ shopId, pageToken: `${nextPageToken.slice(0, -4)}AAAA` }),
    ]) {
      expect(await refusalOf(wrong)).toMatchObject({ reason: "VALIDATION_FAILED", fields: ["page_token"] });
    }
  });

  it("watch after what they acknowledged, not after what they were sent", async () => {
    const shopId = await createShop(first.grpc);
    await createUsers(shopId, 4);
    const watch = openWatch(first[door], shopId, "mail");
    expect([await watch.nextPosition(), await watch.nextPosition(), await watch.nextPosition()]).toEqual([1, 2, 3]);
    expect((await events().getConsumer({ shopId, consumer: "mail" })).consumer).toMatchObject({
      position: 0n,
      lagCount: 4n,
    });
    await events().ackEvents({ shopId, consumer: "mail", position: 2n });
    watch.cut();
    const again = openWatch(first[door], shopId, "mail");
    expect(await again.nextPosition()).toBe(3);
    again.cut();
  });

  it("are taken by the newest watch of the same process", async () => {
    const shopId = await createShop(first.grpc);
    const older = openWatch(first[door], shopId, "mail");
    const other = openWatch(first[door], shopId, "sms");
    expect([await older.nextPosition(), await other.nextPosition()]).toEqual([1, 1]);
    const newer = openWatch(first[door], shopId, "mail");
    expect(await newer.nextPosition()).toBe(1);
    expect(await older.end()).toMatchObject(taken);
    await createUsers(shopId, 2);
    expect([await newer.nextPosition(), await other.nextPosition()]).toEqual([2, 2]);
    newer.cut();
    other.cut();
  });
});

describe("watches of one consumer in two processes", () => {
  it("end as soon as a newer one begins", async () => {
    const shopId = await createShop(first.grpc);
    let older = openWatch(first.grpc, shopId, "mail");
    await older.nextPosition();
    for (const clients of [second.http, first.http, second.grpc, first.grpc]) {
      const newer = openWatch(clients, shopId, "mail");
      expect(await newer.nextPosition()).toBe(1);
      expect(await older.end()).toMatchObject(taken);
      older = newer;
    }
    older.cut();
  });

  it("end by the hint alone", async () => {
    const shopId = await createShop(first.grpc);
    const options = { db: first.server.store.db, logger: pino({ enabled: false }), lookMs: 3_600_000 };
    const runner = await connectRedis({ url: first.urls.redisUrl, commandTimeoutMs: 5000, onError: () => {} });
    const here = await createConsumers({ ...options, redis: first.server.store.redis });
    const there = await createConsumers({ ...options, redis: runner });
    const older = await here.take({ shopId, consumer: "mail" });
    const other = await here.take({ shopId, consumer: "sms" });
    const newer = await there.take({ shopId, consumer: "mail" });
    await expect.poll(() => older.taken.aborted).toBe(true);
    expect([other.taken.aborted, newer.taken.aborted]).toEqual([false, false]);
    here.close();
    there.close();
    await runner.close();
  });

  it("leave one when twenty begin at once", async () => {
    const shopId = await createShop(first.grpc);
    const doors = [first.grpc, second.grpc, first.http, second.http];
    const watches = Array.from({ length: 20 }, (_, index) =>
      openWatch(doors[index % doors.length] as Clients, shopId, "mail"),
    );
    let endedCount = 0;
    const ends = watches.map((watch) =>
      watch.end().then((refusal) => {
        endedCount += 1;
        return refusal;
      }),
    );
    await expect.poll(() => endedCount, { timeout: 10_000 }).toBe(19);
    const last = openWatch(first.grpc, shopId, "mail");
    await last.nextPosition();
    for (const refusal of await Promise.all(ends)) {
      expect(refusal).toMatchObject(taken);
    }
    last.cut();
  });

  it("end although nobody gave a hint", async () => {
    const shopId = await createShop(first.grpc);
    const watch = openWatch(first.grpc, shopId, "mail");
    await watch.nextPosition();
    await query("update consumers set session = 'newer' where shop_id = $1", [shopId]);
    expect(await watch.end()).toMatchObject(taken);
  });

  it("go on when the server of one stops: the next begins after what was acknowledged", async () => {
    const leaving = await spawnHoldfast(first.urls);
    const shopId = await createShop(first.grpc);
    await createUsers(shopId, 3);
    const watch = openWatch(leaving.grpc, shopId, "mail");
    await watch.nextPosition();
    await leaving.grpc.events.ackEvents({ shopId, consumer: "mail", position: 1n });
    leaving.signal("SIGTERM");
    expect(await watch.end()).toBe("OK");
    const next = openWatch(first.grpc, shopId, "mail");
    expect(await next.nextPosition()).toBe(2);
    next.cut();
    await leaving.ended;
  });
});

describe("a consumer that is ahead of a Postgres that lost its newest commits", () => {
  it("waits until they are back, and is sent what comes after its position", async () => {
    const shopId = await createShop(first.grpc);
    await createUsers(shopId, 3);
    await first.grpc.events.ackEvents({ shopId, consumer: "mail", position: 3n });
    await query("update consumers set position = 5 where shop_id = $1", [shopId]);
    const { consumer } = await first.grpc.events.getConsumer({ shopId, consumer: "mail" });
    expect(consumer).toMatchObject({ position: 5n, lagCount: 0n });
    const watch = openWatch(first.grpc, shopId, "mail");
    const next = watch.nextPosition();
    for (const userId of ["a", "b", "c"]) {
      await first.grpc.users.createUser({ shopId, userId });
    }
    expect(await next).toBe(6);
    watch.cut();
  });

  it("is told of a newer watch also while it waits", async () => {
    const shopId = await createShop(first.grpc);
    await first.grpc.events.ackEvents({ shopId, consumer: "mail", position: 1n });
    await query("update consumers set position = 9 where shop_id = $1", [shopId]);
    const older = openWatch(first.grpc, shopId, "mail").end();
    const session = async () => (await query("select session from consumers where shop_id = $1", [shopId]))[0]?.session;
    await expect.poll(session).not.toBe("");
    const newer = openWatch(second.grpc, shopId, "mail");
    const ended = newer.end().catch(ConnectError.from);
    expect(await older).toMatchObject(taken);
    newer.cut();
    await ended;
  });

  it("is refused after ten seconds, and keeps its position", async () => {
    expect(await aheadForGood).toMatchObject({
      code: Code.OutOfRange,
      reason: "POSITION_AHEAD",
      metadata: { position: "1", epoch: expect.stringMatching(/^\d+$/) },
    });
  }, 20_000);
});

describe("with a Postgres and a Redis that can be cut off", () => {
  let postgres: TcpProxy;
  let redis: TcpProxy;
  let holdfast: Holdfast;

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startProxy(first.urls.databaseUrl), startProxy(first.urls.redisUrl)]);
    holdfast = await startHoldfast({ redisUrl: redis.url, databaseUrl: postgres.url });
  });

  afterAll(async () => {
    await holdfast?.stop();
    await Promise.all([postgres?.stop(), redis?.stop()]);
  });

  it("one query looks after all the consumers of a process", async () => {
    const shopId = await createShop(first.grpc);
    const watches = Array.from({ length: 30 }, (_, index) => openWatch(holdfast.grpc, shopId, `c${index}`));
    await Promise.all(watches.map((watch) => watch.nextPosition()));
    const looks = postgres.countRequests("as wanted (shop_id, consumer)");
    await expect.poll(looks, { timeout: 10_000 }).toBeGreaterThanOrEqual(2);
    expect(looks()).toBeLessThan(10);
    for (const watch of watches) {
      watch.cut();
    }
  });

  it("a newer watch ends the older also while Redis is away", async () => {
    const shopId = await createShop(first.grpc);
    const older = openWatch(holdfast.grpc, shopId, "mail");
    await older.nextPosition();
    redis.refuse();
    const newer = openWatch(holdfast.http, shopId, "mail");
    expect(await newer.nextPosition()).toBe(1);
    expect(await older.end()).toMatchObject(taken);
    redis.accept();
    newer.cut();
  });

  it("every call says SHOP_UNAVAILABLE while Postgres is away; a watch goes on when it is back", async () => {
    const shopId = await createShop(first.grpc);
    const watch = openWatch(holdfast.grpc, shopId, "mail");
    await watch.nextPosition();
    postgres.refuse();
    await expect.poll(() => holdfast.server.store.shops.awayStore(), { timeout: 10_000 }).toBe("Postgres");
    const unavailable = { code: Code.Unavailable, reason: "SHOP_UNAVAILABLE", retryMs: 1000 };
    for (const { events } of [holdfast.grpc, holdfast.http]) {
      expect(await refusalOf(events.ackEvents({ shopId, consumer: "mail", position: 1n }))).toMatchObject(unavailable);
      expect(await refusalOf(events.getConsumer({ shopId, consumer: "mail" }))).toMatchObject(unavailable);
      expect(await refusalOf(events.listConsumers({ shopId }))).toMatchObject(unavailable);
    }
    expect(await refusalOf(openWatch(holdfast.grpc, shopId, "other").next())).toMatchObject(unavailable);
    postgres.accept();
    await first.grpc.users.createUser({ shopId, userId: "late" });
    expect(await watch.nextPosition()).toBe(2);
    watch.cut();
  });
});
