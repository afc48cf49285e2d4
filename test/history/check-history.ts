import { mutates } from "../model/decide.ts";
import { mayNameAnEarlierCommit } from "../model/told.ts";
import { isFault, Makers } from "./attribution.ts";
import { checkLog } from "./check-log.ts";
import type { CallRecord, CommitRecord, History, Violation } from "./history.ts";
import { isAccepted, provenPosition, RealTime } from "./real-time.ts";
import { clockSlackMs, Replay } from "./replay.ts";

/**
 * Decides whether a history is strictly serializable: whether there is one order of all calls, such that
 *
 * 1. a pure model of the shop, given the calls in this order, answers each as it was answered (serializable), and
 * 2. a call that was answered before another one was sent is before it (strict).
 *
 * The order does not have to be searched: commits have positions, and refusals and live reads name the position they
 * observed, so what is left is to look whether this one order is right. Commits in between must be made by a call whose
 * outcome was not learnt, or be due by themselves. What names no position (replays, GetShop, some lists) must be
 * right at some position between the newest that anybody had been told of when it was sent, and the newest that can
 * have existed when it was answered. A refusal or a read speaks for its last attempt, a commit for all of them.
 *
 * Time: a commit was decided at its own time. A refusal or a read was decided at an unknown time after the commit it
 * observed, not after the next one, and between its attempt and its answer; it must be right at one of these milliseconds.
 *
 * Where two masters may have taken the shop at once (`mayFork`), it may be after the next one, which the other master made.
 * Where Redis may have been away (`mayLackRedis`), a live read may also show what is due, and not ended by a commit yet.
 *
 * Left out: ListHolds, ListOrders, ListUsers, ListWalletEntries, ListTierChanges (each answer needs a look at everything
 * there is, at every position it may be right at); and what a user's e-mail address and name are in replays.
 *
 * Sorting, then one sweep: O(n log n) for n calls and commits, as long as what is open at a time stays small.
 */
export function checkHistory(history: History): readonly Violation[] {
  const { calls, commits } = history;
  const originMs = history.originMs ?? Date.now() - performance.now();
  const makers = new Makers(calls);
  const realTime = new RealTime(calls);
  return [
    ...checkLog(commits, calls, makers),
    ...calls.flatMap((call) => checkOrder(call, commits, realTime, originMs)),
    ...new Replay(history, originMs, makers, realTime).run(),
  ];
}

/** What is wrong with when a call was made, and when it took effect or looked. */
function checkOrder(
  call: CallRecord,
  commits: readonly CommitRecord[],
  realTime: RealTime,
  originMs: number,
): Violation[] {
  const { outcome, invokedMs, attemptMs, returnedMs } = call;
  const position = provenPosition(call);
  if (outcome === undefined || position === 0) return [];
  const violation = (kind: Violation["kind"], text: string): Violation[] => [{ kind, position, calls: [call], text }];
  const commit = commits[position - 1];
  // A commit that was acknowledged and is lost is reported as that.
  if (commit === undefined)
    return mutates(call.call.rpc) && outcome.kind === "answered"
      ? []
      : violation("wrong answer", `observed ${position}, which does not exist`);
  const latestMs = returnedMs + originMs + clockSlackMs;
  if (commit.timeMs > latestMs) return violation("reordered", `${position} was made after the call had returned`);
  if (isAccepted(call)) {
    const known = realTime.knownBefore(invokedMs);
    if (known >= position) return violation("reordered", `${known} had been told of when the call was made`);
    const isEarly = commit.timeMs < invokedMs + originMs - clockSlackMs;
    return isEarly ? violation("reordered", `${position} was made before the call`) : [];
  }
  const isReplay = outcome.kind === "answered" && outcome.commit !== undefined;
  const known = realTime.knownBefore(attemptMs);
  if (isReplay || isFault(outcome) || known <= position) return [];
  return mayNameAnEarlierCommit(outcome)
    ? []
    : violation("stale read", `observed ${position}, after ${known} had been told of`);
}
