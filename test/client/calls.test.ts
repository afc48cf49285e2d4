import { create, type DescMethod, isMessage } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { type HoldfastClient, refusalOf } from "../../src/client/index.ts";
import { isMutation } from "../../src/client/repeating-transport.ts";
import { startHoldfast } from "../helpers/holdfast.ts";
import { startProxy } from "../helpers/proxy.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";
import { openClient, transportNames } from "./doors.ts";

const uuidV7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const holdfast = useHoldfast();
let cleanUp: AsyncDisposableStack;

beforeEach(() => {
  cleanUp = new AsyncDisposableStack();
});
afterEach(() => cleanUp.disposeAsync());

const balanceOf = async (shopId: string) =>
  (await holdfast.grpc.users.getUser({ shopId, userId: "ann" })).user?.balanceMinor;

const deposit = (shopId: string) => ({ shopId, userId: "ann", amountMinor: 5n, reference: "transfer 17" });

/** The error a call ends with. */
async function errorOf(call: Promise<unknown>): Promise<ConnectError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ConnectError);
  return error as ConnectError;
}

/** A client whose attempts are noted, and what is done before each pause. */
async function openNoted(onRepeat = (_: ConnectError, _count: number): void => {}, options = {}) {
  const repeats: { readonly error: ConnectError; readonly atMs: number }[] = [];
  const noted = (error: unknown): void => {
    repeats.push({ error: error as ConnectError, atMs: performance.now() });
    onRepeat(error as ConnectError, repeats.length);
  };
  return { repeats, ...(await openClient(holdfast, cleanUp, { onRepeat: noted, ...options })) };
}

describe("the contract", () => {
  const methods: DescMethod[] = [
    AdminService,
    EventService,
    InventoryService,
    OrderService,
    SubscriptionService,
    UserService,
  ].flatMap((service) => service.methods);

  it("marks mutations by request_id: all, and only they, answer with a commit", () => {
    const marked = methods.filter(isMutation).map(({ name }) => name);
    const committing = methods.filter(({ output }) => output.field.commit !== undefined).map(({ name }) => name);
    expect(marked).toEqual(committing);
    expect(marked).toContain("PlaceOrder");
    expect(marked).not.toContain("GetStock");
  });

  it("declares of every other RPC that it does no harm twice", () => {
    const others = methods.filter((method) => !isMutation(method));
    const undeclared = others.filter(
      ({ idempotency }) => idempotency === MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN,
    );
    expect(undeclared.map(({ name }) => name)).toEqual([]);
  });
});

describe.each(transportNames)("over %s", (name) => {
  it("a call without an id whose answer is lost takes effect once, and gets its answer", async () => {
    const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
    const errors: unknown[] = [];
    const { proxy, client } = await openClient(holdfast, cleanUp, { onRepeat: (error) => errors.push(error) }, name);
    await client.users.getUser({ shopId, userId: "ann" });
    proxy.loseAnswers();
    const call = client.users.depositFunds(deposit(shopId));
    await until("the deposit is made", async () => (await balanceOf(shopId)) === 5n);
    proxy.cut();
    const { user, commit } = await call;
    expect(user?.balanceMinor).toBe(5n);
    expect(commit?.requestId).toMatch(uuidV7);
    expect(commit?.replayed).toBe(true);
    expect(errors.length).toBeGreaterThan(0);
    expect(await balanceOf(shopId)).toBe(5n);
  });

  it("every mutation gets an id of its own, and an id that was given is kept", async () => {
    const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
    const { client } = await openClient(holdfast, cleanUp, {}, name);
    const request = deposit(shopId);
    const ids: (string | undefined)[] = [];
    const call = async (requestId?: string, headers = {}): Promise<void> => {
      const given = requestId === undefined ? request : { ...request, requestId };
      ids.push((await client.users.depositFunds(given, { headers })).commit?.requestId);
    };
    await call();
    await call();
    await call("mine");
    await call(undefined, { "idempotency-key": "header" });
    expect(ids.slice(0, 2)).toEqual([expect.stringMatching(uuidV7), expect.stringMatching(uuidV7)]);
    expect(ids[0]).not.toBe(ids[1]);
    expect(ids.slice(2)).toEqual(["mine", "header"]);
    expect(request).toEqual(deposit(shopId));
  });

  it("a refusal is thrown once, with its reason and values", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 2 } });
    const errors: unknown[] = [];
    const { client } = await openClient(holdfast, cleanUp, { onRepeat: (error) => errors.push(error) }, name);
    await client.inventory.holdStock({ shopId, lines: [{ sku: "ps5", quantity: 1 }] });
    const error = await errorOf(client.inventory.holdStock({ shopId, lines: [{ sku: "ps5", quantity: 2 }] }));
    const refusal = refusalOf(error);
    expect(error.code).toBe(Code.FailedPrecondition);
    expect(refusal).toMatchObject({
      reason: "HELD_OUT",
      metadata: { sku: "ps5", requestedCount: 2n, availableCount: 1n, heldCount: 1n },
      cartViolations: [{ reason: "HELD_OUT", subject: "sku:ps5" }],
      retryMs: expect.any(Number),
    });
    expect(errors, "a wait that is for the caller to decide").toEqual([]);
  });

  it("a request that is too large is sent once", async () => {
    const errors: unknown[] = [];
    const { client } = await openClient(holdfast, cleanUp, { onRepeat: (error) => errors.push(error) }, name);
    const error = await errorOf(client.inventory.getStock({ sku: "x".repeat(70_000) }));
    expect([error.code, refusalOf(error)]).toEqual([Code.ResourceExhausted, undefined]);
    expect(errors).toEqual([]);
  });
});

it("leaves a caller's own message as it is, and gives it another id with every call", async () => {
  const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
  const { client } = await openClient(holdfast, cleanUp);
  const message = create(UserService.method.depositFunds.input, deposit(shopId));
  expect(isMessage(message)).toBe(true);
  await client.users.depositFunds(message);
  await client.users.depositFunds(message);
  expect(message.requestId).toBe("");
  expect(await balanceOf(shopId)).toBe(10n);
});

describe("a server that is away", () => {
  const read = (client: HoldfastClient, options = {}) => client.admin.getShop({ shopId: "default" }, options);

  it("is asked again until it is back", async () => {
    const { proxy, client, repeats } = await openNoted((_, count) => {
      if (count === 3) proxy.accept();
    });
    proxy.refuse();
    expect((await read(client)).shop?.shopId).toBe("default");
    expect(repeats.length).toBeGreaterThanOrEqual(3);
  });

  it("is asked maxAttempts times", async () => {
    const { proxy, client, repeats } = await openNoted(undefined, { maxAttempts: 3 });
    proxy.refuse();
    expect((await errorOf(read(client))).code).toBe(Code.Unavailable);
    expect(repeats.length).toBe(2);
  });

  it("is not asked after the call's deadline, which no pause oversteps", async () => {
    const { proxy, client } = await openNoted(undefined, {
      maxAttempts: 1000,
      firstPauseMs: 60_000,
      longestPauseMs: 60_000,
    });
    proxy.refuse();
    const startedMs = performance.now();
    await errorOf(read(client, { timeoutMs: 1500 }));
    await errorOf(read(client, { timeoutMs: 1500 }));
    expect(performance.now() - startedMs).toBeLessThan(10_000);
  });

  it.each(["the call's signal", "the client's signal"])("%s ends a pause", async (whose) => {
    const stopper = new AbortController();
    const slow = { firstPauseMs: 60_000, longestPauseMs: 60_000, timeoutMs: 600_000 };
    const options = whose === "the client's signal" ? { ...slow, signal: stopper.signal } : slow;
    const { proxy, client, repeats } = await openNoted(() => setImmediate(() => stopper.abort()), options);
    proxy.refuse();
    const error = await errorOf(read(client, whose === "the call's signal" ? { signal: stopper.signal } : {}));
    expect(error.code).toBe(Code.Canceled);
    expect(repeats.length).toBe(1);
  });

  it("that does not answer an attempt in time is asked again with the same id", async () => {
    const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
    const { proxy, client, repeats } = await openNoted(
      (_, count) => {
        if (count === 1) proxy.thaw();
      },
      { attemptTimeoutMs: 300 },
    );
    await client.users.getUser({ shopId, userId: "ann" });
    proxy.freeze();
    const { commit } = await client.users.depositFunds(deposit(shopId));
    expect(commit?.requestId).toMatch(uuidV7);
    expect(repeats[0]?.error.code).toBe(Code.DeadlineExceeded);
    expect(await balanceOf(shopId)).toBe(5n);
  });
});

describe("while PostgreSQL is away", () => {
  it("a call is repeated after the time that the server names, and succeeds when it is back", async () => {
    const postgres = await startProxy(holdfast.urls.databaseUrl);
    cleanUp.defer(() => postgres.stop());
    const other = await startHoldfast({ ...holdfast.urls, databaseUrl: postgres.url });
    cleanUp.defer(() => other.stop());
    const shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
    const repeats: { readonly retryMs: number; readonly atMs: number }[] = [];
    const onRepeat = (error: unknown): void => {
      repeats.push({ retryMs: refusalOf(error)?.retryMs ?? 0, atMs: performance.now() });
      if (repeats.length === 3) postgres.accept();
    };
    const { client } = await openClient(other, cleanUp, { onRepeat, timeoutMs: 60_000, maxAttempts: 100 });
    await client.users.getUser({ shopId, userId: "ann" });
    postgres.refuse();
    const { commit } = await client.users.depositFunds({ ...deposit(shopId), requestId: uniqueId("r") });
    expect(commit?.durable).toBe(true);
    const named = repeats.slice(0, -1).filter(({ retryMs }) => retryMs > 0);
    expect(named.length).toBeGreaterThan(0);
    for (const [index, { retryMs, atMs }] of repeats.slice(0, -1).entries()) {
      expect((repeats[index + 1]?.atMs ?? 0) - atMs).toBeGreaterThanOrEqual(retryMs - 1);
    }
    expect(await balanceOf(shopId)).toBe(5n);
  });
});
