import type { Doors } from "../helpers/holdfast.ts";
import { applyBackground } from "./background.ts";
import { type AnsweredOutcome, type Outcome, send } from "./caller.ts";
import { mismatch, mismatchOfCommit, mismatchOfEvents, mismatchOfQuote, mismatchOfResponse, write } from "./compare.ts";
import { Conservation } from "./conservation.ts";
import type { Coverage } from "./coverage.ts";
import { type Call, createRpcs, decide } from "./decide.ts";
import { Disagreement, describe } from "./failure.ts";
import type { Plain } from "./plain.ts";
import { methods, orderStates, type Shop } from "./state.ts";
import type { Quotes } from "./subscriptions.ts";
import { contextOf, mayNameAnEarlierCommit, positionOf } from "./told.ts";
import type { WatchedCommit, WatchedLog } from "./watched-log.ts";

/** A Holdfast and its clock, which the runs move on. */
export interface Subject {
  readonly doors: Doors;
  /** The clock of its shops, in milliseconds. */
  readonly clock: { nowMs: number };
  /** What the server logged as its own fault so far. */
  readonly faults: readonly string[];
}

/** A call and what came back. */
interface Told {
  readonly call: Call;
  readonly outcome: Outcome;
}

/** How long the payment worker may take for what is left, in milliseconds. */
const settleMs = 30_000;

/**
 * A shop and the model of it. Calls are sent at once; what they were told is then gone through in the order of the log:
 * accepted ones where their commit stands, refused ones and live reads at the position they name. What names no position
 * (replays, lists) must be right somewhere between the begin and the end of the calls.
 */
export class Session {
  readonly subject: Subject;
  readonly coverage: Coverage;
  readonly shop: Shop;
  readonly log: WatchedLog;
  readonly quotes: Quotes = new Map();
  /** Calls sent so far. */
  readonly history: Call[] = [];
  /** Page tokens that lists gave out. */
  readonly tokens: { rpc: string; token: string }[] = [];
  readonly #conservation = new Conservation();
  readonly #rpcs = createRpcs(this.quotes);

  constructor(subject: Subject, coverage: Coverage, shop: Shop, log: WatchedLog) {
    this.subject = subject;
    this.coverage = coverage;
    this.shop = shop;
    this.log = log;
  }

  /** Sends calls at once, and goes through what they were told. */
  async callAll(calls: readonly Call[]): Promise<void> {
    this.history.push(...calls);
    const { doors } = this.subject;
    const told = await Promise.all(
      calls.map(async (call) => {
        const outcome = await send(doors, this.shop.shopId, call).catch((error) => {
          throw new Disagreement(`${describe(call)}\n  was neither answered nor refused: ${error}`);
        });
        return { call, outcome };
      }),
    );
    for (const each of told) this.#count(each);
    await this.#follow(told);
    for (const each of told) this.#checkPersonal(each);
  }

  #count({ call, outcome }: Told): void {
    if (outcome.kind === "refused") this.coverage.refused(call.rpc, outcome.reason);
    else this.coverage.answered(call.rpc);
    const token = outcome.kind === "answered" ? outcome.response.next_page_token : undefined;
    if (typeof token === "string") this.tokens.push({ rpc: call.rpc, token });
  }

  /** Moves the model along the log as far as anything was told of, and compares on the way. */
  async #follow(told: readonly Told[]): Promise<void> {
    const byCommit = new Map<number, Told & { readonly outcome: AnsweredOutcome }>();
    const byPosition = new Map<number, Told[]>();
    const floating = new Set<Told>();
    for (const each of told) {
      const { outcome } = each;
      const position = positionOf(outcome);
      if (outcome.kind === "answered" && outcome.commit !== undefined && outcome.commit.replayed !== true) {
        if (byCommit.has(outcome.commit.position)) throw new Disagreement(`two calls made ${write(outcome.commit)}`);
        byCommit.set(outcome.commit.position, { ...each, outcome });
      } else if (position === undefined) {
        floating.add(each);
      } else {
        if (position < this.shop.position && mayNameAnEarlierCommit(outcome)) {
          floating.add(each);
          continue;
        }
        if (position < this.shop.position) {
          throw new Disagreement(
            `${describe(each.call)}\n  was told of position ${position}, after ${this.shop.position} had been acknowledged`,
          );
        }
        byPosition.set(position, [...(byPosition.get(position) ?? []), each]);
      }
    }
    const end = Math.max(
      this.shop.position,
      ...byCommit.keys(),
      ...byPosition.keys(),
      floating.size > 0 ? await this.#head() : 0,
    );
    await this.log.until(end);
    const why = new Map<Told, string>();
    for (;;) {
      for (const each of byPosition.get(this.shop.position) ?? []) this.#expectRight(each);
      for (const each of floating) {
        const wrong = this.#wrongNow(each);
        if (wrong === undefined) floating.delete(each);
        else why.set(each, wrong);
      }
      if (this.shop.position >= end) break;
      this.#applyNext(byCommit.get(this.shop.position + 1));
    }
    for (const each of floating) this.#disagree(each, why.get(each) as string);
  }

  /** The position of the newest durable commit. */
  async #head(): Promise<number> {
    const { shop } = await this.subject.doors.grpc.admin.getShop({ shopId: this.shop.shopId });
    return Number(shop?.durablePosition ?? 0);
  }

  #expectRight(told: Told): void {
    const wrong = this.#wrongNow(told);
    if (wrong !== undefined) this.#disagree(told, wrong);
  }

  /** What is wrong with what was told, if the shop is as it is in the model now. */
  #wrongNow({ call, outcome }: Told): string | undefined {
    const context = contextOf(call, outcome, this.subject.clock.nowMs);
    const decision = decide(this.#rpcs, this.shop, call, context);
    const isQuote = call.rpc === "PreviewTierChange" && outcome.kind === "answered";
    const wrong = mismatch(call.rpc, decision, outcome, (position) => this.shop.calls.get(position));
    if (wrong !== undefined) return wrong;
    if (decision.kind === "replayed") {
      return mismatchOfCommit(outcome as AnsweredOutcome, this.log.at(decision.position));
    }
    return isQuote ? mismatchOfQuote(outcome.response) : undefined;
  }

  /** Makes the next commit of the log in the model: that of a caller, or one that time or the payment worker made. */
  #applyNext(told: (Told & { readonly outcome: AnsweredOutcome }) | undefined): void {
    const shop = this.shop;
    const watched = this.log.at(shop.position + 1);
    if (watched.timeMs < shop.timeMs || watched.timeMs > this.subject.clock.nowMs) {
      throw new Disagreement(`commit ${watched.position} has the time ${watched.timeMs}`);
    }
    if (told === undefined) {
      shop.position = watched.position;
      shop.timeMs = watched.timeMs;
      this.#applyBackground(watched);
    } else {
      const { call, outcome } = told;
      const { made, ...context } = contextOf(call, outcome, watched.timeMs);
      const expectMade = (field: string): string =>
        made(field) || this.#disagree(told, `must have a ${field} that the server made`);
      const decision = decide(this.#rpcs, shop, call, { ...context, made: expectMade });
      if (decision.kind !== "accepted") {
        this.#disagree(told, `must not make a commit, but be ${write(decision)}`);
        return;
      }
      shop.position = watched.position;
      shop.timeMs = watched.timeMs;
      const { response, events } = decision.commit();
      const isRight = watched.timeMs === this.subject.clock.nowMs;
      const wrong =
        (isRight ? undefined : `must be made at ${this.subject.clock.nowMs}`) ??
        mismatchOfResponse(call.rpc, response, outcome.response) ??
        mismatchOfCommit(outcome, watched) ??
        mismatchOfEvents(events, watched);
      if (wrong !== undefined) this.#disagree(told, wrong);
      const { requestId } = watched;
      if (call.requestId !== "" && call.requestId !== requestId) this.#disagree(told, `must keep the request id`);
      shop.calls.set(watched.position, { rpc: call.rpc, requestId, body: call.request, response });
      shop.requestIds.set(requestId, watched.position);
    }
    this.#conserve(watched);
  }

  #applyBackground(watched: WatchedCommit): void {
    try {
      const wrong = mismatchOfEvents(applyBackground(this.shop, watched.events), watched);
      if (wrong !== undefined) throw new Error(wrong);
    } catch (error) {
      throw new Disagreement(
        `commit ${watched.position}, which no caller made: ${(error as Error).message}\n  was ${write(watched)}`,
      );
    }
  }

  #conserve(watched: WatchedCommit): void {
    try {
      this.#conservation.add(watched);
    } catch (error) {
      throw new Disagreement((error as Error).message);
    }
  }

  #disagree({ call, outcome }: Told, wrong: string): never {
    throw new Disagreement(
      `${describe(call)}\n  at position ${this.shop.position}, ${this.subject.clock.nowMs} ms: ${wrong}\n  was ${write(outcome)}`,
    );
  }

  /** What an answer says of a user's e-mail address and name must have been so once. */
  #checkPersonal(told: Told): void {
    if (told.outcome.kind !== "answered") return;
    const { user } = told.outcome.response as { readonly user?: Plain };
    if (user === undefined) return;
    const { email = "", display_name = "" } = user as { readonly email?: string; readonly display_name?: string };
    const known = this.shop.users.get(user.user_id as string)?.personal;
    if (known?.emails.has(email) !== true || !known.names.has(display_name)) {
      this.#disagree(told, "names an e-mail address or a name that the user never had");
    }
  }

  /** Moves the model to the newest durable commit; returns its position. */
  async catchUp(): Promise<number> {
    const head = await this.#head();
    await this.log.until(head);
    while (this.shop.position < head) this.#applyNext(undefined);
    return head;
  }

  /** Waits until the payment worker has nothing left to do. */
  async settle(): Promise<void> {
    const endsAt = performance.now() + settleMs;
    const isLeft = (): boolean =>
      [...this.shop.orders.values()].some(
        ({ state, method, unsettled }) =>
          (method === methods.gateway && state === orderStates.pending) || unsettled.size > 0,
      );
    while (isLeft()) {
      if (performance.now() > endsAt) throw new Disagreement("the payment worker left orders or refunds open");
      await this.log.next(200);
      await this.catchUp();
    }
  }
}
