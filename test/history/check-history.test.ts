import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { AnsweredOutcome, Outcome } from "../model/caller.ts";
import { checkHistory } from "./check-history.ts";
import type { CallRecord, CommitRecord, History } from "./history.ts";
import { randomHistory } from "./random-history.ts";
import { birthMs, SimulatedShop } from "./simulated-shop.ts";

/** A shop that sells `phone`, of which it has so many, and a user with money. */
function openShop(phoneCount: number): SimulatedShop {
  const shop = new SimulatedShop();
  shop.call("PutProduct", { sku: "phone", price_minor: 100 });
  shop.call("AdjustStock", { sku: "phone", delta_count: phoneCount, reason: 5 });
  shop.call("CreateUser", { user_id: "u" });
  shop.call("DepositFunds", { user_id: "u", amount_minor: 10_000 });
  return shop;
}

const onePhone = { user_id: "u", lines: [{ sku: "phone", quantity: 1 }], payment_method: 1 };

function kindsOf(history: History): string[] {
  return [...new Set(checkHistory(history).map(({ kind }) => kind))];
}

/** A history with another record in place of one. */
function replaced(history: History, old: CallRecord, record: CallRecord): History {
  return { ...history, calls: history.calls.map((each) => (each === old ? record : each)) };
}

/** A history with another commit in place of the one at its position. */
function withCommit(history: History, commit: CommitRecord): History {
  return { ...history, commits: history.commits.map((each) => (each.position === commit.position ? commit : each)) };
}

/** A history whose last calls, so many, and its last commit happened so many milliseconds later. */
function later(history: History, callCount: number, ms: number): History {
  const { calls, commits } = structuredClone(history);
  const last = commits.at(-1) as CommitRecord;
  const moved = calls.slice(-callCount).map((each) => {
    const commit = (each.outcome as AnsweredOutcome).commit;
    const seen = commit === undefined ? {} : { commit: { ...commit, commit_time: commit.commit_time + ms } };
    const { invokedMs, attemptMs, returnedMs } = each;
    const times = { invokedMs: invokedMs + ms, attemptMs: attemptMs + ms, returnedMs: returnedMs + ms };
    return { ...each, ...times, outcome: { ...each.outcome, ...seen } as Outcome };
  });
  const lateCommit = { ...last, timeMs: last.timeMs + ms };
  return {
    ...history,
    calls: [...calls.slice(0, -callCount), ...moved],
    commits: [...commits.slice(0, -1), lateCommit],
  };
}

/** An order that was made when somebody else's was not seen, put behind it. */
function orderUnseen(shop: SimulatedShop, phoneCount: number): History {
  const other = openShop(phoneCount);
  const seen = shop.call("PlaceOrder", { ...onePhone, order_id: "first" });
  const unseen = other.call("PlaceOrder", { ...onePhone, order_id: "second" }, "unseen");
  const move = (text: string): string =>
    text.replaceAll('"position":6', '"position":7').replaceAll("commit-6", "commit-7");
  const moved = <Value>(value: Value): Value => JSON.parse(move(JSON.stringify(value)));
  const { history } = shop;
  return {
    ...history,
    calls: [...history.calls.filter((each) => each !== seen), seen, moved(unseen)],
    commits: [...history.commits, moved(other.commits.at(-1) as CommitRecord)],
  };
}

describe("a right history", () => {
  test.each([1, 2, 3])("of calls that overlap is accepted (seed %i)", (seed) => {
    const history = randomHistory(seed, 2000);
    expect(checkHistory(history).map(({ kind, text }) => `${kind}: ${text}`)).toEqual([]);
  });

  test("may have commits whose callers never learnt of them, or learnt by a replay", () => {
    const shop = openShop(5);
    const lost = shop.call("PlaceOrder", { ...onePhone, order_id: "lost" });
    const first = shop.call("PlaceOrder", { ...onePhone }, "again");
    shop.call("PlaceOrder", { ...onePhone }, "again");
    const unknown = { ...lost, outcome: undefined, returnedMs: Number.POSITIVE_INFINITY };
    const half = replaced(shop.history, lost, unknown);
    expect(kindsOf({ ...half, calls: half.calls.filter((each) => each !== first) })).toEqual([]);
  });

  test("may have a commit that keeps a hash of an e-mail address, of a caller who never learnt of it", () => {
    const shop = openShop(1);
    const record = shop.call("CreateUser", { user_id: "v", email: "v@example.com" }, "new user");
    const unknown = { ...record, outcome: undefined, returnedMs: Number.POSITIVE_INFINITY };
    const hash = (email: string): string => createHash("sha256").update(`new user\n${email}`).digest("base64url");
    const keeping = (email: string): History => {
      const history = replaced(shop.history, record, unknown);
      const commit = shop.commits.at(-1) as CommitRecord;
      return withCommit(history, { ...commit, request: { user_id: "v", email: `sha256:${hash(email)}` } });
    };
    expect(kindsOf(keeping("v@example.com"))).toEqual([]);
    expect(kindsOf(keeping("w@example.com"))).toEqual(["unknown commit"]);
  });

  test("may have a commit of an attempt that was lost before the call was refused", () => {
    const shop = openShop(1);
    const sold = shop.call("PlaceOrder", { ...onePhone });
    const refused = shop.call("PlaceOrder", { ...onePhone }, "second");
    shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 });
    const late = shop.call("PlaceOrder", { ...onePhone }, "second");
    expect(sold.outcome?.kind).toBe("answered");
    const calls = shop.calls.filter((each) => each !== late && each !== refused);
    const attempts = { ...refused, invokedMs: refused.invokedMs - 10 };
    expect(kindsOf({ ...shop.history, calls: [...calls, attempts] })).toEqual([]);
    expect(kindsOf({ ...shop.history, calls: [...calls, refused] })).toEqual(["unknown commit"]);
  });
});

describe("a history is rejected when", () => {
  test("two orders got the only unit", () => {
    expect(kindsOf(orderUnseen(openShop(1), 1))).toEqual(["lost update"]);
  });

  test("an order did not see another one's effect on the stock", () => {
    expect(kindsOf(orderUnseen(openShop(9), 9))).toEqual(["wrong event", "wrong answer"]);
  });

  test("a read does not see what was acknowledged before it was sent", () => {
    const shop = openShop(5);
    const read = shop.call("GetStock", { sku: "phone" });
    const { returnedMs } = shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 });
    const late = { ...read, invokedMs: returnedMs + 1, attemptMs: returnedMs + 1, returnedMs: returnedMs + 2 };
    expect(kindsOf(replaced(shop.history, read, late))).toContain("stale read");
    const during = { ...late, attemptMs: returnedMs - 1, invokedMs: returnedMs - 1 };
    expect(kindsOf(replaced(shop.history, read, during))).toEqual([]);
  });

  test("a read sees what no prefix of the log has", () => {
    const shop = openShop(5);
    const read = shop.call("GetStock", { sku: "phone" });
    const response = { stock: { sku: "phone", available_count: 4, price_minor: 100 } };
    expect(
      kindsOf(replaced(shop.history, read, { ...read, outcome: { ...read.outcome, response } as Outcome })),
    ).toEqual(["wrong answer"]);
  });

  test("a read observes a position that does not exist", () => {
    const shop = openShop(5);
    const read = shop.call("GetStock", { sku: "phone" });
    const outcome = { ...read.outcome, asOf: { position: 99, epoch: 1 } } as Outcome;
    expect(kindsOf(replaced(shop.history, read, { ...read, outcome }))).toEqual(["wrong answer"]);
  });

  test("a call is refused although it was possible", () => {
    const shop = openShop(0 + 1);
    shop.call("AdjustStock", { sku: "phone", delta_count: -1, reason: 1 });
    const refused = shop.call("PlaceOrder", { ...onePhone });
    expect(refused.outcome).toMatchObject({ kind: "refused", reason: "SOLD_OUT" });
    const { outcome } = shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 });
    const position = String((outcome as AnsweredOutcome).commit?.position);
    const wrong = { ...refused.outcome, metadata: { ...(refused.outcome as { metadata: object }).metadata, position } };
    const late = { ...refused, returnedMs: refused.returnedMs + 40, outcome: wrong as Outcome };
    expect(kindsOf(replaced(shop.history, refused, late))).toEqual(["wrong answer"]);
  });

  test("a call comes before one that had returned when it began", () => {
    const shop = openShop(5);
    const adjust = (requestId: string): CallRecord =>
      shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 }, requestId, 0);
    shop.now += 20;
    const [first, second] = [adjust("a"), adjust("b")];
    const [early, late] = [
      { ...second, invokedMs: second.invokedMs - 2, attemptMs: second.attemptMs - 2, returnedMs: second.invokedMs },
      { ...first, invokedMs: first.returnedMs - 1, attemptMs: first.returnedMs - 1, returnedMs: first.returnedMs },
    ];
    expect(kindsOf(shop.history)).toEqual([]);
    expect(kindsOf(replaced(replaced(shop.history, second, early), first, late))).toEqual(["reordered"]);
  });

  test("a commit has a time at which its call was not under way", () => {
    const shop = openShop(5);
    const late = shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 });
    const sooner = { ...late, invokedMs: late.invokedMs - 900, attemptMs: 0, returnedMs: late.returnedMs - 900 };
    expect(kindsOf(replaced(shop.history, late, sooner))).toContain("reordered");
  });

  test("a request id took effect twice", () => {
    const shop = openShop(5);
    shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 }, "once");
    shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 }, "other");
    const { history } = shop;
    const again = { ...(history.commits.at(-1) as CommitRecord), requestId: "once" };
    const calls = history.calls.filter(({ call }) => call.requestId !== "other");
    expect(kindsOf(withCommit({ ...history, calls }, again))).toContain("doubled");
  });

  test("two callers were told that they made the same commit", () => {
    const shop = openShop(5);
    const made = shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 });
    expect(kindsOf({ ...shop.history, calls: [...shop.calls, { ...made }] })).toEqual(["doubled"]);
  });

  test("an acknowledged commit is missing, or another one is in its place", () => {
    const shop = openShop(5);
    shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 });
    const { history } = shop;
    expect(kindsOf({ ...history, commits: history.commits.slice(0, -1) })).toEqual(["lost commit"]);
    const other = { ...(history.commits.at(-1) as CommitRecord), commitId: "another" };
    expect(kindsOf(withCommit(history, other))).toContain("lost commit");
  });

  test("a replay is answered otherwise than the first call", () => {
    const shop = openShop(5);
    shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 }, "again");
    shop.call("AdjustStock", { sku: "phone", delta_count: 2, reason: 1 });
    const replay = shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 }, "again");
    expect(kindsOf(shop.history)).toEqual([]);
    const response = { stock: { sku: "phone", available_count: 8, price_minor: 100 } };
    const wrong = { ...replay, outcome: { ...replay.outcome, response } as Outcome };
    expect(kindsOf(replaced(shop.history, replay, wrong))).toEqual(["wrong answer"]);
  });

  test("a hold expired before it was due", () => {
    const shop = openShop(5);
    shop.call("HoldStock", { hold_id: "h", lines: onePhone.lines, hold_duration: 1000 });
    shop.now += 2000;
    shop.endDue();
    expect(kindsOf(shop.history)).toEqual([]);
    const early = { ...(shop.commits.at(-1) as CommitRecord), timeMs: shop.now - 1500 };
    expect(kindsOf(withCommit(shop.history, early))).toEqual(["unknown commit"]);
  });

  test("an answer rests on a hold whose time was over", () => {
    const shop = openShop(5);
    const held = shop.call("HoldStock", { hold_id: "h", lines: onePhone.lines, hold_duration: 1000 });
    const read = shop.call("GetStock", { sku: "phone" });
    const at = held.returnedMs + 3000;
    const late = { ...read, invokedMs: at, attemptMs: at, returnedMs: at + 5 };
    const history = replaced(shop.history, read, late);
    expect(kindsOf(history)).toEqual(["wrong answer"]);
    expect(kindsOf({ ...history, mayLackRedis: true })).toEqual([]);
  });

  test("an answer rests on a hold that was due before a commit of other goods", () => {
    const shop = openShop(5);
    shop.call("PutProduct", { sku: "case", price_minor: 10 });
    shop.call("HoldStock", { hold_id: "h", lines: onePhone.lines, hold_duration: 1000 });
    shop.call("AdjustStock", { sku: "case", delta_count: 1, reason: 5 });
    shop.call("GetStock", { sku: "phone" });
    expect(kindsOf(shop.history)).toEqual([]);
    const history = later(shop.history, 2, 3000);
    expect(kindsOf(history)).toEqual(["wrong answer"]);
    expect(kindsOf({ ...history, mayLackRedis: true })).toEqual([]);
  });

  test("an answer was given at a time after the next commit's, and there was one master", () => {
    const shop = openShop(5);
    shop.call("PreviewTierChange", { user_id: "u", tier: "pro" });
    shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 5 });
    expect(kindsOf(shop.history)).toEqual([]);
    const quoteMs = shop.now - 20;
    const early = { ...(shop.commits.at(-1) as CommitRecord), timeMs: quoteMs - 10 };
    const history = withCommit(shop.history, early);
    expect(kindsOf(history)).toContain("wrong answer");
    const quotes = (each: History) => checkHistory(each).filter(({ text }) => text.includes("PreviewTierChange"));
    expect(quotes(history)).toHaveLength(1);
    expect(quotes({ ...history, mayFork: true })).toEqual([]);
  });

  test("there is a commit that nobody asked for", () => {
    const shop = openShop(5);
    const made = shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 });
    expect(kindsOf({ ...shop.history, calls: shop.calls.filter((each) => each !== made) })).toEqual(["unknown commit"]);
  });

  test("an event does not tell what happened", () => {
    const shop = openShop(5);
    shop.call("AdjustStock", { sku: "phone", delta_count: 1, reason: 1 });
    const commit = shop.commits.at(-1) as CommitRecord;
    const events = JSON.parse(JSON.stringify(commit.events).replace('"delta_count":1', '"delta_count":2'));
    expect(kindsOf(withCommit(shop.history, { ...commit, events }))).toEqual(["wrong event"]);
  });

  test("what names no position was true only before it was asked", () => {
    const shop = openShop(5);
    const listed = shop.call("ListProducts", {});
    const { returnedMs } = shop.call("PutProduct", { sku: "case", price_minor: 5 });
    const late = { ...listed, invokedMs: returnedMs + 1, attemptMs: returnedMs + 1, returnedMs: returnedMs + 2 };
    expect(kindsOf(replaced(shop.history, listed, late))).toEqual(["wrong answer"]);
    const during = { ...late, invokedMs: returnedMs - 1, attemptMs: returnedMs - 1 };
    expect(kindsOf(replaced(shop.history, listed, during))).toEqual([]);
  });

  test("the server failed", () => {
    const shop = openShop(5);
    const read = shop.call("GetStock", { sku: "phone" });
    const failed = { kind: "refused", reason: "(Internal: internal error)", metadata: {}, fields: [] } as object;
    expect(kindsOf(replaced(shop.history, read, { ...read, outcome: failed as Outcome }))).toEqual(["wrong answer"]);
  });

  test("the log itself has a gap, or goes back in time", () => {
    const shop = openShop(5);
    const { history } = shop;
    const [first, ...rest] = history.commits as [CommitRecord, ...CommitRecord[]];
    expect(kindsOf({ ...history, commits: [first, ...rest.slice(1)] })).toContain("broken log");
    expect(kindsOf(withCommit(history, { ...(rest.at(-1) as CommitRecord), timeMs: birthMs - 1 }))).toContain(
      "broken log",
    );
  });
});
