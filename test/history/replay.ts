import { applyBackground } from "../model/background.ts";
import type { AnsweredOutcome } from "../model/caller.ts";
import {
  mismatch,
  mismatchOfCommit,
  mismatchOfEvents,
  mismatchOfQuote,
  mismatchOfResponse,
  write,
} from "../model/compare.ts";
import { type Call, createRpcs, decide } from "../model/decide.ts";
import type { Accepted, Context, Decision } from "../model/decision.ts";
import { describe } from "../model/failure.ts";
import type { Plain } from "../model/plain.ts";
import { createShopModel, dueTime, openItems, type Shop } from "../model/state.ts";
import { contextOf, mayNameAnEarlierCommit, positionOf } from "../model/told.ts";
import type { WatchedCommit } from "../model/watched-log.ts";
import { isFault, type Maker, type Makers } from "./attribution.ts";
import { asWatched } from "./commit.ts";
import type { CallRecord, CommitRecord, History, Violation, ViolationKind } from "./history.ts";
import { countBelow, isAccepted, type RealTime } from "./real-time.ts";

/** How far the clocks of harness and Redis may be apart, in ms: one machine, read at different moments. */
export const clockSlackMs = 10;

/** Lists that would need a look at everything there is, once for every position they may be right at. */
const leftOut: ReadonlySet<string> = new Set([
  "ListHolds",
  "ListOrders",
  "ListUsers",
  "ListWalletEntries",
  "ListTierChanges",
]);

/** How long a quote is honoured, in ms. */
const quoteMs = 300_000;

/** A call that was told no position, and where it may be right. */
interface Floating {
  readonly record: CallRecord;
  readonly last: number;
}

/** Follows the commits with the model, and asks it on the way what each call must have been answered. */
export class Replay {
  readonly #history: History;
  readonly #originMs: number;
  readonly #makers: Makers;
  readonly #realTime: RealTime;
  readonly #shop: Shop;
  readonly #rpcs = createRpcs(new Map());
  readonly #violations: Violation[] = [];
  readonly #placed = new Map<number, CallRecord[]>();
  readonly #beginning = new Map<number, Floating[]>();
  readonly #watched: WatchedCommit[] = [];

  constructor(history: History, originMs: number, makers: Makers, realTime: RealTime) {
    const { shopId, currencyCode, commits, holdMs } = history;
    this.#history = history;
    this.#originMs = originMs;
    this.#makers = makers;
    this.#realTime = realTime;
    this.#shop = createShopModel(shopId, currencyCode, commits[0]?.timeMs ?? 0, holdMs);
  }

  run(): Violation[] {
    const { commits } = this.#history;
    this.#place();
    let active: Floating[] = [];
    for (const commit of commits) {
      const watched = asWatched(commit);
      this.#watched.push(watched);
      // After a commit that the model cannot follow nothing more can be said.
      if (!(commit.position === 1 ? this.#begin(commit) : this.#apply(commit, watched))) return this.#violations;
      for (const record of this.#placed.get(commit.position) ?? []) this.#checkPlaced(record);
      active.push(...(this.#beginning.get(commit.position) ?? []));
      active = active.filter((floating) => this.#isStillOpen(floating));
    }
    return this.#violations;
  }

  /** Sorts calls that made no commit by where they are to be looked at. */
  #place(): void {
    const { calls, commits } = this.#history;
    const times = commits.map(({ timeMs }) => timeMs);
    for (const record of calls) {
      const { outcome, call } = record;
      if (outcome === undefined || isAccepted(record) || leftOut.has(call.rpc)) continue;
      if (isFault(outcome)) {
        this.#violate("wrong answer", 0, [record], "the server failed");
        continue;
      }
      const known = Math.max(1, this.#realTime.knownBefore(record.attemptMs));
      const position = positionOf(outcome);
      if (position !== undefined && !(mayNameAnEarlierCommit(outcome) && position < known)) {
        push(this.#placed, position, record);
        continue;
      }
      const commit = outcome.kind === "answered" ? outcome.commit : undefined;
      const first = Math.max(known, commit?.position ?? 0);
      const existing = countBelow(times, record.returnedMs + this.#originMs + clockSlackMs);
      const last = Math.max(first, Math.min(existing, this.#realTime.firstAfter(record.returnedMs) - 1));
      push(this.#beginning, first, { record, last });
    }
  }

  /** The shop's own commit. */
  #begin({ events, requestId }: CommitRecord): boolean {
    const { currencyCode } = this.#history;
    if (events[0]?.shop_created === undefined) {
      this.#violate("broken log", 1, [], `a log begins with shop_created, and not with ${write(events)}`);
      return false;
    }
    this.#shop.calls.set(1, { rpc: "CreateShop", requestId, body: { currency_code: currencyCode }, response: {} });
    if (requestId !== "") this.#shop.requestIds.set(requestId, 1);
    return true;
  }

  /** Makes the next commit in the model; false when it cannot. */
  #apply(commit: CommitRecord, watched: WatchedCommit): boolean {
    const maker = this.#makers.of(commit);
    if (maker.kind === "nobody") return this.#applyBackground(commit, watched);
    const record = maker.kind === "answered" ? maker.record : (maker.records[0] as CallRecord);
    this.#checkUnlearnt(commit, maker);
    const decision = this.#decideCommit(record.call, commit, watched, maker);
    if (decision.kind !== "accepted") {
      const kind = decision.kind === "replayed" ? "doubled" : "lost update";
      this.#violate(kind, commit.position, [record], `must not make a commit, but be ${write(decision)}`);
      return false;
    }
    try {
      this.#commit(decision, record, commit, watched, maker);
      return true;
    } catch (error) {
      this.#violate("lost update", commit.position, [record], (error as Error).message);
      return false;
    }
  }

  #decideCommit(call: Call, { timeMs }: CommitRecord, watched: WatchedCommit, maker: Maker): Decision {
    const context =
      maker.kind === "answered" ? contextOf(call, maker.record.outcome, timeMs) : contextOfCommit(call, watched);
    return decide(this.#rpcs, this.#shop, call, context);
  }

  #commit(decision: Accepted, record: CallRecord, commit: CommitRecord, watched: WatchedCommit, maker: Maker): void {
    const shop = this.#shop;
    const { call } = record;
    const { position, requestId } = commit;
    shop.position = position;
    shop.timeMs = commit.timeMs;
    const { response, events } = decision.commit();
    const wrongEvents = mismatchOfEvents(events, watched);
    if (wrongEvents !== undefined) this.#violate("wrong event", position, [record], wrongEvents);
    if (maker.kind === "answered") {
      const { outcome } = maker.record;
      const wrong = mismatchOfResponse(call.rpc, response, outcome.response) ?? mismatchOfCommit(outcome, watched);
      if (wrong !== undefined) this.#violate("wrong answer", position, [record], wrong);
    }
    if (call.requestId !== "" && call.requestId !== requestId)
      this.#violate("wrong event", position, [record], `the commit has the request id "${requestId}"`);
    shop.calls.set(position, { rpc: call.rpc, requestId, body: call.request, response });
    shop.requestIds.set(requestId, position);
  }

  /** A commit that nobody was answered with as the one who made it comes after what its callers knew when they called. */
  #checkUnlearnt({ position }: CommitRecord, maker: Maker): void {
    if (maker.kind !== "unlearnt") return;
    const known = Math.min(...maker.records.map(({ invokedMs }) => this.#realTime.knownBefore(invokedMs)));
    if (known >= position)
      this.#violate("reordered", position, maker.records, `${known} had been told of before the call`);
  }

  #applyBackground({ position, timeMs, requestId }: CommitRecord, watched: WatchedCommit): boolean {
    this.#shop.position = position;
    this.#shop.timeMs = timeMs;
    try {
      const wrong = mismatchOfEvents(applyBackground(this.#shop, watched.events), watched);
      if (wrong !== undefined) this.#violate("wrong event", position, [], wrong);
      return true;
    } catch (error) {
      this.#violate("unknown commit", position, [], `${(error as Error).message} (request id "${requestId}")`);
      return false;
    }
  }

  #checkPlaced(record: CallRecord): void {
    const wrong = this.#wrongNow(record);
    if (wrong !== undefined) this.#violate("wrong answer", this.#shop.position, [record], wrong);
  }

  /** Looks at a call that was told no position; false when it need not be looked at again. */
  #isStillOpen(floating: Floating): boolean {
    const { record, last } = floating;
    const wrong = this.#wrongNow(record);
    if (wrong === undefined) return false;
    if (this.#shop.position < Math.min(last, this.#history.commits.length)) return true;
    this.#violate("wrong answer", last, [record], wrong);
    return false;
  }

  /** What is wrong with an outcome, if the shop is as it is in the model, at every time that it may have been decided. */
  #wrongNow(record: CallRecord): string | undefined {
    let wrong: string | undefined;
    for (const now of this.#timesOf(record)) {
      const why = this.#wrongAt(record, now);
      if (why === undefined) return undefined;
      wrong ??= why;
    }
    return wrong;
  }

  #wrongAt({ call, outcome }: CallRecord, now: number): string | undefined {
    if (outcome === undefined) return undefined;
    const decision = decide(this.#rpcs, this.#shop, call, contextOf(call, outcome, now));
    const wrong = mismatch(call.rpc, decision, outcome, (position) => this.#shop.calls.get(position));
    if (wrong !== undefined) return wrong;
    if (decision.kind === "replayed") {
      return mismatchOfCommit(outcome as AnsweredOutcome, this.#watched[decision.position - 1] as WatchedCommit);
    }
    const isQuote = call.rpc === "PreviewTierChange" && outcome.kind === "answered";
    return isQuote ? mismatchOfQuote(outcome.response) : undefined;
  }

  /** The milliseconds at which a call may have been decided; those that an answer tells of come first, then all. */
  *#timesOf({ outcome, attemptMs, returnedMs }: CallRecord): Generator<number> {
    const { position, timeMs } = this.#shop;
    const following = this.#history.mayFork === true ? undefined : this.#history.commits[position];
    const next = following?.timeMs ?? Number.POSITIVE_INFINITY;
    const from = Math.max(timeMs, Math.floor(attemptMs + this.#originMs) - clockSlackMs);
    const to = Math.max(from, Math.min(next, Math.ceil(returnedMs + this.#originMs) + clockSlackMs));
    const told = toldTimes(this.#shop, outcome).filter((time) => time >= from && time <= to);
    yield* [...told, from, to];
    const isRead = outcome?.kind === "answered" && outcome.asOf !== undefined;
    if (isRead && this.#history.mayLackRedis === true) yield Math.min(timeMs, beforeNextDue(this.#shop));
    for (let now = from + 1; now < to; now += 1) yield now;
  }

  #violate(kind: ViolationKind, position: number, calls: readonly CallRecord[], what: string): void {
    const who = calls.map(({ call, outcome }) => `${describe(call)}\n  was ${write(outcome)}`);
    this.#violations.push({ kind, position, calls, text: [what, ...who].join("\n  ") });
  }
}

/** The last millisecond at which nothing that is open is due. */
function beforeNextDue(shop: Shop): number {
  return Math.min(...openItems(shop).map((item) => dueTime(item) as number)) - 1;
}

/** Times that an answer lets conclude: when a quote takes effect, and how long to wait for the next hold that is due. */
function toldTimes(shop: Shop, outcome: CallRecord["outcome"]): number[] {
  if (outcome?.kind === "answered") {
    const { effective_time, expire_time } = (outcome.response.quote ?? {}) as Readonly<Record<string, number>>;
    return effective_time === undefined || expire_time === undefined ? [] : [effective_time, expire_time - quoteMs];
  }
  if (outcome?.retryMs === undefined) return [];
  const due = openItems(shop).map((item) => dueTime(item) as number);
  return due.length === 0 ? [] : [Math.min(...due) - outcome.retryMs];
}

/** What the decision of a call whose answer nobody learnt may look at: what the server made is in the events. */
function contextOfCommit(call: Call, { events, timeMs }: WatchedCommit): Context {
  const payloads = events.map(([, payload]) => payload);
  const merged: Plain = Object.assign({}, ...payloads.toReversed());
  const response = { ...merged } as AnsweredOutcome["response"];
  return contextOf(call, { kind: "answered", response, commit: undefined, asOf: undefined }, timeMs);
}

function push<Item>(map: Map<number, Item[]>, key: number, item: Item): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [item]);
  else list.push(item);
}
