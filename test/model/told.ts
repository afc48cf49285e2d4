import type { Outcome } from "./caller.ts";
import type { Call } from "./decide.ts";
import type { Context } from "./decision.ts";
import type { Plain } from "./plain.ts";

/** Refusals that name the commit that has the id, not where the shop was looked at. */
const namesAnotherCommit = /^(REQUEST_ID_REUSED|.*_EXISTS)$/;

/** Where in the log an outcome is true; undefined: it does not say. */
export function positionOf(outcome: Outcome): number | undefined {
  if (outcome.kind === "answered") return outcome.asOf?.position;
  const { position } = outcome.metadata;
  return position === undefined || namesAnotherCommit.test(outcome.reason) ? undefined : Number(position);
}

/** An order is in a state since the commit that brought it there, and a refusal may name that one. */
export function mayNameAnEarlierCommit(outcome: Outcome): boolean {
  return outcome.kind === "refused" && outcome.reason === "ORDER_STATE_INVALID";
}

/** Where in an answer the server puts what it made in place of an empty field. */
const madeFields: Readonly<Record<string, string>> = { own_referral_code: "referral_code" };

/** What the decision of a call may look at, when the server answered this; `now` in ms. */
export function contextOf(call: Call, outcome: Outcome, now: number): Context {
  const response = outcome.kind === "answered" ? outcome.response : {};
  return {
    now,
    answer: outcome.kind === "answered" ? outcome.response : undefined,
    made: (field) => {
      const asked = call.request[field];
      if (typeof asked === "string" && asked !== "") return asked;
      const { hold, order, user, quote } = response as Readonly<Record<string, Plain | undefined>>;
      const made = { ...hold, ...order, ...quote, ...user, ...response }[madeFields[field] ?? field];
      return typeof made === "string" ? made : "";
    },
  };
}
