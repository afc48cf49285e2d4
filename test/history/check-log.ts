import type { Makers } from "./attribution.ts";
import type { CallRecord, CommitRecord, Violation } from "./history.ts";

/** What is wrong with the log by itself, and with what calls were told of its commits. */
export function checkLog(commits: readonly CommitRecord[], calls: readonly CallRecord[], makers: Makers): Violation[] {
  return [
    ...checkOrder(commits),
    ...checkUnique(commits),
    ...checkThere(commits, calls),
    ...checkOnce(commits, makers),
  ];
}

function checkOrder(commits: readonly CommitRecord[]): Violation[] {
  return commits.flatMap((commit, index) => {
    const { position, timeMs, epoch } = commit;
    const before = commits[index - 1];
    const wrong = [
      ...(position === index + 1 ? [] : [`position ${position} comes as number ${index + 1}`]),
      ...(before !== undefined && timeMs < before.timeMs ? [`the time of ${position} is before that of the last`] : []),
      ...(before !== undefined && epoch < before.epoch ? [`the epoch of ${position} is below that of the last`] : []),
    ];
    return wrong.map((text) => ({ kind: "broken log" as const, position, calls: [], text }));
  });
}

function checkUnique(commits: readonly CommitRecord[]): Violation[] {
  const found: Violation[] = [];
  const ids = new Set<string>();
  const requests = new Map<string, number>();
  for (const { position, commitId, requestId } of commits) {
    if (ids.has(commitId)) found.push({ kind: "broken log", position, calls: [], text: `${commitId} is there twice` });
    ids.add(commitId);
    const first = requests.get(requestId);
    if (first !== undefined) {
      const text = `request id "${requestId}" took effect at ${first} and at ${position}`;
      found.push({ kind: "doubled", position, calls: [], text });
    } else if (requestId !== "") requests.set(requestId, position);
  }
  return found;
}

/** Every commit that somebody was answered with must be there, as they were told. */
function checkThere(commits: readonly CommitRecord[], calls: readonly CallRecord[]): Violation[] {
  return calls.flatMap((call): Violation[] => {
    const told = call.outcome?.kind === "answered" ? call.outcome.commit : undefined;
    if (told === undefined) return [];
    const { position, commit_id } = told;
    const there = commits[position - 1];
    if (there?.commitId === commit_id) return [];
    const text = `commit ${commit_id} was acknowledged at ${position}, where there is ${there?.commitId ?? "nothing"}`;
    return [{ kind: "lost commit", position, calls: [call], text }];
  });
}

function checkOnce(commits: readonly CommitRecord[], makers: Makers): Violation[] {
  return commits.flatMap(({ position }): Violation[] => {
    const calls = makers.answeredAt(position);
    if (calls.length < 2) return [];
    return [{ kind: "doubled", position, calls, text: `${calls.length} calls were told that they made ${position}` }];
  });
}
