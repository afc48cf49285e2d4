import { Code, ConnectError } from "@connectrpc/connect";
import { expect } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import type { Clients } from "./holdfast.ts";

/** A refusal as a caller sees it, without the wrapping. */
export interface SeenRefusal {
  readonly code: Code;
  readonly message: string;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Paths of the fields that broke a rule; undefined without a BadRequest. */
  readonly fields: readonly string[] | undefined;
  /** `SOLD_OUT sku:ps5`; undefined without a PreconditionFailure. */
  readonly violations: readonly string[] | undefined;
  /** Undefined without a RetryInfo. */
  readonly retryMs: number | undefined;
}

/** The refusal a call ends with. Throws when it succeeds, fails without a refusal, or says too much. */
export async function refusalOf(call: Promise<unknown>): Promise<SeenRefusal> {
  let answer: unknown;
  try {
    answer = await call;
  } catch (error) {
    return readRefusal(error);
  }
  throw new Error(`the call was not refused: ${String(answer)}`);
}

/** Reads the one ErrorInfo of an error, and what comes with it. Throws the error when it is no refusal. */
export function readRefusal(error: unknown): SeenRefusal {
  if (!(error instanceof ConnectError)) throw error;
  const infos = error.findDetails(ErrorInfoSchema);
  const [info] = infos;
  if (info === undefined || infos.length !== 1 || info.domain !== "holdfast") throw error;
  const [badRequest] = error.findDetails(BadRequestSchema);
  const [precondition] = error.findDetails(PreconditionFailureSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  return {
    code: error.code,
    message: error.rawMessage,
    reason: info.reason,
    metadata: info.metadata,
    fields: badRequest?.fieldViolations.map(({ field }) => field),
    violations: precondition?.violations.map(({ type, subject }) => `${type} ${subject}`),
    retryMs:
      retry?.retryDelay === undefined
        ? undefined
        : Number(retry.retryDelay.seconds) * 1000 + retry.retryDelay.nanos / 1_000_000,
  };
}

/** Fails unless a call is refused as expected and has changed nothing in the shop. */
export async function expectRefusal(
  clients: Clients,
  shopId: string,
  call: () => Promise<unknown>,
  expected: Partial<SeenRefusal>,
): Promise<void> {
  const { shop: before } = await clients.admin.getShop({ shopId });
  const refusal = await refusalOf(call());
  expect(refusal).toMatchObject(expected);
  const { shop: after } = await clients.admin.getShop({ shopId });
  // The first use of a shop opens it, which begins its first epoch.
  expect({ ...after, epoch: 0n }, "a refusal writes nothing").toEqual({ ...before, epoch: 0n });
  if (refusal.code === Code.InvalidArgument) return;
  // What exists already names the commit that made it.
  const position = refusal.code === Code.AlreadyExists ? expect.any(String) : String(before?.headPosition);
  const epoch = refusal.code === Code.AlreadyExists ? expect.any(String) : String(after?.epoch);
  expect(refusal.metadata, "where the shop was looked at").toMatchObject({ position, epoch });
}
