import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { audience, issuer, signWithSecret } from "../helpers/issuer.ts";
import { readRefusal } from "../helpers/refusals.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const secret = "a secret of more than thirty-two bytes";
const shopId = "watched";
const holdfast = useHoldfast({
  settings: {
    HOLDFAST_JWT_SECRET: secret,
    HOLDFAST_JWT_ISSUER: issuer,
    HOLDFAST_JWT_AUDIENCE: audience,
    HOLDFAST_MAX_WATCHES_PER_CALLER: "2",
  },
});
const doors = {} as Record<"gRPC" | "HTTP", Client<typeof EventService>>;

beforeAll(async () => {
  const grpc = createGrpcTransport({ baseUrl: `http://${holdfast.grpcAddress}` });
  const http = createConnectTransport({ baseUrl: holdfast.httpUrl, httpVersion: "1.1" });
  doors.gRPC = createClient(EventService, grpc);
  doors.HTTP = createClient(EventService, http);
  const headers = await tokenOf("keeper");
  await createClient(AdminService, grpc).createShop({ shopId, currencyCode: "EUR" }, { headers });
});

async function tokenOf(principal: string) {
  return { authorization: `Bearer ${await signWithSecret(secret, { sub: principal })}` };
}

describe.each(["gRPC", "HTTP"] as const)("by %s", (door) => {
  /** What the watch of a principal that was opened last says next. */
  const rests = new Map<string, AsyncIterator<unknown>>();

  /** Opens a watch and reads the first message; the returned function ends it. */
  async function open(principal: string, consumer = ""): Promise<() => void> {
    const abort = new AbortController();
    onTestFinished(() => abort.abort());
    const options = { headers: await tokenOf(principal), signal: abort.signal };
    const start = consumer === "" ? undefined : ({ case: "consumer", value: consumer } as const);
    const messages = doors[door].watchEvents(start === undefined ? { shopId } : { shopId, start }, options);
    const iterator = messages[Symbol.asyncIterator]();
    await iterator.next();
    rests.set(principal, iterator);
    return () => abort.abort();
  }

  test("a caller has no more watches open than it may, others theirs, and may open another when one has ended", async () => {
    const eager = `eager-${door}`;
    const endOne = await open(eager);
    await open(eager);
    const error = await open(eager).catch(ConnectError.from);
    const { code, reason, retryMs } = readRefusal(error);
    expect([code, reason, retryMs]).toEqual([Code.ResourceExhausted, "OVERLOADED", 1000]);
    await open(`modest-${door}`);
    endOne();
    await expect
      .poll(
        () =>
          open(eager).then(
            () => "opened",
            () => "refused",
          ),
        { timeout: 5000 },
      )
      .toBe("opened");
    // It had not counted when it was refused.
    expect(readRefusal(await open(eager).catch(ConnectError.from)).reason).toBe("OVERLOADED");
  });

  test("a watch that is refused does not take the consumer from whoever has it", async () => {
    const [owner, full] = [`owner-${door}`, `full-${door}`];
    await open(owner, `mail-${door}`);
    await open(full);
    await open(full);
    expect(readRefusal(await open(full, `mail-${door}`).catch(ConnectError.from)).reason).toBe("OVERLOADED");
    // Its next message, and no CONSUMER_TAKEN.
    expect(await rests.get(owner)?.next()).toMatchObject({ done: false });
  });
});
