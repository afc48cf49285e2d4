import type { Redis } from "ioredis";
import { afterAll, beforeAll, expect } from "vitest";
import type { PrivateRedis } from "../../src/dev/private-redis.ts";
import { shopKeys } from "../../src/shop/keys.ts";
import { entryFields, parseEntry } from "../../src/shop/log-entry.ts";
import { connectRedis, type ScriptRunner } from "../../src/shop/redis.ts";
import { parseReply, type Reply } from "../../src/shop/reply.ts";
import { loadScripts, type Scripts } from "../../src/shop/scripts.ts";
import { startRedis } from "../helpers/servers.ts";
import { type Changes, changesBetween, type Dump, dumpAll, takeSnapshot } from "./dump.ts";

/** The scripts as the product assembles them. */
export const scripts = loadScripts();

/** A value of ARGV. */
export type Value = string | number;

/** Arguments by the names of a script's header. */
export type Arguments = Readonly<Record<string, Value>>;

/** The largest number a shop may hold: 2^53-1. */
export const largest = Number.MAX_SAFE_INTEGER;

/** When the shop of a test is created, in milliseconds; every run is one millisecond later unless it brings a clock. */
export const startMs = 1_700_000_000_000;

/** The commit id of `shop_created`, position 1 of every shop. */
export const birthId = commitIdOf(0);

/** What an argument is when a test does not say: the quiet choice. `clock_ms`, ids and `call` are made for each run. */
const quiet: Arguments = {
  oldest_id_ms: 0,
  looked_up: 0,
  memory_count: 1_000_000,
  reason: 1,
  reference_json: '""',
  expected_available_count: "",
  title_json: '"Title"',
  price_minor: "",
  max_per_user: "",
  sale_start_ms: "",
  sale_end_ms: "",
  withdrawn: "",
  email_key: "",
  private_json: "{}",
  referral_code: "",
  require_referral: 0,
  has_email: 0,
  reason_json: '""',
  user_id: "",
  hold_id: "",
  hold_ms: 600_000,
  payment_method: 3,
  pending_ms: 600_000,
  as_of_position: 0,
  record: "",
  payment_reference_json: '""',
  charge_id_json: '""',
  by_worker: 0,
  amount_minor: "",
  restock: 0,
};

/** The referral code of a user of whom a test does not say. */
export function codeOf(userId: Value | undefined): string {
  return `code-${userId}`;
}

function commitIdOf(count: number): string {
  return `00000000-0000-7000-8000-${String(count).padStart(12, "0")}`;
}

/** The id of the expiry that a run commits before its own commit: the run's UUIDv7 as a UUIDv8. */
export function expiryIdOf(commitId: string): string {
  return `${commitId.slice(0, 14)}8${commitId.slice(15)}`;
}

/** The lines of a cart as scripts take them: sku, quantity, expected price (absent = any). */
export function cart(...lines: (readonly [sku: string, quantity: Value, expected?: Value])[]): Value[] {
  return lines.flatMap(([sku, quantity, expected]) => [sku, quantity, expected ?? ""]);
}

/** A StockLevel as it stands in events, with its available, held and sold units. */
export function level(sku: string, counts: readonly [number, number, number], price: number): object {
  const [available, held, sold] = counts;
  return { sku, available_count: available, held_count: held, sold_count: sold, price_minor: price };
}

const threeQuantities = [
  ["ps5", 2],
  ["tv", 1],
  ["ps5", 1],
] as const;

/** Three lines of two SKUs, one of them on two lines. */
export const threeLines = cart(...threeQuantities);

/** {@link threeLines} as they stand in events, at 100 minor units each. */
export const threeLinesJson = threeQuantities.map(([sku, quantity]) => ({ sku, quantity, price_minor: 100 }));

/** The user's hold `h1` of {@link threeLines} as it stands in events. */
export function holdJson(fields: object): object {
  return { hold_id: "h1", user_id: "u1", lines: threeLinesJson, order_id: "", ...fields };
}

/** What is gone from `holds` when a hold has ended. */
export function endedFields(holdId: string): Record<string, null> {
  return {
    [`${holdId}:user`]: null,
    [`${holdId}:expire`]: null,
    [`${holdId}:created`]: null,
    [`${holdId}:lines`]: null,
  };
}

/** The members of `due_skus` for `h1`, with what became of them. */
export function dueSkus<Score>(expireMs: number, score: Score): Record<string, Score> {
  return { [`ps5:000${expireMs}:h1`]: score, [`tv:000${expireMs}:h1`]: score };
}

/** What a run answered, and what it changed. */
export interface Observed {
  readonly reply: Reply;
  readonly changes: Changes;
  /** The log's last entry before. */
  readonly lastCommitId: string | undefined;
}

/** A product of a test's shop. */
export interface ProductContent {
  readonly count?: number;
  readonly priceMinor?: number;
  readonly maxPerUser?: number;
}

/** One shop, alone in its Redis, and the scripts that run on it. */
export class LuaShop {
  readonly keys = shopKeys("shop");
  readonly redis: Redis;
  readonly #runner: ScriptRunner;
  /** The epoch that runs bring. */
  epoch = "";
  /** The clock that the last run brought, in milliseconds. */
  nowMs = startMs;
  /** What the last run brought. */
  commitId = birthId;
  requestId = "";
  call = "";
  #runCount = 0;

  constructor(runner: ScriptRunner) {
    this.#runner = runner;
    this.redis = runner.connections[0] as Redis;
  }

  /** Runs a script and returns what Redis answered. */
  raw(name: keyof Scripts, args: Arguments = {}, tail: readonly Value[] = []): Promise<unknown> {
    return this.send(name, this.values(name, args, tail));
  }

  /** Runs a script with values as they stand. */
  send(name: keyof Scripts, values: readonly Value[]): Promise<unknown> {
    return this.#runner.run(scripts[name], this.keys, values);
  }

  /** Runs a script of the commit path. */
  async run(name: keyof Scripts, args?: Arguments, tail?: readonly Value[]): Promise<Reply> {
    return parseReply(await this.raw(name, args, tail));
  }

  /** Runs a script that has to commit, to bring a test where it begins. Returns the position. */
  async commit(name: keyof Scripts, args?: Arguments, tail?: readonly Value[]): Promise<number> {
    const reply = await this.run(name, args, tail);
    expect(reply).toMatchObject({ kind: "OK", commitId: this.commitId });
    return (reply as Extract<Reply, { kind: "OK" }>).position;
  }

  /** Runs a script and tells every change it made. */
  async observe(name: keyof Scripts, args?: Arguments, tail?: readonly Value[]): Promise<Observed> {
    const before = await this.dump();
    const reply = await this.run(name, args, tail);
    return {
      reply,
      changes: changesBetween(before, await this.dump()),
      lastCommitId: before.meta?.commit_id as string | undefined,
    };
  }

  dump(): Promise<Dump> {
    return dumpAll(this.redis);
  }

  snapshot(): Promise<() => Promise<void>> {
    return takeSnapshot(this.redis);
  }

  /** The values of a run in the order of the script's header. */
  values(name: keyof Scripts, args: Arguments = {}, tail: readonly Value[] = []): Value[] {
    const { argumentNames } = scripts[name];
    const unknown = Object.keys(args).filter((each) => !argumentNames.includes(each));
    expect(unknown, `arguments that ${name} does not have`).toEqual([]);
    const known: Arguments = {
      ...quiet,
      own_referral_code: codeOf(args.user_id),
      epoch: this.epoch,
      ...(argumentNames.includes("clock_ms") ? this.#callArguments(args) : args),
    };
    const named = argumentNames.map((each) => {
      expect(known, `an argument of ${name}`).toHaveProperty(each);
      return known[each] as Value;
    });
    return [...named, ...tail];
  }

  #callArguments(args: Arguments): Arguments {
    this.#runCount += 1;
    this.nowMs = typeof args.clock_ms === "number" ? args.clock_ms : this.nowMs + 1;
    this.commitId = String(args.commit_id ?? commitIdOf(this.#runCount));
    this.requestId = String(args.request_id ?? `r${this.#runCount}`);
    this.call = JSON.stringify({ rpc: "Test", request_id: this.requestId });
    const { nowMs, commitId, requestId, call } = this;
    return { clock_ms: nowMs, commit_id: commitId, request_id: requestId, call, ...args };
  }

  /** Puts a product and its stock. */
  async product(sku: string, { count = 0, priceMinor = 100, maxPerUser = 0 }: ProductContent = {}): Promise<void> {
    await this.commit("putProduct", {
      sku,
      price_minor: priceMinor,
      ...(maxPerUser > 0 && { max_per_user: maxPerUser }),
    });
    if (count > 0) {
      await this.commit("adjustStock", { sku, delta_count: count });
    }
  }

  /** Creates a user with money. */
  async user(userId: string, balance = 0): Promise<void> {
    await this.commit("createUser", { user_id: userId });
    if (balance > 0) {
      await this.commit("depositFunds", { user_id: userId, amount_minor: balance });
    }
  }

  /** Holds units of one SKU and returns when the hold is due, in milliseconds. */
  async hold(holdId: string, sku: string, quantity = 1, args: Arguments = {}): Promise<number> {
    const holdMs = Number(args.hold_ms ?? quiet.hold_ms);
    await this.commit("holdStock", { hold_id: holdId, ...args }, cart([sku, quantity]));
    return this.nowMs + holdMs;
  }

  /** Lets the log go of everything up to and with a position, as if it had been durable for long. */
  async forgetLog(position: number): Promise<void> {
    await this.redis.xtrim(this.keys.log as string, "MINID", String(position + 1));
  }

  setMeta(values: Arguments): Promise<number> {
    return this.redis.hset(this.keys.meta as string, values);
  }
}

/** Gives a test file a Redis of its own; `open` empties it and opens a shop in it, the way the product does. */
export function useShops(): { open(): Promise<LuaShop>; empty(): Promise<LuaShop> } {
  let redis: PrivateRedis;
  let runner: ScriptRunner;
  beforeAll(async () => {
    redis = await startRedis();
    const { url } = redis;
    runner = await connectRedis({ url, commandTimeoutMs: 10_000, onError: (error) => console.error(error) });
  });
  afterAll(async () => {
    await runner?.close();
    await redis?.stop();
  });
  const empty = async () => {
    await (runner.connections[0] as Redis).flushall();
    return new LuaShop(runner);
  };
  return { empty, open: async () => openShop(await empty()) };
}

/** What `shop_created` leaves in the log. */
export const birthFields = entryFields({
  position: 1,
  commitId: birthId,
  epoch: 1,
  timeMs: startMs,
  call: "{}",
  events: '[{"shop_created":{}}]',
  private: "",
});

async function openShop(shop: LuaShop): Promise<LuaShop> {
  const [, epoch] = (await shop.raw("look", lookArguments)) as [string, string];
  const load = (stepNumber: number, step: string, values: Value[]) =>
    shop.raw("load", { token: "token", step_number: stepNumber, rest_ms: -1, step }, values);
  expect(await load(0, "clear", ["0"])).toBe(1);
  expect(await load(1, "log", [1, birthFields.length, ...birthFields])).toBe(1);
  expect(await load(2, "head", [1, birthId, startMs, 0])).toBe(1);
  expect(await shop.raw("finish", { token: "token", next_epoch: epoch })).toBe(1);
  shop.epoch = epoch;
  return shop;
}

/** How Look is called for a shop that is at its first commit. */
export const lookArguments: Arguments = {
  head_position: 1,
  head_commit_id: birthId,
  token: "token",
  durable_epoch: 1,
  force: 0,
};

/** Asserts that a run committed exactly these events, with nothing else in the log, and changed this state and no other. */
export function expectCommit(
  shop: LuaShop,
  { reply, changes, lastCommitId }: Observed,
  events: object[],
  state: Changes,
  secret = "",
): void {
  const { position, payload } = reply as Extract<Reply, { kind: "OK" }>;
  const { commitId, nowMs, call, epoch } = shop;
  // An entry with something private is more than the reply tells.
  const previousCommitId = secret === "" ? lastCommitId : undefined;
  expect(reply).toEqual({
    kind: "OK",
    position,
    commitId,
    timeMs: nowMs,
    payload: expect.any(String),
    previousCommitId,
  });
  expect(JSON.parse(payload as string)).toEqual(events);
  const entry = {
    position,
    commitId,
    epoch: Number(epoch),
    timeMs: nowMs,
    call,
    events: payload as string,
    private: secret,
  };
  const at = String(position);
  expect(changes).toEqual({
    ...state,
    log: { [`${position}-0`]: entryFields(entry) },
    meta: { position: at, commit_id: commitId, time: String(nowMs) },
    recent_0: { [`request:${shop.requestId}`]: at, ...state.recent_0 },
  });
}

/** The log from a position on, parsed. */
export async function readEntries(
  shop: LuaShop,
  from: number,
): Promise<{ position: number; commitId: string; events: object[] }[]> {
  const entries = await shop.redis.xrange(shop.keys.log as string, String(from), "+");
  return entries.map(([id, fields]) => {
    const { position, commitId, events } = parseEntry(id, fields);
    return { position, commitId, events: JSON.parse(events) as object[] };
  });
}
