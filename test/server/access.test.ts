import { type DescMethod, type DescService, getOption } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { access } from "../../gen/holdfast/v1/options_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { audience, createSigningKey, fromNow, issuer, sign, signWithSecret, unsigned } from "../helpers/issuer.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const key = createSigningKey();
const otherKey = createSigningKey();
const holdfast = useHoldfast({
  settings: {
    HOLDFAST_JWT_PUBLIC_KEY: key.publicPem,
    HOLDFAST_JWT_ISSUER: issuer,
    HOLDFAST_JWT_AUDIENCE: audience,
    HOLDFAST_JWT_ALGORITHMS: "ES256",
    HOLDFAST_GRPC_ADDR: "0.0.0.0:0",
  },
});

const services: DescService[] = [
  InventoryService,
  OrderService,
  UserService,
  SubscriptionService,
  EventService,
  AdminService,
];
const methods: DescMethod[] = services.flatMap((service) => service.methods);
const scopes = ["holdfast.read", "holdfast.write", "holdfast.admin", "holdfast.catalog", "holdfast.events"];

const doors = ["gRPC", "HTTP"] as const;
type Door = (typeof doors)[number];
const transports = {} as Record<Door, Transport>;

let sessions: Http2SessionManager;

beforeAll(async () => {
  const baseUrl = `http://${holdfast.grpcAddress}`;
  sessions = new Http2SessionManager(baseUrl);
  transports.gRPC = createGrpcTransport({ baseUrl, sessionManager: sessions });
  transports.HTTP = createConnectTransport({ baseUrl: holdfast.httpUrl, httpVersion: "1.1", useBinaryFormat: false });
  const admin = createClient(AdminService, transports.gRPC);
  const headers = { authorization: `Bearer ${await sign(key)}` };
  await admin.createShop({ shopId: "berlin", currencyCode: "EUR" }, { headers });
  await admin.createShop({ shopId: "rome", currencyCode: "EUR" }, { headers });
});

afterAll(() => sessions.abort());

type Request = Readonly<Record<string, unknown>>;
type Method = (
  req: Request,
  options: { headers: Record<string, string>; signal: AbortSignal },
) => Promise<unknown> | AsyncIterable<unknown>;

/** Calls an RPC, a stream only until its first message. Gives how it was refused; undefined: it was not. */
async function refusalOf(
  door: Door,
  method: DescMethod,
  token: string | undefined,
  req: Request = {},
): Promise<ConnectError | undefined> {
  const client = createClient(method.parent, transports[door]) as Record<string, Method>;
  const end = new AbortController();
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  try {
    const answer = client[method.localName]?.(req, { headers, signal: end.signal });
    await (answer instanceof Promise ? answer : (answer as AsyncIterable<unknown>)[Symbol.asyncIterator]().next());
    return undefined;
  } catch (error) {
    return ConnectError.from(error);
  } finally {
    end.abort();
  }
}

function reasonOf(error: ConnectError | undefined): string | undefined {
  const [info] = error?.findDetails(ErrorInfoSchema) ?? [];
  return error === undefined ? undefined : `${Code[error.code]} ${info?.reason}`;
}

/** All that a refusal tells its caller. */
function contentOf(error: ConnectError | undefined) {
  const [info] = error?.findDetails(ErrorInfoSchema) ?? [];
  return { code: error?.code, message: error?.rawMessage, info, detailCount: error?.details.length };
}

/** What each RPC that was not refused with `expected` answered, by name. */
async function others(expected: string, ask: (method: DescMethod) => Promise<ConnectError | undefined>) {
  const answers = await Promise.all(methods.map(async (method) => [method.name, reasonOf(await ask(method))] as const));
  return answers.filter(([, answer]) => answer !== expected);
}

/** Who made the commits about a subject, up to now. */
async function principalsOf(door: Door, subject: string): Promise<string[]> {
  const events = createClient(EventService, transports[door]);
  const end = new AbortController();
  const options = { headers: { authorization: `Bearer ${await sign(key)}` }, signal: end.signal };
  const principals: string[] = [];
  for await (const { message } of events.watchEvents({ shopId: "rome", subjects: [subject] }, options)) {
    if (message.case === "caughtUp") break;
    if (message.case === "batch") principals.push(message.value.principal);
  }
  end.abort();
  return principals;
}

const accessOf = (method: DescMethod) => getOption(method, access);
const hasField = (method: DescMethod, name: string) => method.input.fields.some((field) => field.name === name);

/** A request that names a shop, and a user where it can. */
function requestOf(method: DescMethod, shopId: string, userId = "alice"): Request {
  return { shopId, ...(hasField(method, "user_id") ? { userId } : {}) };
}

test("every RPC says who may call it, by scopes that exist", () => {
  const asked = methods.flatMap((method) => accessOf(method).scopes);

  expect(methods.filter((method) => accessOf(method).scopes.length === 0)).toEqual([]);
  expect(new Set(asked)).toEqual(new Set(scopes));
});

describe.each(doors)("by %s", (door) => {
  test.each<[string, () => Promise<string | undefined>]>([
    ["no token", async () => undefined],
    ["no token after Bearer", async () => ""],
    ["two tokens", async () => `${await sign(key)}, Bearer ${await sign(key)}`],
    ["an expired token", () => sign(key, { exp: fromNow(-1) })],
    ["a token of the future", () => sign(key, { nbf: fromNow(3600) })],
    ["another issuer's token", () => sign(key, { iss: "https://other.example" })],
    ["a token for another audience", () => sign(key, { aud: "other" })],
    ["a token with the algorithm none", async () => unsigned()],
    ["a token signed by HS256 with the public key", () => signWithSecret(key.publicPem)],
    ["a token of another key", () => sign(otherKey)],
    ["a token of a foreign kid with path characters", () => sign(otherKey, {}, { kid: "../../dev/null" })],
  ])("%s is UNAUTHENTICATED on every RPC", async (_name, make) => {
    const token = await make();

    expect(
      await others("Unauthenticated UNAUTHENTICATED", (method) =>
        refusalOf(door, method, token, requestOf(method, "berlin")),
      ),
    ).toEqual([]);
  });

  test("a token of another shop is PERMISSION_DENIED on every RPC", async () => {
    const token = await sign(key, { shops: ["rome"], scope: [...scopes, "holdfast.self"] });

    expect(
      await others("PermissionDenied PERMISSION_DENIED", (method) =>
        refusalOf(door, method, token, requestOf(method, "berlin")),
      ),
    ).toEqual([]);
  });

  test("a caller of one shop cannot list all of them", async () => {
    const token = await sign(key, { shops: ["rome"], scope: "holdfast.admin" });

    expect(reasonOf(await refusalOf(door, AdminService.method.listShops, token, { shopId: "rome" }))).toBe(
      "PermissionDenied PERMISSION_DENIED",
    );
  });

  test("an empty shop_id is the shop default, never the only shop of the token", async () => {
    const token = await sign(key, { shops: ["berlin"], scope: scopes });

    expect(await others("PermissionDenied PERMISSION_DENIED", (method) => refusalOf(door, method, token))).toEqual([]);
  });

  test("every scope but those an RPC takes is PERMISSION_DENIED, which names the first of them", async () => {
    for (const method of methods) {
      const taken = accessOf(method).scopes;
      const scope = [...scopes.filter((each) => !taken.includes(each)), "holdfast.readwrite", "HOLDFAST.READ"].join(
        " ",
      );
      const error = await refusalOf(door, method, await sign(key, { scope }), requestOf(method, "berlin"));

      expect([method.name, reasonOf(error)]).toEqual([method.name, "PermissionDenied PERMISSION_DENIED"]);
      expect(error?.findDetails(ErrorInfoSchema)[0]?.metadata).toEqual({ scope: taken[0] });
    }
  });

  test("each scope that an RPC takes lets the call through, in the shops of the token", async () => {
    for (const method of methods) {
      const { scopes: taken, allShops } = accessOf(method);
      for (const scope of taken) {
        const token = await sign(key, { scope, shops: allShops ? "*" : ["rome"] });
        const answer = reasonOf(await refusalOf(door, method, token, requestOf(method, "rome"))) ?? "answered";
        expect([method.name, scope, answer]).not.toContain("PermissionDenied PERMISSION_DENIED");
        expect([method.name, scope, answer]).not.toContain("Unauthenticated UNAUTHENTICATED");
      }
    }
  });

  test("a shop of somebody else is answered like one that does not exist, on every RPC", async () => {
    const token = await sign(key, { shops: ["rome"], scope: scopes });
    for (const method of methods) {
      const existing = await refusalOf(door, method, token, requestOf(method, "berlin"));
      const missing = await refusalOf(door, method, token, requestOf(method, "atlantis"));

      expect([method.name, contentOf(existing)]).toEqual([method.name, contentOf(missing)]);
    }
  });

  test("holdfast.self is PERMISSION_DENIED for another user's id, and on every RPC that is about no user", async () => {
    const token = await sign(key, { scope: "holdfast.self" });

    expect(
      await others("PermissionDenied PERMISSION_DENIED", (method) =>
        refusalOf(door, method, token, requestOf(method, "berlin", "bob")),
      ),
    ).toEqual([]);
    expect(
      await others("PermissionDenied PERMISSION_DENIED", (method) =>
        refusalOf(door, method, token, requestOf(method, "berlin", "")),
      ),
    ).toEqual([]);
  });

  test("holdfast.self is for the caller's own holds, orders, wallet and subscription", async () => {
    const token = await sign(key, { scope: "holdfast.self" });
    const answers = await Promise.all(
      methods.map(async (method) => {
        const error = await refusalOf(door, method, token, requestOf(method, "berlin", "alice"));
        return [method.name, reasonOf(error)] as const;
      }),
    );
    const allowed = answers.filter(([, answer]) => answer !== "PermissionDenied PERMISSION_DENIED");

    expect(allowed.map(([name]) => name).sort()).toEqual([
      "CancelScheduledChange",
      "ChangeTier",
      "GetSubscription",
      "GetUser",
      "HoldStock",
      "ListHolds",
      "ListOrders",
      "ListTierChanges",
      "ListWalletEntries",
      "PlaceOrder",
      "PreviewTierChange",
    ]);
  });

  test("nobody sells to itself free of charge", async () => {
    const { placeOrder } = OrderService.method;
    const order = { shopId: "berlin", userId: "alice", lines: [{ sku: "ps5", quantity: 1 }] };
    const ask = async (scope: string, paymentMethod: PaymentMethod) =>
      reasonOf(await refusalOf(door, placeOrder, await sign(key, { scope }), { ...order, paymentMethod }));

    const own = [PaymentMethod.UNSPECIFIED, PaymentMethod.WALLET, PaymentMethod.EXTERNAL];
    for (const paymentMethod of [...own, PaymentMethod.NONE, PaymentMethod.GATEWAY]) {
      expect([paymentMethod, await ask("holdfast.self", paymentMethod)]).toEqual([
        paymentMethod,
        own.includes(paymentMethod) ? "NotFound PRODUCT_NOT_FOUND" : "PermissionDenied PERMISSION_DENIED",
      ]);
      expect(await ask("holdfast.write", paymentMethod)).toBe("NotFound PRODUCT_NOT_FOUND");
    }
  });

  test("nobody holds for itself longer than a hold lasts by default", async () => {
    const { holdStock } = InventoryService.method;
    const hold = { shopId: "berlin", userId: "alice", lines: [{ sku: "ps5", quantity: 1 }] };
    const ask = async (scope: string, seconds: bigint, nanos = 0) =>
      reasonOf(
        await refusalOf(door, holdStock, await sign(key, { scope }), { ...hold, holdDuration: { seconds, nanos } }),
      );

    expect(await ask("holdfast.self", 600n)).toBe("NotFound PRODUCT_NOT_FOUND");
    expect(await ask("holdfast.self", 600n, 1_000_000)).toBe("PermissionDenied PERMISSION_DENIED");
    expect(await ask("holdfast.self", 86_400n)).toBe("PermissionDenied PERMISSION_DENIED");
    expect(await ask("holdfast.write", 86_400n)).toBe("NotFound PRODUCT_NOT_FOUND");
  });

  test("to take a consumer from its watcher is not reading", async () => {
    const { watchEvents } = EventService.method;
    const start = { case: "consumer", value: `worker-${door}` };
    const ask = async (scope: string) =>
      refusalOf(door, watchEvents, await sign(key, { scope }), { shopId: "rome", start });
    const error = await ask("holdfast.read");

    expect(reasonOf(error)).toBe("PermissionDenied PERMISSION_DENIED");
    expect(error?.findDetails(ErrorInfoSchema)[0]?.metadata).toEqual({ scope: "holdfast.events" });
    expect(reasonOf(await ask("holdfast.write"))).toBe("PermissionDenied PERMISSION_DENIED");
    expect(await ask("holdfast.events")).toBeUndefined();
    expect(await ask("holdfast.read holdfast.write")).toBeUndefined();
  });

  test("permission is decided before a replay", async () => {
    const { createUser } = UserService.method;
    const req = { shopId: "berlin", requestId: `replay-${door}`, userId: `u-${door}` };

    expect(await refusalOf(door, createUser, await sign(key, { scope: "holdfast.write" }), req)).toBeUndefined();
    expect(reasonOf(await refusalOf(door, createUser, await sign(key, { scope: "holdfast.read" }), req))).toBe(
      "PermissionDenied PERMISSION_DENIED",
    );
    expect(reasonOf(await refusalOf(door, createUser, await sign(key, { shops: ["rome"] }), req))).toBe(
      "PermissionDenied PERMISSION_DENIED",
    );
  });

  test("a stream ends with UNAUTHENTICATED when its token expires, after what it has sent", async () => {
    const events = createClient(EventService, transports[door]);
    const exp = fromNow(1.5);
    const headers = { authorization: `Bearer ${await sign(key, { exp })}` };
    const seen: (string | undefined)[] = [];
    const watch = (async () => {
      for await (const { message } of events.watchEvents({ shopId: "rome", eventTypes: ["shop_created"] }, { headers }))
        seen.push(message.case);
    })();
    const error = await watch.then(
      () => undefined,
      (reason: unknown) => ConnectError.from(reason),
    );

    expect(reasonOf(error)).toBe("Unauthenticated UNAUTHENTICATED");
    expect(seen).toEqual(["batch", "caughtUp"]);
    expect(Date.now() / 1000).toBeGreaterThanOrEqual(exp);
    expect(Date.now() / 1000).toBeLessThan(exp + 2);
  });

  test("the caller is recorded with its commits", async () => {
    const userId = `recorded-${door}`;
    const token = await sign(key, { sub: `shop front ${door} ✓` });
    expect(await refusalOf(door, UserService.method.createUser, token, { shopId: "rome", userId })).toBeUndefined();
    expect(await principalsOf(door, `user:${userId}`)).toEqual([`shop front ${door} ✓`]);
  });
});

test.each(["/livez", "/readyz", "/health", "/ready"])("the probe %s needs no token", async (path) => {
  expect((await fetch(holdfast.httpUrl + path)).status).toBe(200);
});

test("a malformed request without a token is UNAUTHENTICATED, with one VALIDATION_FAILED", async () => {
  const post = async (headers: Record<string, string>) => {
    const url = `${holdfast.httpUrl}/holdfast.v1.InventoryService/GetStock`;
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: '{"skuu":1}',
    });
    return ((await response.json()) as { code: string }).code;
  };

  expect(await post({})).toBe("unauthenticated");
  expect(await post({ authorization: `bearer ${await sign(key)}` })).toBe("invalid_argument");
});

test("tokens that come in without TLS on an address that others reach are warned of, once", () => {
  const warnings = holdfast.logged.map((line) => JSON.parse(line)).filter(({ msg }) => /unencrypted/.test(msg));

  expect(warnings).toMatchObject([{ level: 40, addresses: ["0.0.0.0:0"] }]);
});

test("nothing of this is a fault", () => {
  expect(holdfast.faults).toEqual([]);
});
