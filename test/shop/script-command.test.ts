import { rm } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { shopKeys } from "../../src/shop/keys.ts";
import { connectRedis, RedisUnavailable, type ScriptRunner } from "../../src/shop/redis.ts";
import type { Script } from "../../src/shop/scripts.ts";
import { createRedisNode, type RedisNode } from "../chaos/redis-node.ts";
import { createTemporaryFolder } from "../helpers/servers.ts";

const commandTimeoutMs = 1000;
const keys = shopKeys("shop");
const source = `#!lua name=holdfast_echo
redis.register_function("echo_1", function(KEYS, ARGV)
  local reply = { KEYS[1], KEYS[2] }
  for _, value in ipairs(ARGV) do
    reply[#reply + 1] = value
  end
  return reply
end)`;
const echo: Script = {
  name: "echo",
  keys: ["meta", "log"],
  argumentNames: [],
  functionName: "echo_1",
  library: { name: "holdfast_echo", source },
  source: "",
};

let folder: string;
let redis: RedisNode;
let runner: ScriptRunner;

beforeAll(async () => {
  folder = await createTemporaryFolder();
  redis = await createRedisNode(folder, "redis");
  await redis.start("empty");
  runner = await connectRedis({ url: redis.url, commandTimeoutMs, onError: () => {} });
  await runner.load(echo.library);
});

afterAll(async () => {
  await runner?.close();
  await redis?.kill();
  await rm(folder, { recursive: true, force: true });
});

test("a script gets the keys of its shop and all arguments, whatever characters they have", async () => {
  const args = ["", 'a"b\\c', "\r\n$3\r\n*1", "Käse 日本 🧀", "x".repeat(70_000), 0, -1, 9_007_199_254_740_991];
  expect(await runner.run(echo, keys, args)).toEqual([keys.meta, keys.log, ...args.map(String)]);
  expect(await runner.run(echo, shopKeys("other"), [])).toEqual(["{other}:meta", "{other}:log"]);
});

test("a prefix of keys in the address is refused: scripts name whole keys", async () => {
  const url = `${redis.url}/?keyPrefix=app:`;
  await expect(connectRedis({ url, commandTimeoutMs, onError: () => {} })).rejects.toThrow("has a keyPrefix");
});

test("more calls than are sent at a time get each its own answer", async () => {
  const numbers = Array.from({ length: 500 }, (_, index) => index);
  const answers = await Promise.all(numbers.map((each) => runner.run(echo, keys, [each, "x".repeat(500)])));
  expect(answers.map((answer) => Number((answer as string[])[2]))).toEqual(numbers);
});

test("what Redis does not answer in time has an unknown outcome, and its late answer is nobody else's", async () => {
  redis.signal("SIGSTOP");
  const late = Promise.allSettled([runner.run(echo, keys, ["one"]), runner.run(echo, keys, ["two"])]);
  const outcomes = await late.finally(() => redis.signal("SIGCONT"));
  for (const outcome of outcomes) {
    expect(outcome).toMatchObject({ status: "rejected", reason: expect.any(RedisUnavailable) });
    expect(outcome).toMatchObject({ reason: { outcome: "unknown" } });
  }
  expect(await runner.run(echo, keys, ["three"])).toEqual([keys.meta, keys.log, "three"]);
});
