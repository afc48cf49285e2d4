import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import type { Clients, Doors } from "../helpers/holdfast.ts";
import { type Call, methods } from "./decide.ts";
import { type Plain, toMessage, toPlain } from "./plain.ts";

/** What a caller was told. */
export type Outcome = AnsweredOutcome | RefusedOutcome;

export interface AnsweredOutcome {
  readonly kind: "answered";
  /** Without `commit` and `as_of`. */
  readonly response: Plain;
  readonly commit: CommitSeen | undefined;
  readonly asOf: { readonly position: number; readonly epoch: number } | undefined;
}

export interface RefusedOutcome {
  readonly kind: "refused";
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly fields: readonly string[];
  readonly violations: readonly string[];
  readonly retryMs: number | undefined;
}

/** A Commit of a response. */
export interface CommitSeen {
  readonly position: number;
  readonly epoch: number;
  readonly commit_id: string;
  readonly commit_time: number;
  readonly request_id: string;
  readonly replayed?: boolean;
  readonly durable?: boolean;
}

/** A shop that nobody creates. */
const nobodysShop = "no-such-shop";

/** How long a call may take whose caller does not say, in milliseconds. */
const defaultTimeoutMs = 20_000;

type Method = (request: object, options: { headers: Record<string, string>; timeoutMs: number }) => Promise<object>;

/** Makes a call and says what came back. Throws what is neither an answer nor a refusal. */
export async function send(
  doors: Pick<Doors, Call["door"]>,
  shopId: string,
  call: Call,
  timeoutMs: number = defaultTimeoutMs,
): Promise<Outcome> {
  const { method, client } = methods.get(call.rpc) as { method: DescMethod; client: keyof Clients };
  const fieldId = call.idBy === "field" || call.idBy === "conflict" ? call.requestId : "";
  const hasId = method.input.fields.some(({ name }) => name === "request_id");
  const fields = {
    ...call.request,
    shop_id: call.toNobody === true ? nobodysShop : shopId,
    ...(hasId && { request_id: fieldId }),
  };
  const headers: Record<string, string> = {
    ...(call.idBy === "header" && { "idempotency-key": `"${call.requestId}"` }),
    ...(call.idBy === "conflict" && { "idempotency-key": `${call.requestId}-other` }),
    ...(call.idBy === "retried" && { "grpc-previous-rpc-attempts": "1" }),
  };
  const service = doors[call.door][client] as unknown as Readonly<Record<string, Method>>;
  try {
    const message = await (service[method.localName] as Method)(toMessage(method.input, fields), {
      headers,
      timeoutMs,
    });
    return readAnswer(method.output, message);
  } catch (error) {
    return readRefusal(error);
  }
}

function readAnswer(desc: DescMessage, message: object): AnsweredOutcome {
  const { commit, as_of, ...response } = toPlain(desc, message);
  const seen = commit as CommitSeen | undefined;
  const at = as_of as { readonly position?: number; readonly epoch?: number } | undefined;
  return {
    kind: "answered",
    response,
    commit: seen,
    asOf: at === undefined ? undefined : { position: at.position ?? 0, epoch: at.epoch ?? 0 },
  };
}

/** Reads a refusal; throws the error when it is none. */
export function readRefusal(error: unknown): RefusedOutcome {
  if (!(error instanceof ConnectError)) throw error;
  const [info, ...others] = error.findDetails(ErrorInfoSchema);
  if (info === undefined || others.length > 0 || info.domain !== "holdfast") throw error;
  const [badRequest] = error.findDetails(BadRequestSchema);
  const [precondition] = error.findDetails(PreconditionFailureSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  const delay = retry?.retryDelay;
  return {
    kind: "refused",
    reason: info.reason,
    metadata: info.metadata,
    fields: badRequest?.fieldViolations.map(({ field }) => field) ?? [],
    violations: precondition?.violations.map(({ type, subject }) => `${type} ${subject}`) ?? [],
    retryMs: delay === undefined ? undefined : Number(delay.seconds) * 1000 + delay.nanos / 1_000_000,
  };
}
