import type { Plain } from "./plain.ts";
import type { Shop } from "./state.ts";

/** What the model says of a call at one point of the log. */
export type Decision = Refused | Accepted | Replayed | Answered;

/** The call is refused, with at least this. */
export interface Refused {
  readonly kind: "refused";
  readonly reason: string;
  /** Keys and values that the metadata must have. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Fields of which the metadata's `field` must name one. */
  readonly fieldIn?: readonly string[];
  /** A field that the BadRequest must name. */
  readonly badField?: string;
  /** `SOLD_OUT sku:a`, in order. */
  readonly violations?: readonly string[];
  /** What RetryInfo must say, in ms. */
  readonly retryMs?: number;
}

/** The call makes the next commit. */
export interface Accepted {
  readonly kind: "accepted";
  /** Changes the shop, whose position and time are the commit's by then. */
  readonly commit: () => Effects;
}

/** What a commit answers and tells. */
export interface Effects {
  /** Without `commit`. */
  readonly response: Plain;
  readonly events: readonly Plain[];
}

/** The call is answered with an earlier commit. */
export interface Replayed {
  readonly kind: "replayed";
  readonly position: number;
}

/** The call reads. `response` is without `as_of`. */
export interface Answered {
  readonly kind: "answered";
  readonly response: Plain;
}

/** What a decision may look at besides the shop and the request. */
export interface Context {
  /** The shop's clock, in ms. */
  readonly now: number;
  /** What the server made itself: ids, codes, tokens. Taken from its answer. */
  readonly made: (field: string) => string;
  /** What is open to the server: how an answer was, where the contract leaves room. */
  readonly answer: Plain | undefined;
}

export type Decide = (shop: Shop, request: Plain, context: Context) => Decision;

export function refuse(reason: string, details: Omit<Refused, "kind" | "reason"> = {}): Refused {
  return { kind: "refused", reason, ...details };
}

export function refuseField(field: string): Refused {
  return refuse("VALIDATION_FAILED", { badField: field });
}

export function accept(commit: () => Effects): Accepted {
  return { kind: "accepted", commit };
}

export function answer(response: Plain): Answered {
  return { kind: "answered", response };
}

/** An answer that rests on something whose time was over and which the log did not end first: never right. */
export function late(what: string): Refused {
  return refuse(`(none: ${what} was due and its end was not committed first)`);
}
