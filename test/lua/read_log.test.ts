import { describe, expect, test } from "vitest";
import { birthFields, birthId, lookArguments, useShops } from "./fixture.ts";

const shops = useShops();

describe("ReadLog", () => {
  test("gives entries from a position on, and who wrote the positions asked about", async () => {
    const shop = await shops.open();
    await shop.user("u1");
    await shop.user("u2");
    const entries = Object.entries((await shop.dump()).log ?? {}).map(([id, fields]) => [id, fields]);
    const read = (from_position: number, count: number, ...questions: number[]) =>
      shop.raw("readLog", { from_position, count }, questions);
    const { epoch, commitId } = shop;
    expect(await read(1, 1000)).toEqual([epoch, 3, commitId, entries, []]);
    expect(await read(1, 1, 3, 4, 1)).toEqual([epoch, 3, commitId, [["1-0", birthFields]], [commitId, null, birthId]]);
    expect(await read(3, 1000)).toEqual([epoch, 3, commitId, entries.slice(2), []]);
    expect(await read(4, 1000)).toEqual([epoch, 3, commitId, [], []]);
  });

  test("gives no epoch for a sealed shop, whose log it still reads, and nothing from an empty Redis", async () => {
    const shop = await shops.open();
    await shop.raw("look", { ...lookArguments, force: 1 });
    const all = { from_position: 1, count: 10 };
    expect(await shop.raw("readLog", all)).toEqual(["", 1, birthId, [["1-0", birthFields]], []]);
    await shop.redis.flushall();
    expect(await shop.raw("readLog", all, [1])).toEqual(["", 0, "", [], [null]]);
  });
});
