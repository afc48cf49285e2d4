import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { toRefusedError } from "../../src/client/refusals.ts";
import { createPatience, pauseAfter, repeatUntilDecided } from "../../src/client/repeat.ts";

it.each([
  [2n, 2005],
  [10_000_000n, 2 ** 31 - 1],
  [315_576_000_000n, 2 ** 31 - 1],
])(
  "a wait of %d s that the server asks for becomes a pause of %d ms: never one that a timer cannot wait",
  (seconds, ms) => {
    const info = {
      desc: ErrorInfoSchema,
      value: create(ErrorInfoSchema, { reason: "OVERLOADED", domain: "holdfast" }),
    };
    const retry = { desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay: { seconds } }) };
    const error = new ConnectError("", Code.ResourceExhausted, undefined, [info, retry]);
    error.details = [info, retry];

    expect(pauseAfter(toRefusedError(error), { duration: 5 } as Parameters<typeof pauseAfter>[1])).toBe(ms);
  },
);

it.each([Number.POSITIVE_INFINITY, 200_000_000])(
  "an attempt that may take %d ms gets a deadline that timers and gRPC's header have room for",
  async (attemptTimeoutMs) => {
    const bounds = { timeoutMs: 0, signal: undefined, isRepeatable: true };
    const given = await repeatUntilDecided(async (ms) => ms, bounds, createPatience({ attemptTimeoutMs }));

    expect(given).toBe(99_999_999);
  },
);
