import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { parseReply } from "../../src/shop/reply.ts";

const commitId = "0199f3a1-7c1e-7000-8000-000000000001";
const previousCommitId = "0199f3a1-7c1e-7000-8000-000000000000";
const events = '[{"order_placed":{"order":{"order_id":"a b"}}}]';

test("the text of a commit is taken apart, whatever its events hold", () => {
  const made = { kind: "OK", position: 9007199254740991, commitId, timeMs: 1_790_000_000_000, payload: events };
  const text = `9007199254740991 ${commitId} 1790000000000`;
  expect(parseReply(`${text} ${previousCommitId} ${events}`)).toEqual({ ...made, previousCommitId });
  expect(parseReply(`${text} - ${events}`)).toEqual({ ...made, previousCommitId: undefined });
});

test("a commit id that is kept does not keep the events that it came with", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const keptBytes = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = keptBytes();
  const ids = Array.from({ length: 100 }, (_, number) => {
    const text = Buffer.from(`${number} ${commitId} 1 ${previousCommitId} [${"x".repeat(200_000)}]`).toString();
    return (parseReply(text) as { readonly commitId: string }).commitId;
  });
  expect(keptBytes() - before).toBeLessThan(5_000_000);
  expect(new Set(ids)).toEqual(new Set([commitId]));
});
