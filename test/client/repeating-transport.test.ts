import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { DepositFundsRequestSchema, UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { createRepeatingTransport } from "../../src/client/index.ts";

it("every attempt sends what the caller gave, whatever becomes of the caller's own message and headers meanwhile", async () => {
  const sent: unknown[] = [];
  const unary = (
    _method: unknown,
    _signal: unknown,
    _timeoutMs: unknown,
    header: Record<string, string>,
    message: object,
  ) => {
    const { requestId, amountMinor } = message as { requestId: string; amountMinor: bigint };
    sent.push({ requestId, amountMinor, trace: new Headers(header).get("trace") });
    throw new ConnectError("away", Code.Unavailable);
  };
  const message = create(DepositFundsRequestSchema, { userId: "ann", requestId: "r1", amountMinor: 5n });
  const headers: Record<string, string> = { trace: "t1" };
  const onRepeat = (): void => {
    Object.assign(message, { requestId: "r2", amountMinor: 7n });
    headers.trace = "t2";
  };
  const transport = createRepeatingTransport({ unary } as unknown as Transport, {
    maxAttempts: 2,
    firstPauseMs: 1,
    onRepeat,
  });
  await expect(createClient(UserService, transport).depositFunds(message, { headers })).rejects.toThrow("away");

  const first = { requestId: "r1", amountMinor: 5n, trace: "t1" };
  expect(sent).toEqual([first, first]);
});
