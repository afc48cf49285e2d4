import type { Random } from "../chaos/callers/random.ts";
import { applyBackground } from "../model/background.ts";
import type { AnsweredOutcome, CommitSeen, Outcome } from "../model/caller.ts";
import { bodyOf, type Call, createRpcs, decide, methods as rpcs } from "../model/decide.ts";
import type { Decision, Refused } from "../model/decision.ts";
import { normalise, type Plain } from "../model/plain.ts";
import { createShopModel, dueTime, methods, openItems, unfinishedItems } from "../model/state.ts";
import type { CallRecord, CommitRecord, History } from "./history.ts";

/** When a call of a simulated shop happens, in ms around the moment at which it takes effect. */
export interface Duration {
  readonly before: number;
  readonly after: number;
}

const atOnce: Duration = { before: 1, after: 1 };

/** The moment at which a simulated shop is created, in ms of clocks. */
export const birthMs = 1_800_000_000_000;

/** A shop that is nothing but the model: it makes right histories, without a server. */
export class SimulatedShop {
  readonly calls: CallRecord[] = [];
  readonly commits: CommitRecord[] = [];
  /** The time of its clock, in ms. */
  now = birthMs;
  readonly #shop = createShopModel("simulated", "USD", birthMs);
  readonly #rpcs = createRpcs(new Map());
  #madeCount = 0;

  constructor() {
    this.#record("birth", "CreateShop", [{ shop_created: {} }]);
  }

  get history(): History {
    const { calls, commits } = this;
    return { shopId: "simulated", currencyCode: "USD", calls, commits, originMs: birthMs };
  }

  /** Makes a call that takes effect `ms` after the one before, and returns how its caller lived it. */
  call(rpc: string, request: Plain, requestId = `r${this.calls.length}`, ms = 20, took: Duration = atOnce): CallRecord {
    return this.send({ rpc, request: bodyOf(rpc, request), requestId, door: "grpc", idBy: "field" }, ms, took);
  }

  send(call: Call, ms = 20, took: Duration = atOnce): CallRecord {
    this.now += ms;
    this.endDue();
    const outcome = this.#answer(call);
    const effectMs = this.now - birthMs;
    const invokedMs = effectMs - took.before;
    const record = { call, invokedMs, attemptMs: invokedMs, returnedMs: effectMs + took.after, outcome };
    this.calls.push(record);
    return record;
  }

  /** Commits every expiry that is due. */
  endDue(): void {
    const { now } = this;
    for (const item of openItems(this.#shop).filter((each) => (dueTime(each) as number) <= now)) {
      if ("method" in item) this.#background("order_cancelled", { order: { order_id: item.id } });
      else this.#background("hold_expired", { hold: { hold_id: item.id } });
    }
  }

  /** Charges every pending GATEWAY order. */
  charge(): void {
    for (const item of unfinishedItems(this.#shop)) {
      if (!("method" in item) || item.method !== methods.gateway) continue;
      const charge_id = item.amount === 0 ? "" : `charge-${item.id}`;
      this.#background("order_confirmed", { order: { order_id: item.id, charge_id } });
    }
  }

  #background(name: string, payload: Plain): void {
    this.#shop.position += 1;
    this.#shop.timeMs = this.now;
    this.#record("", "Background", applyBackground(this.#shop, [[name, payload]]));
  }

  #record(requestId: string, rpc: string, events: readonly Plain[]): void {
    const position = this.commits.length + 1;
    const identity = { position, commitId: `commit-${position}`, epoch: 1, timeMs: this.now, principal: "" };
    this.commits.push(structuredClone({ ...identity, requestId, rpc, events }));
  }

  #answer(call: Call): Outcome {
    const shop = this.#shop;
    const { position } = shop;
    const known = { epoch: 1, head_position: position, durable_position: position };
    const decision = decide(this.#rpcs, shop, call, {
      now: this.now,
      answer: { shop: known },
      made: (field) => {
        const asked = (call.request[field] ?? "") as string;
        return asked === "" ? this.#make(field) : asked;
      },
    });
    if (decision.kind === "accepted") return this.#accept(call, decision);
    if (decision.kind === "refused") return refusalOf(decision, position);
    if (decision.kind === "replayed") {
      const past = shop.calls.get(decision.position)?.response ?? {};
      return answerOf(call.rpc, past, { ...this.#seen(decision.position), replayed: true });
    }
    const isLive = rpcs.get(call.rpc)?.method.output.fields.some(({ name }) => name === "as_of") === true;
    return {
      ...answerOf(call.rpc, withLines(decision.response), undefined),
      asOf: isLive ? { position, epoch: 1 } : undefined,
    };
  }

  #accept(call: Call, decision: Extract<Decision, { kind: "accepted" }>): Outcome {
    const shop = this.#shop;
    shop.position += 1;
    shop.timeMs = this.now;
    const { response, events } = decision.commit();
    const requestId = call.requestId === "" ? this.#make("request") : call.requestId;
    this.#record(requestId, call.rpc, events);
    shop.calls.set(shop.position, { rpc: call.rpc, requestId, body: call.request, response });
    shop.requestIds.set(requestId, shop.position);
    return answerOf(call.rpc, response, this.#seen(shop.position));
  }

  #make(field: string): string {
    this.#madeCount += 1;
    return `made-${field}-${this.#madeCount}`;
  }

  /** A commit as an answer tells of it. */
  #seen(position: number): CommitSeen {
    const { commitId, timeMs, requestId } = this.commits[position - 1] as CommitRecord;
    return { position, epoch: 1, commit_id: commitId, commit_time: timeMs, request_id: requestId, durable: true };
  }
}

/** The model leaves open what a quote is made of. */
function withLines(response: Plain): Plain {
  const quote = response.quote as { readonly charged_credits: number; readonly credited_credits: number } | undefined;
  if (quote === undefined) return response;
  return { quote: { ...quote, lines: [{ credits: quote.charged_credits - quote.credited_credits }] } };
}

function answerOf(rpc: string, response: Plain, commit: CommitSeen | undefined): AnsweredOutcome {
  const { output } = rpcs.get(rpc)?.method ?? { output: undefined };
  if (output === undefined) throw new Error(`there is no RPC ${rpc}`);
  return { kind: "answered", response: structuredClone(normalise(output, response)), commit, asOf: undefined };
}

function refusalOf({ reason, metadata, fieldIn, badField, violations, retryMs }: Refused, position: number): Outcome {
  const place = reason === "VALIDATION_FAILED" ? {} : { position: `${position}`, epoch: "1" };
  const field = fieldIn?.[0] === undefined ? {} : { field: fieldIn[0] };
  return {
    kind: "refused",
    reason,
    metadata: { ...metadata, ...place, ...field },
    fields: badField === undefined ? [] : [badField],
    violations: violations ?? [],
    retryMs,
  };
}

/** How long a call of a random history takes, in ms: many overlap. */
export function randomDuration(random: Random): Duration {
  return { before: random.between(0.5, 30), after: random.between(0.5, 30) };
}
