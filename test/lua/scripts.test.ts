import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ErrorReason } from "../../gen/holdfast/v1/error_reason_pb.js";
import { RedisUnavailable } from "../../src/shop/redis.ts";
import { refusalOf } from "../../src/shop/refusals.ts";
import { callArguments, loadScripts, type Script, type Scripts } from "../../src/shop/scripts.ts";
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
    expect(source.split("\n").slice(0, 2)).toEqual(["#!lua flags=no-writes", "local meta, log_2 = KEYS[1], KEYS[2]"]);
    expect(source).toContain("sku, count = ARGV[1], ");
    expect(source).toMatch(
      /ARGV\[10\]\nlocal rest = 11\nlocal function two.*\nlocal function one.*\nreturn one\(\) \+ rest$/,
    );
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
  ])("fails on %s", async (_, lines) => {
    await expect(load(...lines)).rejects.toThrow(/lua/);
  });
});

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
      expect(await shop.redis.script("LOAD", script.source)).toBe(script.sha);
      expect(await globalsOf(shop.redis, script.source)).toEqual([]);
    },
  );

  test("would be caught using a name that nothing binds", async () => {
    const shop = await shops.empty();
    const source = "#!lua\nlocal function f() if stokc then return limits end end\nleak = redis.call('PING')";
    expect(await globalsOf(shop.redis, source)).toEqual(["leak", "limits", "stokc"]);
  });

  const scriptReasons = [...Object.keys(ErrorReason), "PRICE_REQUIRED", "SALE_WINDOW"];
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
      const trim = { head_position: 7, margin: 1, hint_channel: "hints", hint: "" };
      expect(await shop.raw("trimLog", trim)).toEqual(["OK"]);
    } finally {
      await shop.redis.config("SET", "maxmemory", "0");
    }
  });
});
