import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { beforeAll, describe, expect, test } from "vitest";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { readTraceParent, traceIdOf } from "../../src/server/trace-parent.ts";
import { audience, createSigningKey, fromNow, issuer, sign } from "../helpers/issuer.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { uniqueId } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";
import { readAll } from "./clients.ts";

const key = createSigningKey();
const holdfast = useHoldfast({
  settings: {
    HOLDFAST_JWT_PUBLIC_KEY: key.publicPem,
    HOLDFAST_JWT_ISSUER: issuer,
    HOLDFAST_JWT_AUDIENCE: audience,
  },
});
const traceId = "0af7651916cd43dd8448eb211c80319c";
const traceparent = `00-${traceId}-b7ad6b7169203331-01`;

async function clientsOf(sub: string, claims = {}) {
  const token = await sign(key, { sub, ...claims });
  const authorize: Interceptor = (next) => (req) => {
    req.header.set("authorization", `Bearer ${token}`);
    req.header.set("traceparent", traceparent);
    return next(req);
  };
  const transport = createConnectTransport({
    baseUrl: holdfast.httpUrl,
    httpVersion: "1.1",
    interceptors: [authorize],
  });
  return {
    token,
    admin: createClient(AdminService, transport),
    orders: createClient(OrderService, transport),
    users: createClient(UserService, transport),
  };
}

let alice: Awaited<ReturnType<typeof clientsOf>>;
beforeAll(async () => {
  alice = await clientsOf("alice");
});

const refused = () =>
  holdfast.logged.map((line) => JSON.parse(line)).filter(({ msg }) => msg === "a mutation was refused");

describe("a refused mutation", () => {
  test("is logged with what it was about, by whom and in which trace", async () => {
    const requestId = uniqueId("request");
    const lines = [{ sku: "none", quantity: 3 }];
    expect(await refusalOf(alice.orders.placeOrder({ requestId, lines, userId: "ann" }))).toMatchObject({
      reason: "PRODUCT_NOT_FOUND",
    });
    expect(refused()).toContainEqual(
      expect.objectContaining({
        level: 30,
        rpc: "/holdfast.v1.OrderService/PlaceOrder",
        shop: "default",
        request_id: requestId,
        principal: "alice",
        trace: traceId,
        reason: "PRODUCT_NOT_FOUND",
        sku: "none",
        position: expect.any(String),
      }),
    );
  });

  test("is logged once a second for each reason, and the next line says how many were not", async () => {
    const place = () => refusalOf(alice.orders.placeOrder({ holdId: "none" }));
    const count = () => refused().filter(({ reason }) => reason === "HOLD_NOT_FOUND");
    await Promise.all([...Array(20)].map(place));
    const { length } = count();
    expect(length).toBeLessThan(10);
    let calls = 20;
    await until("another is logged", async () => {
      calls += 1;
      return (await place()) !== undefined && count().length > length;
    });
    const told = count().reduce((sum, { unlogged }) => sum + 1 + unlogged, 0);
    expect(told).toBe(calls);
  });
});

describe("who has a shop rebuilt", () => {
  const rebuilds = () =>
    holdfast.logged.map((line) => JSON.parse(line)).filter(({ msg }) => msg === "a caller had a shop rebuilt");
  const rpc = "/holdfast.v1.AdminService/RebuildShop";

  test("is logged", async () => {
    for await (const { done } of alice.admin.rebuildShop({})) if (done) break;
    await until("it is logged", () => rebuilds().length > 0);
    expect(rebuilds()[0]).toMatchObject({ level: 30, rpc, shop: "default", principal: "alice", trace: traceId });
  });

  test("is logged also when the token expires in the middle", async () => {
    const { admin } = await clientsOf("bob", { exp: Math.ceil(fromNow(1)) });
    const shop = holdfast.server.store.shops.get("default");
    const rebuild = shop.rebuild.bind(shop);
    shop.rebuild = async (...args) => {
      const head = await rebuild(...args);
      await sleep(3000);
      return head;
    };
    const refusal = await refusalOf(readAll(admin.rebuildShop({}))).finally(() => {
      shop.rebuild = rebuild;
    });
    expect(refusal).toMatchObject({ reason: "UNAUTHENTICATED" });
    expect(rebuilds().at(-1)).toMatchObject({ rpc, principal: "bob", completed: false });
  });

  test("is nobody who leaves before anything was asked", async () => {
    const { length } = rebuilds();
    const session = connectHttp2(`http://${holdfast.grpcAddress}`);
    await once(session, "remoteSettings");
    const head = { ":method": "POST", ":path": rpc, "content-type": "application/grpc", te: "trailers" };
    const stream = session.request(head, { endStream: false });
    stream.on("error", () => undefined);
    await sleep(100);
    stream.close(constants.NGHTTP2_CANCEL);
    await sleep(100);
    session.close();
    expect(rebuilds()).toHaveLength(length);
  });
});

describe("the log", () => {
  test("has no e-mail, name, token or text of a caller in it, whatever was refused, failed or done", async () => {
    const secret = "Sentinel-of-this-test";
    const email = `${secret}@example.com`;
    const eve = await clientsOf(email);
    const { users, orders } = eve;
    const profile = { email, displayName: secret };
    await users.createUser({ userId: "eve", ...profile });
    const attempts = [
      () => users.createUser({ userId: "eve2", ...profile }),
      () => users.createUser({ userId: email, ...profile }),
      () => users.createUser({ shopId: email, ...profile }),
      () => users.createUser({ requestId: email, ...profile }),
      () => users.createUser({ userId: "eve3", displayName: `${secret}\u0007` }),
      () => users.updateUser({ userId: "nobody", ...profile }),
      () => users.withdrawFunds({ userId: "eve", amountMinor: 5n, reference: secret }),
      () => orders.cancelOrder({ orderId: "none", reason: secret }),
    ];
    for (const attempt of attempts) {
      // Each until it is its turn to be logged.
      const { length } = refused();
      await until("it is logged", async () => (await refusalOf(attempt())) !== undefined && refused().length > length);
    }
    const send = (body: string, token = eve.token) =>
      fetch(`${holdfast.httpUrl}/holdfast.v1.UserService/CreateUser`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
        body,
      });
    await send(JSON.stringify({ [email]: 1 }));
    await send(`{"email": "${email}`);
    await send(JSON.stringify(profile), `${eve.token.slice(0, -4)}${secret}`);
    const text = holdfast.logged.join("\n");
    for (const word of [secret, secret.toLowerCase(), eve.token, eve.token.split(".")[1] as string]) {
      expect(text).not.toContain(word);
    }
    // Not because nothing was logged.
    const digest = createHash("sha256").update(email).digest("hex").slice(0, 16);
    const reasons = refused().filter(({ principal }) => principal === `sha256:${digest}`);
    expect(reasons.map(({ reason }) => reason)).toEqual(expect.arrayContaining(["EMAIL_TAKEN", "VALIDATION_FAILED"]));
  });

  test("says nothing of reads, and of callers whose credentials are none only that", async () => {
    const from = holdfast.logged.length;
    expect(await refusalOf(alice.orders.getOrder({ orderId: "none" }))).toMatchObject({ code: Code.NotFound });
    expect(holdfast.logged.slice(from)).toEqual([]);
    await until("one is logged", async () => {
      const refusal = await refusalOf(holdfast.http.orders.placeOrder({ holdId: "h" }));
      return refusal?.reason === "UNAUTHENTICATED" && holdfast.logged.length > from;
    });
    const { rpc, reason, ...rest } = JSON.parse(holdfast.logged.at(-1) as string);
    expect([rpc, reason]).toEqual(["/holdfast.v1.OrderService/PlaceOrder", "UNAUTHENTICATED"]);
    expect([rest.principal, rest.shop]).toEqual([undefined, undefined]);
  });
});

test.each([
  ["", ""],
  [traceparent, traceparent],
  [`00-${"0".repeat(32)}-b7ad6b7169203331-01`, ""],
  [`00-${traceId}-${"0".repeat(16)}-01`, ""],
  [traceparent.toUpperCase(), ""],
  [`ff-${traceparent.slice(3)}`, ""],
  [`${traceparent}-more`, ""],
  [`${traceparent}, ${traceparent}`, ""],
  [`00-${traceId}\n-b7ad6b7169203331-01`, ""],
])("of the traceparent %j is taken %j", (header, taken) => {
  expect(readTraceParent(header)).toBe(taken);
  expect(traceIdOf(readTraceParent(header))).toBe(taken === "" ? undefined : traceId);
});
