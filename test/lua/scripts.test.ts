import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ErrorReason } from "../../gen/holdfast/v1/error_reason_pb.js";
import { RedisUnavailable } from "../../src/shop/redis.ts";
import { refusalOf } from "../../src/shop/refusals.ts";
import { callArguments } from "../../src/shop/script-files.ts";
import { loadScripts, type Script, type Scripts } from "../../src/shop/scripts.ts";
import { createTemporaryFolder } from "../helpers/servers.ts";
import { expectNoChange, headerReasons } from "./decision-tables.ts";
import { cart, scripts, useShops } from "./fixture.ts";
import { globalsOf } from "./lua-globals.ts";

const shops = useShops();
const all = Object.entries(scripts) as [keyof Scripts, Script][];

describe("loadScripts", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await createTemporaryFolder();
    await mkdir(join(folder, "include"));
    await writeFile(
      join(folder, "include", "one.lua"),
      "-- one: a comment.\n-- @include two\nlocal function one() return two() end\n",
    );
    await writeFile(join(folder, "include", "two.lua"), "local function two() return 2 end\n");
    await writeFile(join(folder, "include", "bad.lua"), "-- @include two three\nlocal bad\n");
    await writeFile(join(folder, "include", "again.lua"), "local function two() return 3 end\n");
    await writeFile(join(folder, "include", "acts.lua"), 'redis.call("PING")\n');
    await writeFile(join(folder, "include", "long.lua"), "local long = {\n  1,\n}\n");
    await writeFile(join(folder, "include", "open.lua"), "local function open()\n  return 1\n");
    await writeFile(
      join(folder, "include", "kept.lua"),
      [
        "local text, seen",
        "local all = {}",
        "local function keep(stop)",
        '  local before = { text or "", #all, (seen or 0) + 1 }',
        "  text, seen, all[1] = stop, 1, stop",
        '  if stop ~= "" then',
        '    error("stopped")',
        "  end",
        "  return before",
        "end",
      ].join("\n"),
    );
  });
  afterAll(() => rm(folder, { recursive: true }));

  const load = async (...lines: string[]) => {
    await writeFile(join(folder, "do_it.lua"), lines.join("\n"));
    return (loadScripts(folder) as unknown as Record<string, Script>).doIt as Script;
  };

  test("binds keys, the arguments of every call, its own and the rest to their names", async () => {
    const script = await load(
      "#!lua flags=no-writes",
      "-- KEYS  meta, log_2",
      '-- ARGV  (call), sku ("" = none, or any), count (units), then per line: sku',
      "-- @include one, two",
      "return one() + rest",
    );
    expect(script.keys).toEqual(["meta", "log_2"]);
    expect(script.argumentNames).toEqual([...callArguments, "sku", "count"]);
    const { source } = script;
    expect(source).toMatch(
      /^#!lua flags=no-writes\nlocal meta, log_2, epoch, .*, sku, count, rest = KEYS\[1\], KEYS\[2\], ARGV\[1\], /,
    );
    expect(source).toMatch(/ARGV\[10\], 11\nlocal function two.*\nlocal function one.*\nreturn one\(\) \+ rest$/);
  });

  test("makes a library whose functions Redis runs with the flags of their scripts", async () => {
    const shop = await shops.empty();
    const reader = await load("#!lua flags=no-writes", "-- KEYS  meta", "-- @include one", "return one() + #meta");
    const writer = await load("#!lua", "-- KEYS  meta", 'return redis.call("HSET", meta, "a", 1)');
    for (const { library } of [reader, writer]) {
      expect(await shop.redis.call("FUNCTION", "LOAD", library.source)).toBe(library.name);
    }
    expect(writer.library.name).not.toBe(reader.library.name);
    expect(await shop.redis.call("FCALL_RO", reader.functionName, 1, "meta")).toBe(6);
    const wrong = shop.redis.call("FCALL_RO", writer.functionName, 1, "meta");
    await expect(wrong).rejects.toThrow("Can not execute a script with write flag");
    expect(await shop.redis.fcall(writer.functionName, 1, "meta")).toBe(1);
    expect(await shop.redis.eval(reader.source, 1, "meta"), "the same script by itself").toBe(6);
  });

  test("gives every run its own variables, whatever an include keeps", async () => {
    const shop = await shops.empty();
    const script = await load("#!lua", "-- ARGV  stop", "-- @include kept", "return keep(stop)");
    await shop.redis.call("FUNCTION", "LOAD", script.library.source);
    const run = (stop: string) => shop.redis.fcall(script.functionName, 0, stop);
    expect(await run("")).toEqual(["", 0, 1]);
    await expect(run("stop")).rejects.toThrow("stopped");
    expect(await run("")).toEqual(["", 0, 1]);
  });

  test.each([
    ["no #!lua", ["-- KEYS  meta", "return 1"]],
    ["flags that are none", ["#!lua no-writes", "return 1"]],
    ["a key that is no name", ["#!lua", "-- KEYS  meta log", "return 1"]],
    ["an argument that is no name", ["#!lua", "-- ARGV  sku, Price", "return 1"]],
    ["an empty argument", ["#!lua", "-- ARGV  sku,, price", "return 1"]],
    ["an include that is no name", ["#!lua", "-- @include ../one", "return 1"]],
    ["an include that is not there", ["#!lua", "-- @include nope", "return 1"]],
    ["an include whose own includes are no names", ["#!lua", "-- @include bad", "return 1"]],
    ["an include that does something by itself", ["#!lua", "-- @include acts", "return 1"]],
    ["a variable of an include on several lines", ["#!lua", "-- @include long", "return 1"]],
    ["an include's function without an end", ["#!lua", "-- @include open", "return 1"]],
    ["a name that two includes declare", ["#!lua", "-- @include two, again", "return 1"]],
    ["a name of the header that an include declares", ["#!lua", "-- KEYS  two", "-- @include one", "return 1"]],
  ])("fails on %s", async (_, lines) => {
    await expect(load(...lines)).rejects.toThrow(/lua/);
  });
});

/** The names of a library's functions in Redis. */
async function functionsOf(redis: Redis, libraryName: string): Promise<string[]> {
  const [library = []] = (await redis.call("FUNCTION", "LIST", "LIBRARYNAME", libraryName)) as unknown[][];
  const functions = library[library.indexOf("functions") + 1] as string[][];
  return functions.map((fields) => fields[fields.indexOf("name") + 1] as string);
}

describe("every script", () => {
  test("has a test file of its name", async () => {
    const stems = async (folder: string, ending: string) =>
      (await readdir(new URL(folder, import.meta.url)))
        .filter((file) => file.endsWith(ending))
        .map((file) => file.slice(0, -ending.length));
    expect(await stems("./", ".test.ts")).toEqual(expect.arrayContaining(await stems("../../lua/", ".lua")));
  });

  test.each(all)(
    "%s compiles under the name it is called by, and uses no name that nothing binds",
    async (_, script) => {
      const shop = await shops.empty();
      await shop.redis.call("FUNCTION", "LOAD", "REPLACE", script.library.source);
      expect(await functionsOf(shop.redis, script.library.name)).toContain(script.functionName);
      expect(await globalsOf(shop.redis, script.source)).toEqual([]);
    },
  );

  test("shares a library that uses no name that nothing binds", async () => {
    const shop = await shops.empty();
    expect(new Set(all.map(([, { library }]) => library.name)).size).toBe(1);
    expect(await globalsOf(shop.redis, scripts.placeOrder.library.source)).toEqual([]);
  });

  test("would be caught using a name that nothing binds", async () => {
    const shop = await shops.empty();
    const source = "#!lua\nlocal function f() if stokc then return limits end end\nleak = redis.call('PING')";
    expect(await globalsOf(shop.redis, source)).toEqual(["leak", "limits", "stokc"]);
  });

  const scriptReasons = [
    ...Object.keys(ErrorReason),
    "PRICE_REQUIRED",
    "SALE_WINDOW",
    "TIER_PRICE_REQUIRED",
    "TIER_LIMITS_REQUIRED",
    "FREE_TIER_PRICE",
    "RESTOCK_PARTIAL",
    "RESTOCK_EXCEEDS_SOLD",
  ];
  const endedStates = new Set(
    all.flatMap(([, { source }]) => [...source.matchAll(/end_hold\(.*"([A-Z]+)"\)/g)].map((match) => match[1])),
  );

  /** The reasons in a script's text; those of ended holds are put together from the hold's state. */
  const reasonsIn = (source: string) => {
    const found = new Set(
      [...source.matchAll(/"([A-Z_]+)"/g)].map((match) => match[1]).filter((name) => scriptReasons.includes(`${name}`)),
    );
    if (source.includes('refuse("HOLD_" .. hold_state')) {
      endedStates.forEach((state) => {
        found.add(`HOLD_${state}`);
      });
    }
    if (source.includes("ended_hold(hold_id, true)")) {
      found.delete("HOLD_RELEASED");
    }
    return [...found].sort();
  };

  test.each(all)("%s lists the refusals in its header that its body has", (name, { source }) => {
    expect(endedStates).toEqual(new Set(["COMMITTED", "EXPIRED", "RELEASED"]));
    expect(reasonsIn(source)).toEqual(headerReasons(name).sort());
  });

  test.each([...new Set(all.flatMap(([name]) => headerReasons(name)))])("a caller gets a sentence for %s", (reason) => {
    expect(refusalOf({ reason, metadata: {}, retryMs: undefined, violations: [] }, 1, 1).message).toMatch(/\w/);
  });

  test("is refused before it begins when Redis is full, but for those that free memory or only read", async () => {
    const shop = await shops.open();
    await shop.product("ps5", { count: 5 });
    const dueMs = await shop.hold("h1", "ps5");
    await shop.hold("h2", "ps5");
    await shop.redis.config("SET", "maxmemory", "1");
    try {
      const refused = await expectNoChange(shop, () =>
        shop.run("holdStock", { hold_id: "h3" }, cart(["ps5", 1])).catch((error) => error),
      );
      expect(refused).toBeInstanceOf(RedisUnavailable);
      expect(refused).toMatchObject({ outcome: "not run" });
      expect(await shop.run("getStock", {}, ["ps5"])).toMatchObject({ kind: "OK" });
      await shop.commit("releaseHold", { hold_id: "h2" });
      expect(await shop.run("expireHolds", { clock_ms: dueMs })).toMatchObject({ kind: "OK", position: 7 });
      const trim = { head_position: 7, margin: 1 };
      expect(await shop.raw("trimLog", trim)).toEqual(["OK"]);
    } finally {
      await shop.redis.config("SET", "maxmemory", "0");
    }
  });
});
