import { bindCall } from "./bind.ts";
import { send } from "./caller.ts";
import type { World } from "./choose.ts";
import { closingSteps, openingCalls, type Step } from "./commands.ts";
import { write } from "./compare.ts";
import type { Coverage } from "./coverage.ts";
import type { Call } from "./decide.ts";
import { Disagreement, describe } from "./failure.ts";
import { readBack, rebuild, verify } from "./read-back.ts";
import { Session, type Subject } from "./session.ts";
import { createShopModel } from "./state.ts";
import { WatchedLog } from "./watched-log.ts";
import { consume, watch } from "./watching.ts";

/** One shop, from its creation on, and the steps that are taken on it. */
export class Run {
  readonly #session: Session;
  readonly #hasExtremes: boolean;
  #freshCount = 0;

  private constructor(session: Session, hasExtremes: boolean) {
    this.#session = session;
    this.#hasExtremes = hasExtremes;
  }

  /** Creates a shop that nobody else uses, with something to sell; `hasExtremes`: at prices up to 2^53-1 too. */
  static async start(subject: Subject, coverage: Coverage, shopId: string, hasExtremes: boolean): Promise<Run> {
    const call: Call = {
      rpc: "CreateShop",
      request: { currency_code: "USD" },
      requestId: "birth",
      door: "grpc",
      idBy: "field",
    };
    const outcome = await send(subject.doors, shopId, call);
    if (outcome.kind === "refused" || outcome.commit === undefined)
      throw new Disagreement(`no shop: ${write(outcome)}`);
    const { commit, response } = outcome;
    // The shop's clock is never before its last commit.
    subject.clock.nowMs = Math.max(subject.clock.nowMs, commit.commit_time + 1000);
    const shop = createShopModel(shopId, "USD", commit.commit_time);
    shop.calls.set(1, { rpc: call.rpc, requestId: call.requestId, body: call.request, response });
    shop.requestIds.set(call.requestId, 1);
    coverage.answered(call.rpc);
    const session = new Session(subject, coverage, shop, new WatchedLog(subject.doors.grpc, shopId));
    await session.log.until(1);
    for (const calls of openingCalls()) await session.callAll(calls);
    return new Run(session, hasExtremes);
  }

  /** Takes one step. Throws a {@link Disagreement}. */
  async step(step: Step): Promise<void> {
    const session = this.#session;
    if (step.kind === "clock") await this.#passTime(step.ms);
    else if (step.kind === "calls") await session.callAll(step.calls.flatMap((spec) => bindCall(spec, this.#world)));
    else if (step.kind === "check") await readBack(session);
    else if (step.kind === "rebuild") await rebuild(session);
    else if (step.kind === "verify") await verify(session);
    else if (step.kind === "watch") await watch(session, step);
    else await consume(session, step);
  }

  /** Moves the clock. An order must not wait for its charge so long that the gateway may have forgotten it. */
  async #passTime(ms: number): Promise<void> {
    if (ms >= 3_600_000) await this.#session.settle();
    this.#session.subject.clock.nowMs += ms;
  }

  /** Waits for the payment worker, reads everything back, and lets the server check itself. */
  async finish(): Promise<void> {
    await this.#session.settle();
    await readBack(this.#session);
    for (const step of closingSteps(this.#freshCount)) await this.step(step);
  }

  async close(): Promise<void> {
    await this.#session.log.close();
  }

  /** The last calls that were sent, one a line. */
  describeLast(count: number): string {
    return `\nlast calls:\n${this.#session.history.slice(-count).map(describe).join("\n")}`;
  }

  /** Calls sent so far. */
  get callCount(): number {
    return this.#session.history.length;
  }

  get #world(): World {
    const { shop, subject, quotes, tokens, history } = this.#session;
    return {
      shop,
      now: subject.clock.nowMs,
      quotes,
      tokens,
      history,
      hasExtremes: this.#hasExtremes,
      fresh: (kind) => {
        this.#freshCount += 1;
        return `${kind}${this.#freshCount}`;
      },
    };
  }
}
