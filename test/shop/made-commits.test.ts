import { expect, test } from "vitest";
import { chainFrom, type MadeCommit } from "../../src/shop/made-commits.ts";
import { patientCaller, type Waiter } from "../../src/shop/waiters.ts";

const head = { epoch: 3, position: 10, commitId: "c10" };

function made(position: number, changes: Partial<MadeCommit> = {}, epoch = 3, events = "[]"): MadeCommit {
  const entry = { position, commitId: `c${position}`, epoch, timeMs: 0, call: "{}", events, private: "" };
  return { entry, previousCommitId: `c${position - 1}`, headReadCount: 2, redisGeneration: 1, ...changes };
}

function waiter(position: number, commit: MadeCommit | undefined): Waiter {
  const observes = commit === undefined;
  const state = { observes, confirmed: false, seen: false, caller: patientCaller, release: () => {} };
  return { position, commitId: `c${position}`, made: commit, ...state };
}

const chain = (commits: readonly (MadeCommit | undefined)[], maxCount = 100): readonly number[] | undefined =>
  chainFrom(
    head,
    2,
    commits.map((commit) => waiter(commit?.entry.position ?? 11, commit)),
    maxCount,
  )?.map(({ entry }) => entry.position);

test("commits that follow the head and one another need no look, in whatever order their replies came", () => {
  expect(chain([made(11)])).toEqual([11]);
  expect(chain([made(13), made(11), made(12)])).toEqual([11, 12, 13]);
});

test.each([
  ["nobody waits", []],
  ["one is missing", [made(11), made(13)]],
  ["the first is missing", [made(12)]],
  ["one is durable already", [made(10), made(11)]],
  ["one follows another commit than the head", [made(11, { previousCommitId: "other" })]],
  ["one follows another commit than the one before it", [made(11), made(12, { previousCommitId: "other" })]],
  ["one is of another epoch", [made(11, {}, 2)]],
  ["one was made before the head was read", [made(11), made(12, { headReadCount: 1 })]],
  ["two have one position", [made(11), made(11)]],
  ["somebody only observes", [made(11), undefined]],
  ["there is too much for a statement", [made(11), made(12, {}, 3, " ".repeat(4_000_000))]],
])("the log is looked at when %s", (_, commits) => {
  expect(chain(commits)).toBeUndefined();
});

test("the log is looked at when there are more than a statement takes", () => {
  expect(chain([made(11), made(12)], 2)).toEqual([11, 12]);
  expect(chain([made(11), made(12), made(13)], 2)).toBeUndefined();
});
