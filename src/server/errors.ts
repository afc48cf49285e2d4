import { create, type DescMessage, type Message } from "@bufbuild/protobuf";
import { type Any, DurationSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { type Reason, Refusal, type RefusalDetails, type SubjectViolation } from "../refusal.ts";
import { writeMessage } from "./message-writer.ts";

/** `domain` of every google.rpc.ErrorInfo we send. */
const ERROR_DOMAIN = "holdfast";

// Details travel in a header block, base64-encoded. gRPC core starts to drop responses whose headers pass 8 KiB.
const MAX_VIOLATION_BYTES = 5000;
const MAX_MESSAGE_CHARACTERS = 512;

/** The gRPC status of every reason. A reason that is missing here does not compile. */
export const CODE_OF_REASON: Readonly<Record<Reason, Code>> = {
  UNAUTHENTICATED: Code.Unauthenticated,
  PERMISSION_DENIED: Code.PermissionDenied,
  VALIDATION_FAILED: Code.InvalidArgument,
  REQUEST_ID_REQUIRED: Code.InvalidArgument,
  RATE_LIMITED: Code.ResourceExhausted,
  OVERLOADED: Code.ResourceExhausted,
  SHOP_UNAVAILABLE: Code.Unavailable,
  SHOP_FENCED: Code.Unavailable,
  SHOP_NOT_FOUND: Code.NotFound,
  REQUEST_ID_REUSED: Code.InvalidArgument,
  QUOTE_INVALID: Code.InvalidArgument,
  PRODUCT_NOT_FOUND: Code.NotFound,
  USER_NOT_FOUND: Code.NotFound,
  HOLD_NOT_FOUND: Code.NotFound,
  ORDER_NOT_FOUND: Code.NotFound,
  TIER_NOT_FOUND: Code.NotFound,
  CONSUMER_NOT_FOUND: Code.NotFound,
  SHOP_EXISTS: Code.AlreadyExists,
  USER_EXISTS: Code.AlreadyExists,
  EMAIL_TAKEN: Code.AlreadyExists,
  REFERRAL_CODE_TAKEN: Code.AlreadyExists,
  ORDER_EXISTS: Code.AlreadyExists,
  HOLD_EXISTS: Code.AlreadyExists,
  STOCK_CHANGED: Code.Aborted,
  QUOTE_STALE: Code.Aborted,
  CONSUMER_TAKEN: Code.Aborted,
  HISTORY_CHANGED: Code.Aborted,
  HOLD_EXPIRED: Code.FailedPrecondition,
  HOLD_RELEASED: Code.FailedPrecondition,
  HOLD_COMMITTED: Code.FailedPrecondition,
  HOLD_LIMIT_REACHED: Code.FailedPrecondition,
  ORDER_STATE_INVALID: Code.FailedPrecondition,
  ALREADY_ON_TIER: Code.FailedPrecondition,
  NO_SCHEDULED_CHANGE: Code.FailedPrecondition,
  REFERRAL_INVALID: Code.FailedPrecondition,
  REFUND_EXCEEDS_PAID: Code.FailedPrecondition,
  NOT_ON_SALE: Code.FailedPrecondition,
  PRICE_CHANGED: Code.FailedPrecondition,
  PER_USER_LIMIT: Code.FailedPrecondition,
  SOLD_OUT: Code.FailedPrecondition,
  HELD_OUT: Code.FailedPrecondition,
  INSUFFICIENT_FUNDS: Code.FailedPrecondition,
  INSUFFICIENT_CREDITS: Code.FailedPrecondition,
  BALANCE_LIMIT: Code.OutOfRange,
  POSITION_AHEAD: Code.OutOfRange,
  POSITION_TRIMMED: Code.OutOfRange,
};

/**
 * A call that ends without an answer of ours: its deadline passed or its caller left. For a mutation this means that the
 * outcome is unknown to the caller, never that it failed.
 */
export class CallEnded extends Error {
  override readonly name = "CallEnded";
  readonly code: Code.DeadlineExceeded | Code.Canceled;

  constructor(code: Code.DeadlineExceeded | Code.Canceled, isMutation = false) {
    const advice = isMutation ? "; the outcome is unknown, repeat with the same request_id to learn it" : "";
    super(code === Code.DeadlineExceeded ? `deadline exceeded${advice}` : "cancelled by the caller");
    this.code = code;
  }
}

/** A call with more request messages than one, or none: gRPC's own answer to what the method does not have. */
export class UnexpectedMessages extends Error {
  override readonly name = "UnexpectedMessages";
  readonly code = Code.Unimplemented;
}

/** A message of google.rpc with its type, as it goes into the details of a status. */
export interface ErrorDetail {
  readonly desc: DescMessage;
  readonly value: Message;
}

/** How a call fails, before a door puts it into its protocol. */
export interface CallError {
  readonly code: Code;
  readonly message: string;
  readonly details: readonly ErrorDetail[];
  /** What goes with it besides: headers or trailers, as its protocol has it. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
}

/**
 * When a call that was one too many may be repeated, in milliseconds: clients of gRPC that repeat by themselves read this, and
 * no RetryInfo.
 */
export const PUSHBACK = "grpc-retry-pushback-ms";

/** The status that a failed call ends with. */
export function codeOf(error: unknown): Code {
  if (error instanceof Refusal) {
    return CODE_OF_REASON[error.reason];
  }
  return error instanceof CallEnded || error instanceof UnexpectedMessages ? error.code : Code.Internal;
}

/** Turns whatever was thrown into what the caller is told. Nothing of an unknown error is told. */
export function toCallError(error: unknown): CallError {
  const code = codeOf(error);
  if (!(error instanceof Refusal)) {
    return { code, message: isFault(error) ? "internal error" : (error as Error).message, details: [] };
  }
  const details = refusalDetails(error.reason, error.details);
  return { code, message: shortened(error.message), details, metadata: pushbackOf(error) };
}

/** True for errors that are a fault of ours, and so belong in the log. */
export function isFault(error: unknown): boolean {
  return codeOf(error) === Code.Internal;
}

/** A serialised google.rpc.Status: the trailer `grpc-status-details-bin`. */
export function toStatusBytes({ code, message, details }: CallError): Uint8Array {
  const packed = details.map(({ desc, value }): Any => {
    const typeUrl = `type.googleapis.com/${desc.typeName}`;
    return { $typeName: "google.protobuf.Any", typeUrl, value: writeMessage(desc, value) };
  });
  const status: Status = { $typeName: "google.rpc.Status", code, message, details: packed };
  return writeMessage(StatusSchema, status);
}

/** The same error for connect, which writes it in the caller's protocol. */
export function toConnectError({ code, message, details, metadata }: CallError): ConnectError {
  return new ConnectError(message, code, metadata, [...details]);
}

function pushbackOf({ reason, details: { retryMs } }: Refusal): CallError["metadata"] {
  const isOneTooMany = CODE_OF_REASON[reason] === Code.ResourceExhausted && retryMs !== undefined;
  return isOneTooMany ? { [PUSHBACK]: String(Math.ceil(retryMs)) } : undefined;
}

function refusalDetails(reason: Reason, details: RefusalDetails): ErrorDetail[] {
  const { metadata = {}, retryMs, fieldViolations = [], subjectViolations = [] } = details;
  const fields = withinLimit(fieldViolations, ({ field, description }) => field.length + description.length);
  const subjects = subjectsWithinLimit(subjectViolations);
  const omittedCount = fieldViolations.length - fields.length + subjectViolations.length - subjects.length;
  const info = create(ErrorInfoSchema, {
    reason,
    domain: ERROR_DOMAIN,
    metadata: omittedCount === 0 ? metadata : { ...metadata, omitted_violation_count: String(omittedCount) },
  });
  const all: ErrorDetail[] = [{ desc: ErrorInfoSchema, value: info }];
  if (fields.length > 0) {
    all.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations: fields }) });
  }
  if (subjects.length > 0) {
    const violations = subjects.map(({ reason: type, subject, description }) => ({ type, subject, description }));
    all.push({ desc: PreconditionFailureSchema, value: create(PreconditionFailureSchema, { violations }) });
  }
  if (retryMs !== undefined) {
    all.push({ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay: toDuration(retryMs) }) });
  }
  return all;
}

/** Which SKUs failed matters more than a sentence for each: where not all have room, they go without their sentences. */
function subjectsWithinLimit(violations: readonly SubjectViolation[]): readonly SubjectViolation[] {
  const byteCount = ({ reason, subject, description }: SubjectViolation) =>
    reason.length + subject.length + description.length;
  const whole = withinLimit(violations, byteCount);
  const short = violations.map((violation) => ({ ...violation, description: "" }));
  return whole.length === violations.length ? whole : withinLimit(short, byteCount);
}

/** As many of the violations, from the first on, as a header block has room for. */
function withinLimit<T>(violations: readonly T[], byteCount: (violation: T) => number): T[] {
  let left = MAX_VIOLATION_BYTES;
  const taken: T[] = [];
  for (const violation of violations) {
    left -= byteCount(violation) + 8;
    if (left < 0) {
      break;
    }
    taken.push(violation);
  }
  return taken;
}

function toDuration(durationMs: number) {
  const wholeMs = Math.ceil(durationMs);
  return create(DurationSchema, {
    seconds: BigInt(Math.floor(wholeMs / 1000)),
    nanos: (wholeMs % 1000) * 1_000_000,
  });
}

/** A lone surrogate would make the percent-encoding of `grpc-message` throw. */
function shortened(message: string): string {
  return message.slice(0, MAX_MESSAGE_CHARACTERS).toWellFormed();
}
