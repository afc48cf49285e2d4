import { expect, test } from "vitest";
import { classified, RedisUnavailable } from "../../src/shop/redis-functions.ts";

/** As ioredis throws what Redis answers. */
const reply = (text: string): Error => Object.assign(new Error(text), { name: "ReplyError" });

// The texts are what Redis 7.0.15 answers.
test.each([
  "NOAUTH Authentication required.",
  "WRONGPASS invalid username-password pair or user is disabled.",
  "NOPERM this user has no permissions to run the 'fcall' command",
  "ERR max number of clients reached",
  "LOADING Redis is loading the dataset in memory",
])("%s: nothing was run, and a later try may succeed", (text) => {
  expect(classified(reply(text))).toMatchObject({ constructor: RedisUnavailable, outcome: "not run" });
});

test.each([
  "ERR The user executing the script can't run this command or subcommand script: f, on @user_function:2.",
  "NOPERM User t has no permissions to run the 'set' command script: f, on @user_function:2.",
  "WRONGTYPE Operation against a key holding the wrong kind of value script: f, on @user_function:2.",
])("%s: a script ended in its middle, which no repeat mends", (text) => {
  const error = reply(text);
  expect(classified(error)).toBe(error);
});
