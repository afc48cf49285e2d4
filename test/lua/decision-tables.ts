import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Reply } from "../../src/shop/reply.ts";
import type { Scripts } from "../../src/shop/scripts.ts";
import { changesBetween, type Dump } from "./dump.ts";
import {
  type Arguments,
  expiryIdOf,
  type LuaShop,
  largest,
  lookArguments,
  readEntries,
  startMs,
  type useShops,
  type Value,
} from "./fixture.ts";

/** A call that succeeds, and what a shop needs for it. The tables below change one thing of it per row. */
export interface GoodCall {
  readonly script: keyof Scripts;
  readonly given: (shop: LuaShop) => Promise<unknown>;
  readonly args: Arguments;
  readonly tail?: readonly Value[];
}

type Shops = ReturnType<typeof useShops>;

/** Texts that are no integer as scripts take them, or too large for one: 2^53 is the first number that rounding hides. */
export const notIntegers = [
  "",
  "x",
  "1.5",
  "1e15",
  "0x10",
  " 1",
  "01",
  "-0",
  "nan",
  "9007199254740992",
  "-9007199254740992",
];

/** Texts that are no integer of zero or more. */
export const notCounts = [...notIntegers, "-1"];

/** Texts that are no integer of one or more. */
export const notPositive = [...notCounts, "0"];

/** The same without the empty text, where that means "not given". */
export const present = (values: readonly Value[]): Value[] => values.filter((value) => value !== "");

async function prepare(shops: Shops, { given }: GoodCall): Promise<LuaShop> {
  const shop = await shops.open();
  await given(shop);
  return shop;
}

/** Asserts that what runs in between leaves every key as it was. */
export async function expectNoChange<Result>(shop: LuaShop, run: () => Promise<Result>): Promise<Result> {
  const before = await shop.dump();
  const result = await run();
  expect(changesBetween(before, await shop.dump())).toEqual({});
  return result;
}

/** A bad value of one argument, or a bad rest of ARGV: an error for the caller, and no key changed. */
export function describeBadArguments(
  shops: Shops,
  call: GoodCall,
  values: Readonly<Record<string, readonly Value[]>>,
  tails: readonly (readonly Value[])[] = [],
): void {
  const rows: [string, Arguments, readonly Value[] | undefined][] = [
    ...Object.entries(values).flatMap(([name, bad]) =>
      bad.map((value): [string, Arguments, readonly Value[] | undefined] => [
        `${name} = ${JSON.stringify(value)}`,
        { [name]: value },
        call.tail,
      ]),
    ),
    ...tails.map((tail): [string, Arguments, readonly Value[]] => [
      `rest = ${JSON.stringify(tail).slice(0, 80)}`,
      {},
      tail,
    ]),
  ];

  test(`takes no bad argument: ${Object.keys(values).join(", ")}${tails.length > 0 ? ", rest" : ""}`, async () => {
    const shop = await prepare(shops, call);
    await expectNoChange(shop, async () => {
      for (const [title, args, tail] of rows) {
        await expect(shop.raw(call.script, { ...call.args, ...args }, tail), title).rejects.toThrow(/^BADARG/);
      }
    });
  });
}

/** A call that stops in mid-list: an error, and no key changed. */
function describeMissingValues(shops: Shops, call: GoodCall): void {
  test("does nothing when values are missing", async () => {
    const shop = await prepare(shops, call);
    const values = shop.values(call.script, call.args);
    await expectNoChange(shop, async () => {
      for (let count = 1; count < values.length; count += 1) {
        await expect(shop.send(call.script, values.slice(0, count)), `${count} values`).rejects.toThrow();
      }
    });
  });
}

const badCallArguments = {
  commit_id: ["", "x", "00000000-0000-7000-8000-0000000000001"],
  request_id: [""],
  call: [""],
  oldest_id_ms: notCounts,
  memory_count: notPositive,
  clock_ms: present(notCounts),
};

/** What every mutation does alike: its call arguments, a foreign epoch, request ids it knows or may have forgotten. */
export function describeMutation(shops: Shops, call: GoodCall): void {
  const { script, args, tail } = call;

  describeBadArguments(shops, call, badCallArguments);
  describeMissingValues(shops, call);
  describeMismatch(shops, call);

  test.each(["in", "no longer in"])(
    "answers a known request id with its commit, which is %s the log",
    async (where) => {
      const shop = await prepare(shops, call);
      const at = await shop.commit(script, { ...args, request_id: "again" }, tail);
      const { commitId } = shop;
      const [fields] = Object.values((await shop.dump()).log ?? {}).slice(-1);
      if (where !== "in") {
        await shop.forgetLog(at);
      }
      // Whatever else the repeat brings, also what Postgres might have to be asked for: the id is known.
      await shop.setMeta({ forgotten: shop.nowMs });
      const reply = await expectNoChange(shop, () => shop.run(script, { ...args, request_id: "again" }, tail));
      expect(reply).toEqual({
        kind: "REPLAYED",
        position: at,
        commitId,
        at,
        fields: where === "in" ? fields : undefined,
      });
    },
  );

  test("changes nothing when the log does not take its entry: what may fail comes first", async () => {
    const shop = await prepare(shops, call);
    // The log goes on further than meta knows: XADD fails, and no other write does.
    await shop.redis.xadd(shop.keys.log as string, "9000000000-0", "v", "1");
    await expectNoChange(shop, () =>
      expect(shop.run(script, args, tail)).rejects.toThrow("equal or smaller than the target stream top item"),
    );
  });

  test("asks for a look-up of an id as old as what the memory let go or five minutes younger, or from the future", async () => {
    const shop = await prepare(shops, call);
    await shop.setMeta({ forgotten: startMs });
    const future = startMs + 100_000;
    for (const oldest_id_ms of [0, startMs, startMs + 300_000, future + 300_001]) {
      const reply = await expectNoChange(shop, () =>
        shop.run(script, { ...args, oldest_id_ms, clock_ms: future }, tail),
      );
      expect(reply).toMatchObject({ kind: "LOOK_UP" });
    }
    const restore = await shop.snapshot();
    for (const known of [{ oldest_id_ms: startMs + 300_001 }, { oldest_id_ms: future + 300_000 }, { looked_up: 1 }]) {
      await shop.commit(script, { ...args, ...known, clock_ms: future }, tail);
      await restore();
    }
  });
}

/** A shop that is not in the caller's epoch does nothing for it. */
export function describeMismatch(shops: Shops, { script, given, args, tail }: GoodCall): void {
  test("answers MISMATCH to another epoch, in a sealed shop and in an empty Redis", async () => {
    const shop = await shops.open();
    await given(shop);
    const mismatched = async (epoch: Value) =>
      expect(await expectNoChange(shop, () => shop.raw(script, { ...args, epoch }, tail))).toEqual(["MISMATCH"]);
    await mismatched(Number(shop.epoch) + 1);
    await mismatched("");
    await shop.raw("look", { ...lookArguments, force: 1 });
    await mismatched(shop.epoch);
    await mismatched("");
    await shop.redis.flushall();
    await mismatched(shop.epoch);
  });
}

/** What a cart's refusal says of one SKU. */
export interface Violation {
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** One row of a decision table: what differs from the good call, and the refusal it earns. */
export interface RefusalRow extends Violation {
  readonly title: string;
  readonly given?: (shop: LuaShop) => Promise<unknown>;
  readonly args?: Arguments;
  readonly tail?: readonly Value[];
  readonly retryMs?: number;
  readonly violations?: readonly Violation[];
}

/** Runs a decision table in header order; a reason of the header without a row, or the reverse, fails. */
export function describeRefusals(shops: Shops, call: GoodCall, rows: readonly RefusalRow[]): void {
  const reasons = headerReasons(call.script);
  const ranked = [...rows].sort((a, b) => reasons.indexOf(a.reason) - reasons.indexOf(b.reason));

  test("has a row for every refusal of its header", () => {
    expect([...new Set(ranked.map((row) => row.reason))]).toEqual(reasons);
  });

  test.each(ranked)("refuses $reason: $title", async (row) => {
    const shop = await prepare(shops, call);
    await row.given?.(shop);
    const { position, commit_id } = (await shop.dump()).meta as Record<string, string>;
    const args = { ...call.args, ...row.args };
    const reply = await expectNoChange(shop, () => shop.run(call.script, args, row.tail ?? call.tail));
    expect(reply).toEqual({
      kind: "REFUSED",
      position: Number(position),
      commitId: commit_id,
      reason: row.reason,
      metadata: row.metadata,
      retryMs: row.retryMs,
      violations: row.violations ?? [],
    });
  });
}

/** The reasons that a script's header lists, in order. */
export function headerReasons(script: keyof Scripts): string[] {
  const file = script.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const text = readFileSync(new URL(`../../lua/${file}.lua`, import.meta.url), "utf8");
  const list = /^-- REFUSES +(.+)$/m.exec(text)?.[1]?.replace(/\([^)]*\)/g, "") ?? "";
  return list === "" ? [] : list.split(",").map((reason) => reason.trim());
}

/** When the holds that {@link describeExpiry} makes are due, in milliseconds. */
export const dueMs = startMs + 60_000;

/** Makes holds that are due at `dueMs`, one unit each. */
export async function holdUntilDue(shop: LuaShop, sku: string, ...holdIds: string[]): Promise<void> {
  for (const holdId of holdIds) {
    await shop.hold(holdId, sku, 1, { hold_ms: dueMs - shop.nowMs - 1 });
  }
}

/** Where due holds belong to the good call: holds of the SKU `touched` end before it is decided. */
export interface ExpiryOptions {
  readonly touched: string;
  /** What changes the good call into one that is refused for those SKUs, and why. */
  readonly refused?: { readonly args?: Arguments; readonly tail?: readonly Value[]; readonly reason: string };
}

/** Exact expiry: due holds of the SKUs a call touches are committed before it is answered, and no others. */
export function describeExpiry(shops: Shops, call: GoodCall, { touched, refused }: ExpiryOptions): void {
  const { script, args, tail } = call;
  const open = async (...holdIds: string[]) => {
    const shop = await prepare(shops, call);
    await shop.product("other", { count: 10 });
    await shop.commit("adjustStock", { sku: touched, delta_count: 200 });
    await shop.hold("later", touched);
    // Due first, so that there always is a due hold in the shop.
    await shop.hold("untouched", "other", 1, { hold_ms: dueMs - shop.nowMs - 2 });
    await holdUntilDue(shop, touched, ...holdIds);
    return { shop, from: Number((await shop.dump()).meta?.position) + 1 };
  };
  test("commits the due holds of its SKUs first, as an entry of its own", async () => {
    const { shop, from } = await open("due1", "due2");
    const expired = await afterExpiry(shop, {}, [touched]);
    const reply = await shop.run(script, { ...args, commit_id: commitId, clock_ms: dueMs }, tail);
    const { previousCommitId } = reply as Extract<Reply, { kind: "OK" }>;
    const entries = await readEntries(shop, from);
    expect(entries.map((entry) => entry.commitId)).toEqual([expiryIdOf(commitId), commitId]);
    expect(previousCommitId, "what comes before the call's own commit").toBe(expiryIdOf(commitId));
    expect(entries[0]?.events).toMatchObject([
      { hold_expired: { hold: { hold_id: "due1" } } },
      { hold_expired: { hold: { hold_id: "due2" } } },
    ]);
    const dump = await shop.dump();
    expect(dump.log).toMatchObject(expired.log as object);
    expect(dump.due).toMatchObject({ untouched: String(dueMs - 1), later: expect.any(String) });
    expect(dump.recent_0).toMatchObject({ "hold:due1": expect.stringMatching(` ${from} EXPIRED$`) });
  });

  if (refused !== undefined) {
    test("changes nothing but the expiry when it is refused", async () => {
      const { shop } = await open("due1", "due2");
      const expired = await afterExpiry(shop, {}, [touched]);
      const refusedArgs = { ...args, ...refused.args, commit_id: commitId, clock_ms: dueMs };
      const reply = await shop.run(script, refusedArgs, refused.tail ?? tail);
      expect(reply).toMatchObject({ kind: "REFUSED", reason: refused.reason, commitId: expiryIdOf(commitId) });
      expect(changesBetween(expired, await shop.dump())).toEqual({});
    });
  }

  test("leaves a hold alone until the very millisecond it is due", async () => {
    const { shop, from } = await open("due1");
    await shop.commit(script, { ...args, clock_ms: dueMs - 1 }, tail);
    expect(await readEntries(shop, from)).toHaveLength(1);
  });

  test("never lets a slower clock take time back", async () => {
    const { shop, from } = await open("due1");
    await shop.commit("adjustStock", { sku: "other", delta_count: 1, clock_ms: dueMs });
    const reply = await shop.run(script, { ...args, clock_ms: startMs }, tail);
    expect(reply).toMatchObject({ kind: "OK", timeMs: dueMs });
    const [, , expiry, own] = await readEntries(shop, from);
    expect(expiry?.events).toMatchObject([{ hold_expired: { hold: { hold_id: "due1" } } }]);
    expect(own?.commitId).toBe(shop.commitId);
  });

  test("ends 100 due holds at a time and asks to be run again", async () => {
    const { shop, from } = await open(...Array.from({ length: 101 }, (_, index) => `due${index}`));
    const again = { ...args, request_id: "again", clock_ms: dueMs };
    expect(await shop.run(script, again, tail)).toMatchObject({ kind: "AGAIN", position: from });
    expect(await shop.run(script, again, tail)).toMatchObject({ kind: "OK", position: from + 2 });
    const entries = await readEntries(shop, from);
    expect(entries.map(({ events }) => events.length)).toEqual([100, 1, entries[2]?.events.length]);
  });
}

/** The commit id of the runs whose expiry is compared. */
const commitId = "11111111-1111-7111-8111-111111111111";

/** What a shop is once an expiry at `dueMs` was committed by a run of that commit id, and nothing else. */
async function afterExpiry(shop: LuaShop, args: Arguments, tail: readonly Value[]): Promise<Dump> {
  const restore = await shop.snapshot();
  await shop.raw("expireHolds", { ...args, commit_id: commitId, clock_ms: dueMs }, tail);
  const dump = await shop.dump();
  await restore();
  return dump;
}

/** A call about one hold, which `given` leaves without: its expiry is committed before the call is refused. */
export function describeOwnExpiry(shops: Shops, call: GoodCall, holdId: string, sku: string): void {
  const { script, args, tail } = call;
  const open = async () => {
    const shop = await prepare(shops, call);
    await holdUntilDue(shop, sku, holdId);
    return shop;
  };

  test("refuses HOLD_EXPIRED from the millisecond the hold is due, and commits its expiry", async () => {
    const shop = await open();
    const expired = await afterExpiry(shop, { hold_id: holdId }, []);
    const reply = await shop.run(script, { ...args, commit_id: commitId, clock_ms: dueMs }, tail);
    expect(reply).toMatchObject({ kind: "REFUSED", reason: "HOLD_EXPIRED", metadata: { hold_id: holdId } });
    expect(changesBetween(expired, await shop.dump())).toEqual({});
    expect(expired.recent_0).toHaveProperty(`hold:${holdId}`);
  });

  test("still serves a hold a millisecond before it is due", async () => {
    const shop = await open();
    await shop.commit(script, { ...args, clock_ms: dueMs - 1 }, tail);
  });
}

/** Numbers that rounding to 14 digits, or to 32 bits, would change. */
export const boundaryNumbers = [1, 2 ** 31, 1e14 + 1, largest];
