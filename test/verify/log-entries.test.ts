import { Redis } from "ioredis";
import { beforeAll, expect, test } from "vitest";
import type { Discrepancy } from "../../src/verify/discrepancy.ts";
import { compareLogEntries } from "../../src/verify/log-entries.ts";
import { createModel } from "../../src/verify/model.ts";
import { Run } from "../../src/verify/run.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
let shopId: string;
/** The log of a shop with ten commits at least. */
let log: [string, string[]][];

beforeAll(async () => {
  shopId = await createShop(holdfast.grpc, { stock: { a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1, j: 1 } });
  const redis = new Redis(holdfast.redis.url);
  log = await redis.xrange(`{${shopId}}:log`, "-", "+");
  redis.disconnect();
  expect(log.length).toBeGreaterThanOrEqual(10);
});

/** The subjects that are named when the log is looked at in these pages, by indices of entries. */
async function compare(...pages: (readonly number[])[]): Promise<string[]> {
  const found: Discrepancy[] = [];
  const { db } = holdfast.server.store;
  const run = new Run(
    db,
    createModel(shopId),
    (discrepancy) => found.push(discrepancy),
    () => {},
  );
  await compareLogEntries(run, {
    entries: async function* () {
      for (const page of pages) {
        yield { payload: page.map((index) => log[index] as [string, string[]]), position: log.length };
      }
    },
  });
  return found.map(({ subject }) => subject);
}

test("pages of which each begins with the last entry of the one before are compared", async () => {
  expect(await compare([0, 1, 2], [2, 3, 4], [4, 5])).toEqual([]);
});

test("what is missing within a page is named, also right behind the entry that it begins with", async () => {
  expect(await compare([0, 2], [2, 4, 5])).toEqual(["commit:2", "commit:4"]);
});

test("what was trimmed between two pages is not missing", async () => {
  expect(await compare([0, 1, 2], [6, 7], [7, 8])).toEqual([]);
});

test("a log that is gone when its next page is asked for has nothing missing", async () => {
  expect(await compare([0, 1, 2], [])).toEqual([]);
});
