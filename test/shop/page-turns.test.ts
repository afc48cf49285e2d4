import { setImmediate as nextRound } from "node:timers/promises";
import { expect, test } from "vitest";
import { createPageTurns } from "../../src/shop/watch.ts";

test("pages of the past are read one at a time, in the order in which they were asked for", async () => {
  const inTurn = createPageTurns();
  const events: string[] = [];
  const read = (name: string) =>
    inTurn(async () => {
      events.push(`${name} begins`);
      await nextRound();
      events.push(`${name} ends`);
      return name;
    });
  expect(await Promise.all([read("a"), read("b"), read("c")])).toEqual(["a", "b", "c"]);
  expect(events).toEqual(["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
});

test("a page that cannot be read is the failure of who asked for it, and the next one is read", async () => {
  const inTurn = createPageTurns();
  const results = await Promise.allSettled([
    inTurn(() => Promise.reject(new Error("the connection was lost"))),
    inTurn(() => Promise.resolve("page")),
  ]);
  expect(results).toEqual([
    { status: "rejected", reason: new Error("the connection was lost") },
    { status: "fulfilled", value: "page" },
  ]);
});

test("while several want a page, there is a rest as long as a page between two", async () => {
  const inTurn = createPageTurns();
  const pageMs = 50;
  const begun: number[] = [];
  const read = () =>
    inTurn(async () => {
      begun.push(performance.now());
      await new Promise((resolve) => setTimeout(resolve, pageMs));
    });
  await Promise.all([read(), read()]);
  expect((begun[1] as number) - (begun[0] as number)).toBeGreaterThanOrEqual(2 * pageMs - 4);
});
