import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  type ErrorInfo,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import type { FieldViolation, Reason } from "../refusal.ts";

/** What a value of a refusal's metadata is; with `?` it comes only in the cases that the contract names. */
type ValueKind = "text" | "integer" | "text?" | "integer?";

const units = {
  sku: "text",
  requestedCount: "integer",
  availableCount: "integer",
  heldCount: "integer",
  deltaCount: "integer?",
} as const;

/** The values each reason comes with, as error_reason.proto lists them. A reason that is missing here does not compile. */
export const valueKinds = {
  UNAUTHENTICATED: {},
  PERMISSION_DENIED: { scope: "text" },
  VALIDATION_FAILED: {},
  REQUEST_ID_REQUIRED: {},
  RATE_LIMITED: {},
  OVERLOADED: {},
  SHOP_UNAVAILABLE: { storeError: "text?", requestId: "text?" },
  SHOP_FENCED: {},
  SHOP_NOT_FOUND: {},
  REQUEST_ID_REUSED: { field: "text" },
  QUOTE_INVALID: {},
  PRODUCT_NOT_FOUND: { sku: "text" },
  USER_NOT_FOUND: { userId: "text", sku: "text?" },
  HOLD_NOT_FOUND: {},
  ORDER_NOT_FOUND: {},
  TIER_NOT_FOUND: {},
  CONSUMER_NOT_FOUND: {},
  SHOP_EXISTS: { shopId: "text", field: "text" },
  USER_EXISTS: { userId: "text", field: "text" },
  EMAIL_TAKEN: {},
  REFERRAL_CODE_TAKEN: {},
  ORDER_EXISTS: { orderId: "text", field: "text" },
  HOLD_EXISTS: { holdId: "text", field: "text" },
  STOCK_CHANGED: {},
  QUOTE_STALE: {},
  CONSUMER_TAKEN: {},
  HISTORY_CHANGED: {},
  HOLD_EXPIRED: {},
  HOLD_RELEASED: {},
  HOLD_COMMITTED: {},
  HOLD_LIMIT_REACHED: {},
  ORDER_STATE_INVALID: {
    orderId: "text",
    state: "text",
    cancelReason: "text?",
    paymentMethod: "text?",
    field: "text?",
  },
  ALREADY_ON_TIER: {},
  NO_SCHEDULED_CHANGE: {},
  REFERRAL_INVALID: {},
  REFUND_EXCEEDS_PAID: {
    orderId: "text",
    amountMinor: "integer",
    paidMinor: "integer",
    refundedMinor: "integer",
  },
  NOT_ON_SALE: { sku: "text" },
  PRICE_CHANGED: { sku: "text", expectedMinor: "integer", priceMinor: "integer" },
  PER_USER_LIMIT: { sku: "text", limit: "integer", hadCount: "integer", requestedCount: "integer" },
  SOLD_OUT: units,
  HELD_OUT: units,
  INSUFFICIENT_FUNDS: { requiredMinor: "integer", balanceMinor: "integer" },
  INSUFFICIENT_CREDITS: { requiredCredits: "integer", credits: "integer" },
  BALANCE_LIMIT: {},
  POSITION_AHEAD: {},
  POSITION_TRIMMED: { oldestPosition: "integer", headPosition: "integer" },
} as const satisfies Record<Reason, Readonly<Record<string, ValueKind>>>;

type ValueOf<Kind> = Kind extends "text" | "text?" ? string : bigint;

/** With what the contract does not list, or a newer one does, as it was sent. */
type ValuesOf<Kinds> = {
  readonly [Name in keyof Kinds as Kinds[Name] extends `${string}?` ? never : Name]: ValueOf<Kinds[Name]>;
} & {
  readonly [Name in keyof Kinds as Kinds[Name] extends `${string}?` ? Name : never]?: ValueOf<Kinds[Name]>;
} & { readonly [name: string]: string | bigint | undefined };

/** One SKU of a cart that could not be served. */
export interface CartViolation {
  /** Why, a Reason: `SOLD_OUT`. May grow. */
  readonly reason: string;
  /** `sku:<sku>`. */
  readonly subject: string;
  /** A sentence for people; empty where a large cart left no room for it. */
  readonly description: string;
}

/** What every refusal may carry. */
interface Circumstances {
  /** The position of the log that the refusal is true of; undefined where no shop was looked at. */
  readonly position?: bigint;
  /** The epoch of that position. */
  readonly epoch?: bigint;
  /** When another try makes sense, in milliseconds from now; undefined: waiting does not help. */
  readonly retryMs?: number;
  /** The fields that broke a rule; empty but for VALIDATION_FAILED. */
  readonly fieldViolations: readonly FieldViolation[];
  /** One per SKU that failed; empty but for a cart's refusal. */
  readonly cartViolations: readonly CartViolation[];
}

/** A refusal by a reason that this client knows. */
export type KnownRefusal = {
  [Name in Reason]: Circumstances & { readonly reason: Name; readonly metadata: ValuesOf<(typeof valueKinds)[Name]> };
}[Reason];

/** A refusal by a reason that is newer than this client: treat it like its gRPC status. */
export interface UnknownRefusal extends Circumstances {
  readonly reason: "UNSPECIFIED";
  /** The reason as it was sent. */
  readonly name: string;
  /** The values as they were sent. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Why a call was refused, told apart by `reason`: in the branch of `SOLD_OUT`, `metadata.availableCount` is a bigint. Names
 * of values are those of the contract in camel case; counts, amounts and positions are bigint, in the contract's units.
 */
export type Refusal = KnownRefusal | UnknownRefusal;

/** The error of a call that Holdfast refused. Nothing was changed. Everything else fails with another ConnectError. */
export class RefusedError extends ConnectError {
  /** The reason and its values. */
  readonly refusal: Refusal;

  constructor(error: ConnectError, refusal: Refusal) {
    super(error.rawMessage, error.code, error.metadata, undefined, error.cause);
    this.details = error.details;
    this.refusal = refusal;
  }

  // ConnectError takes for its instances whatever looks like one, and so would this class, for every ConnectError.
  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof ConnectError && "refusal" in value;
  }
}

/** Reads the refusal of an error that any client of Connect or this one threw; undefined when it is none. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (error instanceof RefusedError) {
    return error.refusal;
  }
  const info = error instanceof ConnectError ? error.findDetails(ErrorInfoSchema)[0] : undefined;
  return info?.domain === "holdfast" ? decode(info, error as ConnectError) : undefined;
}

/** The error as this client throws it: a refusal as RefusedError, anything else as it is. */
export function toRefusedError(error: unknown): unknown {
  const refusal = error instanceof RefusedError ? undefined : refusalOf(error);
  return refusal === undefined ? error : new RefusedError(error as ConnectError, refusal);
}

const undecidedReasons: ReadonlySet<string> = new Set<Reason>(["SHOP_UNAVAILABLE", "RATE_LIMITED", "OVERLOADED"]);

/**
 * Without a reason of Holdfast's, the call was not taken, or nobody knows what became of it. RESOURCE_EXHAUSTED is not among
 * them: without a reason it says that a message is too large, and the same call would end so again.
 */
const undecidedCodes: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.DeadlineExceeded,
  Code.Canceled,
  Code.Unknown,
  Code.Internal,
  Code.Aborted, // what connect-node makes of a connection that was reset
]);

/**
 * Whether a call that ended so may be sent again with the same request id: it was not taken, or its outcome is unknown.
 * False for what was decided, and for SHOP_FENCED, which an operator has to end.
 */
export function isUndecided(error: unknown): boolean {
  if (!(error instanceof ConnectError)) {
    return false;
  }
  const refusal = refusalOf(error);
  if (refusal === undefined) {
    return undecidedCodes.has(error.code);
  }
  return refusal.reason === "UNSPECIFIED"
    ? error.code === Code.Unavailable || error.code === Code.ResourceExhausted
    : undecidedReasons.has(refusal.reason);
}

function decode({ reason, metadata }: ErrorInfo, error: ConnectError): Refusal {
  const circumstances = circumstancesOf(metadata, error);
  const kinds: Readonly<Record<string, ValueKind>> | undefined = Object.hasOwn(valueKinds, reason)
    ? valueKinds[reason as Reason]
    : undefined;
  if (kinds === undefined) {
    return { reason: "UNSPECIFIED", name: reason, metadata, ...circumstances };
  }
  const { position: _position, epoch: _epoch, ...sent } = metadata;
  const values = Object.entries(sent).map(([field, value]) => {
    const name = field.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const isInteger = Object.hasOwn(kinds, name) && kinds[name]?.startsWith("integer");
    return [name, isInteger ? BigInt(value) : value];
  });
  return { reason, metadata: Object.fromEntries(values), ...circumstances } as KnownRefusal;
}

function circumstancesOf({ position, epoch }: Readonly<Record<string, string>>, error: ConnectError): Circumstances {
  const [badRequest] = error.findDetails(BadRequestSchema);
  const [precondition] = error.findDetails(PreconditionFailureSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  const { retryDelay } = retry ?? {};
  return {
    ...(position === undefined ? {} : { position: BigInt(position) }),
    ...(epoch === undefined ? {} : { epoch: BigInt(epoch) }),
    ...(retryDelay === undefined ? {} : { retryMs: Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1_000_000 }),
    fieldViolations: (badRequest?.fieldViolations ?? []).map(({ field, description }) => ({ field, description })),
    cartViolations: (precondition?.violations ?? []).map(({ type, subject, description }) => ({
      reason: type,
      subject,
      description,
    })),
  };
}
