import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { isUndecided, RefusedError, refusalOf } from "../../src/client/index.ts";
import { toRefusedError, valueKinds } from "../../src/client/refusals.ts";
import type { Reason } from "../../src/refusal.ts";
import { CODE_OF_REASON } from "../../src/server/errors.ts";

const reasons = Object.keys(CODE_OF_REASON) as Reason[];

/** An error as a transport makes it of what the server sent. */
function sent(reason: string, metadata: Record<string, string> = {}, code = Code.FailedPrecondition): ConnectError {
  const info = { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason, domain: "holdfast", metadata }) };
  const error = new ConnectError("a sentence", code, undefined, [info]);
  const { details } = ConnectError.from(error);
  error.details = details;
  return error;
}

/** The values that a reason's comment in the contract names after "Metadata:". */
function documented(): Map<string, readonly string[]> {
  const proto = readFileSync(new URL("../../proto/holdfast/v1/error_reason.proto", import.meta.url), "utf8");
  const values = new Map<string, readonly string[]>();
  for (const [, comment = "", reason = ""] of proto.matchAll(
    /((?: {2}\/\/[^\n]*\n)+) {2}ERROR_REASON_(\w+) = [1-9]/g,
  )) {
    const [, listed = ""] = /Metadata: (.*)/.exec(comment.replaceAll(/\n? +\/\/ /g, " ")) ?? [];
    const names = [...listed.replaceAll(/\(.*?\)/g, "").matchAll(/`([a-z_]+)`/g)].map(([, name = ""]) => name);
    values.set(reason, listed.startsWith("as SOLD_OUT") ? (values.get("SOLD_OUT") ?? []) : names);
  }
  return values;
}

describe("the values of a refusal", () => {
  it.each([...documented()])("of %s are those of the contract", (reason, names) => {
    const known = Object.keys(valueKinds[reason as Reason]);
    const sentNames = known.map((name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
    expect(sentNames.sort()).toEqual([...names].sort());
  });

  it("are of all reasons", () => {
    expect([...documented().keys()].sort()).toEqual([...reasons].sort());
  });

  it("are read by their kind", () => {
    const metadata = {
      sku: "ps5",
      limit: "9007199254740991",
      had_count: "1",
      requested_count: "2",
      position: "7",
      epoch: "3",
    };
    const refusal = refusalOf(sent("PER_USER_LIMIT", metadata));
    expect(refusal).toEqual({
      reason: "PER_USER_LIMIT",
      metadata: { sku: "ps5", limit: 9007199254740991n, hadCount: 1n, requestedCount: 2n },
      position: 7n,
      epoch: 3n,
      fieldViolations: [],
      cartViolations: [],
    });
    // Compiles only because the reason tells what the values are.
    const left = refusal?.reason === "PER_USER_LIMIT" ? refusal.metadata.limit - refusal.metadata.hadCount : 0n;
    expect(left).toBe(9007199254740990n);
  });

  it("that the contract gives in some cases only may be absent", () => {
    expect(refusalOf(sent("ORDER_STATE_INVALID", { order_id: "o", state: "PAID" }))?.metadata).toEqual({
      orderId: "o",
      state: "PAID",
    });
  });

  it("of a reason from a newer server come as they were sent", () => {
    const refusal = refusalOf(sent("NEW_REASON", { some_count: "1" }));
    expect(refusal).toMatchObject({ reason: "UNSPECIFIED", name: "NEW_REASON", metadata: { some_count: "1" } });
    expect(refusalOf(sent("toString"))).toMatchObject({ reason: "UNSPECIFIED", name: "toString" });
  });

  it("that this client does not know come as they were sent", () => {
    const refusal = refusalOf(
      sent("NOT_ON_SALE", { sku: "ps5", sale_start_time: "2026-12-01T00:00:00Z", position: "7" }),
    );
    expect(refusal?.metadata).toEqual({ sku: "ps5", saleStartTime: "2026-12-01T00:00:00Z" });
    const left = refusal?.reason === "NOT_ON_SALE" ? refusal.metadata["saleStartTime"] : undefined;
    expect(left).toBe("2026-12-01T00:00:00Z");
  });

  it("of POSITION_TRIMMED are positions", () => {
    const metadata = { oldest_position: "5", head_position: "9" };
    expect(refusalOf(sent("POSITION_TRIMMED", metadata))?.metadata).toEqual({ oldestPosition: 5n, headPosition: 9n });
  });
});

describe("an error of the client", () => {
  it("is a RefusedError when Holdfast refused, and no other is one", () => {
    const plain = new ConnectError("lost", Code.Unavailable);
    const refused = toRefusedError(sent("SOLD_OUT"));
    expect(refused).toBeInstanceOf(RefusedError);
    expect(refused).toBeInstanceOf(ConnectError);
    expect(refused).toMatchObject({ code: Code.FailedPrecondition, rawMessage: "a sentence" });
    expect((refused as RefusedError).findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "SOLD_OUT" }]);
    expect(toRefusedError(plain)).toBe(plain);
    expect(plain).not.toBeInstanceOf(RefusedError);
    expect(toRefusedError(refused)).toBe(refused);
  });

  it("has no refusal when another service gave the reason", () => {
    const info = { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason: "SOLD_OUT", domain: "elsewhere" }) };
    expect(refusalOf(new ConnectError("", Code.Unavailable, undefined, [info]))).toBeUndefined();
    expect(refusalOf(new Error("not of a call"))).toBeUndefined();
  });

  it.each(reasons)("%s is repeated only when waiting helps", (reason) => {
    const helps = ["SHOP_UNAVAILABLE", "RATE_LIMITED", "OVERLOADED"];
    expect(isUndecided(sent(reason, {}, CODE_OF_REASON[reason]))).toBe(helps.includes(reason));
  });

  it.each([
    [Code.Unavailable, true],
    [Code.ResourceExhausted, true],
    [Code.Aborted, false],
    [Code.Internal, false],
  ])("of code %d with a reason from a newer server leaves the call undecided: %s", (code, undecided) => {
    expect(isUndecided(sent("NEW_REASON", {}, code))).toBe(undecided);
  });

  it.each([
    [Code.Unavailable, true],
    [Code.ResourceExhausted, false],
    [Code.DeadlineExceeded, true],
    [Code.Unknown, true],
    [Code.Internal, true],
    [Code.Canceled, true],
    [Code.Aborted, true],
    [Code.InvalidArgument, false],
    [Code.NotFound, false],
    [Code.FailedPrecondition, false],
    [Code.Unimplemented, false],
    [Code.Unauthenticated, false],
    [Code.PermissionDenied, false],
  ])("of code %d without a reason leaves the call undecided: %s", (code, undecided) => {
    expect(isUndecided(new ConnectError("", code))).toBe(undecided);
  });

  it("tells a wait to the millisecond", () => {
    const error = sent("OVERLOADED", {}, Code.ResourceExhausted);
    const retry = create(RetryInfoSchema, { retryDelay: { seconds: 2n, nanos: 5_000_000 } });
    error.details.push({ desc: RetryInfoSchema, value: retry });
    expect(refusalOf(error)?.retryMs).toBe(2005);
  });
});
