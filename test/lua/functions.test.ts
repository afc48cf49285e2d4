import type { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { shopKeys } from "../../src/shop/keys.ts";
import { connectRedis, type ScriptRunner } from "../../src/shop/redis.ts";
import { StartError } from "../../src/start-error.ts";
import { type RestartableRedis, startRestartableRedis } from "../helpers/restartable-redis.ts";
import { cart, type LuaShop, level, scripts, useShops } from "./fixture.ts";

const { library } = scripts.placeOrder;

describe("a run sees nothing of the run before it", () => {
  const shops = useShops();
  const open = async () => {
    const shop = await shops.open();
    await shop.user("u1", 1000);
    await shop.product("ps5", { count: 5 });
    return shop;
  };
  const order = (id: string) => ({ order_id: id, user_id: "u1", payment_method: 1 });
  const stocksOf = (reply: unknown) => JSON.parse((reply as { payload: string }).payload)[0].order_placed.stocks;
  const stockOf = async (shop: LuaShop) => ((await shop.raw("getStock", {}, ["ps5"])) as unknown[])[4];

  test("of a product, of a user, and where the log ends", async () => {
    const shop = await open();
    expect(await stockOf(shop)).toEqual([["ps5", "5", "0", "0", "100"]]);
    await shop.redis.hset(shop.keys.stock as string, "ps5:available", 3);
    expect(await stockOf(shop)).toEqual([["ps5", "3", "0", "0", "100"]]);
    await shop.redis.hset(shop.keys.users as string, "u1:balance", 150);
    const reply = await shop.run("placeOrder", order("o1"), cart(["ps5", 1]));
    expect(reply).toMatchObject({ kind: "OK", position: 6, payload: expect.stringContaining('"balance_minor":50') });
    expect(stocksOf(reply)).toEqual([level("ps5", [2, 0, 1], 100)]);
    await shop.redis.hset(shop.keys.users as string, "u1:balance", 99);
    const refused = await shop.run("placeOrder", order("o2"), cart(["ps5", 1]));
    expect(refused).toMatchObject({ reason: "INSUFFICIENT_FUNDS", metadata: { balance_minor: "99" } });
  });

  test("also when that run ended with an error in its middle", async () => {
    const shop = await open();
    const log = shop.keys.log as string;
    await shop.redis.rename(log, "{shop}:aside");
    await shop.redis.set(log, "no log");
    // It has counted the units down in memory when the log refuses the entry.
    await expect(shop.run("placeOrder", order("o1"), cart(["ps5", 2]))).rejects.toThrow("WRONGTYPE");
    await shop.redis.rename("{shop}:aside", log);
    const reply = await shop.run("placeOrder", order("o2"), cart(["ps5", 1]));
    expect(reply).toMatchObject({ kind: "OK", position: 6, commitId: shop.commitId });
    expect(stocksOf(reply)).toEqual([level("ps5", [4, 0, 1], 100)]);
    expect((await shop.dump()).users).toMatchObject({ "u1:balance": "900", "u1:purchases": "1 100" });
  });

  test("in another shop on the same Redis", async () => {
    const shop = await open();
    expect(await stockOf(shop)).toEqual([["ps5", "5", "0", "0", "100"]]);
    const other = shopKeys("other");
    const values = [
      scripts.getStock.keys.length,
      ...scripts.getStock.keys.map((name) => other[name] as string),
    ] as const;
    await shop.redis.hset(other.meta as string, { epoch: "7", position: "3", commit_id: "c", time: "1", bucket: "0" });
    await shop.redis.hset(other.meta as string, { forgotten: "0", turn_time: "0" });
    expect(await shop.redis.fcall(scripts.getStock.functionName, ...values, "7", "9", "ps5")).toEqual([
      "REFUSED",
      3,
      "c",
      "PRODUCT_NOT_FOUND",
      ["sku", "ps5"],
      -1,
      [],
    ]);
  });

  test("nor does it need the functions to be there: a Redis that lost them gets them again", async () => {
    const shop = await open();
    await shop.redis.call("FUNCTION", "FLUSH");
    await shop.redis.config("RESETSTAT");
    const replies = await Promise.all(
      ["o1", "o2", "o3"].map((id) => shop.run("placeOrder", order(id), cart(["ps5", 1]))),
    );
    expect(replies.map(({ kind }) => kind)).toEqual(["OK", "OK", "OK"]);
    expect(await stockOf(shop)).toEqual([["ps5", "2", "0", "3", "100"]]);
    expect(await shop.redis.info("commandstats"), "once for all three").toContain("cmdstat_function|load:calls=1,");
  });

  test("and when it is full as well, scripts that read or free memory run by themselves", async () => {
    const shop = await open();
    await shop.hold("h1", "ps5", 2);
    await shop.redis.call("FUNCTION", "FLUSH");
    await shop.redis.config("SET", "maxmemory", "1");
    try {
      expect(await stockOf(shop)).toEqual([["ps5", "3", "2", "0", "100"]]);
      await shop.commit("releaseHold", { hold_id: "h1" });
      expect(await stockOf(shop)).toEqual([["ps5", "5", "0", "0", "100"]]);
      const more = shop.run("placeOrder", order("o1"), cart(["ps5", 1]));
      await expect(more).rejects.toMatchObject({ name: "RedisUnavailable", outcome: "not run" });
    } finally {
      await shop.redis.config("SET", "maxmemory", "0");
    }
    await shop.commit("placeOrder", order("o1"), cart(["ps5", 1]));
  });
});

describe("a runner", () => {
  let redis: RestartableRedis;
  let runner: ScriptRunner;
  const keys = shopKeys("shop");
  const connect = (url: string) => connectRedis({ url, commandTimeoutMs: 10_000, onError: () => {} });
  const libraryNames = async () => {
    const found = (await (runner.connections[0] as Redis).call("FUNCTION", "LIST")) as string[][];
    return found.map((fields) => fields[fields.indexOf("library_name") + 1]).sort();
  };
  const emptyPeek = ["", 0, "", -1, expect.any(Number), -1, -1, 0];
  beforeAll(async () => {
    redis = await startRestartableRedis();
    runner = await connect(redis.url);
  });
  afterAll(async () => {
    await runner?.close();
    await redis?.stop();
  });
  beforeEach(async () => {
    await (runner.connections[0] as Redis).call("FUNCTION", "FLUSH");
  });

  test("loads the library, removes those of other versions, and leaves everybody else's alone", async () => {
    const load = (name: string) =>
      (runner.connections[0] as Redis).call(
        "FUNCTION",
        "LOAD",
        `#!lua name=${name}\nredis.register_function("f_${name}", function() end)`,
      );
    await load("holdfast_0123456789abcdef");
    await load("theirs");
    await runner.load(library);
    expect(await libraryNames()).toEqual([library.name, "theirs"]);
    await runner.load(library);
    expect(await libraryNames()).toEqual([library.name, "theirs"]);
  });

  test("loads it side by side with others that do", async () => {
    const others = await Promise.all([connect(redis.url), connect(redis.url)]);
    await Promise.all([runner, ...others].map((each) => each.load(library)));
    await Promise.all(others.map((each) => each.close()));
    expect(await libraryNames()).toEqual([library.name]);
    await (runner.connections[0] as Redis).call("FUNCTION", "FLUSH");
    const runs = [runner.run(scripts.peek, keys, []), runner.aside(scripts.peek, keys, [])];
    expect(await Promise.all(runs)).toEqual([emptyPeek, emptyPeek]);
  });

  test("runs on a Redis that came back empty", async () => {
    expect(await runner.run(scripts.peek, keys, [])).toEqual(emptyPeek);
    await redis.kill();
    await redis.restart();
    await expect.poll(() => runner.run(scripts.peek, keys, []).catch(() => undefined)).toEqual(emptyPeek);
    expect(await libraryNames()).toEqual([library.name]);
  });

  test("starts on a full Redis, and has it load the library once there is room", async () => {
    await (runner.connections[0] as Redis).config("SET", "maxmemory", "1");
    try {
      await runner.load(library);
      expect(await libraryNames()).toEqual([]);
      expect(await runner.run(scripts.peek, keys, [])).toEqual(emptyPeek);
    } finally {
      await (runner.connections[0] as Redis).config("SET", "maxmemory", "0");
    }
    expect(await runner.run(scripts.peek, keys, [])).toEqual(emptyPeek);
    expect(await libraryNames()).toEqual([library.name]);
  });

  test("says what is missing when it may not load", async () => {
    await (runner.connections[0] as Redis).call(
      "ACL",
      "SETUSER",
      "reader",
      "on",
      ">secret",
      "~*",
      "&*",
      "+@all",
      "-function",
    );
    const limited = await connect(redis.url.replace("//", "//reader:secret@"));
    await expect(limited.load(library)).rejects.toThrow(StartError);
    await expect(limited.load(library)).rejects.toThrow(/does not take Holdfast's functions: NOPERM/);
    await limited.close();
  });
});
