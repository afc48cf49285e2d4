import { afterEach, expect, test } from "vitest";
import { createHints } from "../../src/shop/hints.ts";
import { connectRedis, type ScriptRunner } from "../../src/shop/redis.ts";
import { until } from "../helpers/until.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
const runners: ScriptRunner[] = [];
afterEach(async () => {
  await Promise.all(runners.splice(0).map((runner) => runner.close()));
});

/** A process on a database of the Redis, and what it heard: `shop position`. */
async function open(database = 0): Promise<{ tell(shopId: string, position: number): void; heard: string[] }> {
  const runner = await connectRedis({
    url: `${stores.redis.url}/${database}`,
    commandTimeoutMs: 10_000,
    onError: () => {},
  });
  runners.push(runner);
  const heard: string[] = [];
  const hints = await createHints(runner, (shopId, position) => heard.push(`${shopId} ${position}`));
  return { tell: hints.tell, heard };
}

test("everybody hears of every shop whose flush ended, once, by its newest position", async () => {
  const [teller, other] = [await open(), await open()];
  teller.tell("a", 7);
  teller.tell("b.c_d-1", 9_007_199_254_740_991);
  teller.tell("a", 8);
  await until("both heard", () => other.heard.length >= 2 && teller.heard.length >= 2);
  teller.tell("a", 9);
  await until("both heard again", () => other.heard.includes("a 9") && teller.heard.includes("a 9"));
  expect(other.heard).toEqual(["a 8", "b.c_d-1 9007199254740991", "a 9"]);
  expect(teller.heard).toEqual(other.heard);
});

test("processes on another database of the same Redis do not", async () => {
  const [teller, neighbour, other] = [await open(), await open(), await open(1)];
  teller.tell("a", 7);
  await until("the neighbour heard", () => neighbour.heard.length > 0);
  other.tell("a", 1);
  await until("the other heard itself", () => other.heard.length > 0);
  expect(other.heard).toEqual(["a 1"]);
  expect(neighbour.heard).toEqual(["a 7"]);
});
