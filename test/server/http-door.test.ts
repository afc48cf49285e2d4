import { once } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import { createClients } from "./clients.ts";
import { aborted, openDoors, stockOf } from "./open-doors.ts";

const GET_STOCK = "/holdfast.v1.InventoryService/GetStock";

function post(
  url: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(url, { method: "POST", headers: { "content-type": "application/json", ...headers }, body });
}

test("curl-like JSON gets JSON with zeros", async () => {
  const { httpUrl } = await openDoors({});
  const response = await post(httpUrl + GET_STOCK, '{"sku":"ps5"}');

  expect(await response.json()).toEqual({
    stock: { sku: "ps5", availableCount: "0", heldCount: "0", soldCount: "3", priceMinor: "0" },
  });
});

test("a compressed request is understood", async () => {
  const { httpUrl } = await openDoors({});
  const response = await post(httpUrl + GET_STOCK, new Uint8Array(gzipSync('{"sku":"ps5"}')), {
    "content-encoding": "gzip",
  });

  expect(response.status).toBe(200);
});

test("a compressed request that unpacks to more than 64 KiB is refused", async () => {
  const { httpUrl } = await openDoors({});
  const response = await post(httpUrl + GET_STOCK, new Uint8Array(gzipSync(`{"sku":"${"x".repeat(1_000_000)}"}`)), {
    "content-encoding": "gzip",
  });

  expect(await response.json()).toMatchObject({ code: "resource_exhausted" });
});

test("reads can be called by GET", async () => {
  const { httpUrl } = await openDoors({});
  const query = new URLSearchParams({ encoding: "json", message: '{"sku":"ps5"}' });

  expect(await (await fetch(`${httpUrl}${GET_STOCK}?${query}`)).json()).toMatchObject({ stock: { sku: "ps5" } });
});

test.each([
  ["a read", 200, `${GET_STOCK}?encoding=json&message=%7B%22sku%22%3A%22ps5%22%7D`],
  ["a refusal", 400, `${GET_STOCK}?encoding=json&message=%7B%7D`],
  ["what is not there", 404, "/nothing"],
])("no cache keeps the answer to a GET: %s", async (_name, status, path) => {
  const { httpUrl } = await openDoors({});
  const response = await fetch(httpUrl + path);

  expect([response.status, response.headers.get("cache-control")]).toEqual([status, "no-store"]);
});

test.each([
  ["/holdfast.v1.EventService/WatchEvents", "application/connect+json", "no"],
  ["/holdfast.v1.EventService/WatchEvents", "application/grpc-web+json", "no"],
  [GET_STOCK, "application/json", null],
])("a proxy is told not to hold back what a stream says: %s as %s", async (path, type, buffering) => {
  const { httpUrl } = await openDoors({});
  const body = type === "application/json" ? '{"sku":"ps5"}' : "\0\0\0\0\x02{}";
  const response = await post(httpUrl + path, body, { "content-type": type });

  expect([response.status, response.headers.get("x-accel-buffering")]).toEqual([200, buffering]);
});

test.each([
  ["GET", "OrderService/PlaceOrder", "POST"],
  ["PUT", "InventoryService/GetStock", "POST, GET"],
])("%s is told by which method %s is called", async (method, rpc, allowed) => {
  const { httpUrl } = await openDoors({});
  const response = await fetch(`${httpUrl}/holdfast.v1.${rpc}`, { method });

  expect([response.status, response.headers.get("allow")]).toEqual([405, allowed]);
});

test.each(["/", "/nothing", "/holdfast.v1.InventoryService/GetNothing", "/livez/more"])("%s is 404", async (path) => {
  const { httpUrl } = await openDoors({});
  const response = await post(httpUrl + path, "{}");

  expect([response.status, await response.json()]).toEqual([
    404,
    { code: "unimplemented", message: "there is nothing at this path" },
  ]);
});

test("gRPC proper is shown to its own door", async () => {
  const { httpUrl } = await openDoors({});

  expect((await post(httpUrl + GET_STOCK, "", { "content-type": "application/grpc" })).status).toBe(415);
});

test("a request without a usable host is answered, not dropped", async () => {
  const { httpPort } = await openDoors({});
  const socket = connect(httpPort, "127.0.0.1");
  socket.end(`POST ${GET_STOCK} HTTP/1.1\r\nhost: a b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);

  expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
});

describe("probes", () => {
  async function probe(path: string, isReady: () => boolean | string | Promise<boolean | string>) {
    const { httpUrl } = await openDoors({}, { isReady });
    const response = await fetch(httpUrl + path);
    return [response.status, await response.text()];
  }

  test.each(["/livez", "/health"])("%s is ok while the process runs", async (path) => {
    expect(await probe(path, () => false)).toEqual([200, "ok\n"]);
  });

  test.each(["/readyz", "/ready"])("%s says whether calls are taken, or why not", async (path) => {
    expect(await probe(path, () => true)).toEqual([200, "ok\n"]);
    expect(await probe(path, async () => true)).toEqual([200, "ok\n"]);
    expect(await probe(path, () => false)).toEqual([503, "not ready\n"]);
    expect(await probe(path, () => "PostgreSQL is away")).toEqual([503, "PostgreSQL is away\n"]);
    expect(await probe(path, () => Promise.reject(new Error("broken")))).toEqual([503, "the check failed\n"]);
    expect(await probe(path, () => new Promise(() => undefined))).toEqual([503, "the check takes too long\n"]);
  });

  test("a door that drains is not ready, and says so until its last call is done", async () => {
    const { promise: started, resolve: start } = Promise.withResolvers<void>();
    const { promise: probed, resolve: letGo } = Promise.withResolvers<void>();
    const doors = await openDoors({
      getStock: async (req) => {
        start();
        await probed;
        return stockOf(req.sku);
      },
    });
    const socket = connect(doors.httpPort, "127.0.0.1");
    await once(socket, "connect");
    const call = createClients("Connect JSON", doors).inventory.getStock({ sku: "ps5" });
    await started;
    const drained = doors.httpDoor.drain(10_000);
    socket.write("GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    const answer = await text(socket);
    letGo();
    await Promise.all([call, drained]);

    expect(answer).toMatch(/^HTTP\/1\.1 503 .*connection: close.*draining\n$/is);
  });
});

describe("CORS", () => {
  const origin = "https://shop.example";

  /** Sends any headers, which fetch does not. */
  async function send(url: string, method: string, headers: Record<string, string>) {
    const req = request(url, { method, headers }).end();
    const [response] = await once(req, "response");
    response.resume();
    return response as { statusCode: number; headers: Record<string, string | undefined> };
  }

  test("a script of a configured origin may call", async () => {
    const { httpUrl } = await openDoors({}, { corsOrigins: [origin] });
    const preflight = await send(httpUrl + GET_STOCK, "OPTIONS", { origin, "access-control-request-method": "POST" });
    const call = await send(httpUrl + GET_STOCK, "POST", { origin, "content-type": "application/json" });

    expect(preflight).toMatchObject({
      statusCode: 204,
      headers: { vary: "Origin", "access-control-allow-origin": origin, "access-control-allow-methods": "POST, GET" },
    });
    const allowed = preflight.headers["access-control-allow-headers"]?.toLowerCase().split(", ");
    expect(allowed).toEqual(
      expect.arrayContaining(["content-type", "idempotency-key", "connect-protocol-version", "x-grpc-web"]),
    );
    expect(allowed).toEqual(expect.arrayContaining(["authorization", "traceparent", "tracestate"]));
    expect(allowed).toEqual(
      expect.arrayContaining(["grpc-encoding", "grpc-accept-encoding", "grpc-previous-rpc-attempts"]),
    );
    expect(call.headers).toMatchObject({ vary: "Origin", "access-control-allow-origin": origin });
    expect(call.headers["access-control-expose-headers"]).toMatch(
      /grpc-status.*grpc-status-details-bin.*grpc-encoding/i,
    );
  });

  test.each([
    ["another origin", ["https://other.example"]],
    ["no origin configured", []],
  ])("with %s it may not", async (_name, corsOrigins) => {
    const { httpUrl } = await openDoors({}, { corsOrigins });
    const preflight = await send(httpUrl + GET_STOCK, "OPTIONS", { origin, "access-control-request-method": "POST" });

    expect(preflight.statusCode).toBe(204);
    expect(preflight.headers["access-control-allow-origin"]).toBeUndefined();
  });

  test("* stands for every origin", async () => {
    const { httpUrl } = await openDoors({}, { corsOrigins: ["*"] });
    const call = await send(`${httpUrl}/livez`, "GET", { origin });

    expect(call.headers["access-control-allow-origin"]).toBe(origin);
  });
});

test("a drain lets calls finish, closes idle connections and cuts the rest", async () => {
  const { promise: started, resolve: start } = Promise.withResolvers<void>();
  const doors = await openDoors({
    getStock: async (req, ctx) => {
      start();
      await aborted(req.sku === "stuck" ? ctx.signal : ctx.draining);
      return stockOf(req.sku);
    },
  });
  const idle = connect(doors.httpPort, "127.0.0.1");
  await once(idle, "connect");
  const { inventory } = createClients("Connect", doors);
  const finished = inventory.getStock({ sku: "ps5" });
  const cut = expect(inventory.getStock({ sku: "stuck" })).rejects.toThrow();
  await started;
  const beganMs = Date.now();
  await doors.httpDoor.drain(300);

  expect((await finished).stock?.sku).toBe("ps5");
  await cut;
  expect(Date.now() - beganMs).toBeLessThan(2000);
});

test.each([
  ["JSON of unknown length", "application/json", ""],
  ["gRPC-Web", "application/grpc-web", "\0\0\x0f\xff\xff"],
  ["a stream of Connect", "application/connect+json", "\0\0\x0f\xff\xff"],
])("after %s that is too large, the next call on the connection is answered", async (_name, type, prefix) => {
  const { httpPort } = await openDoors({});
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const send = async (path: string, contentType: string, body: string) => {
    const req = request({ port: httpPort, path, agent, method: "POST", headers: { "content-type": contentType } });
    req.write(body, "latin1");
    const [res] = (await once(req.end(), "response")) as [IncomingMessage];
    return `${res.headers.connection} ${await text(res)}`;
  };
  const path = type.includes("connect") ? "/holdfast.v1.EventService/WatchEvents" : GET_STOCK;

  expect(await send(path, type, prefix + "x".repeat(2 ** 20))).toMatch(/^keep-alive .*larger/s);
  expect(await send(GET_STOCK, "application/json", '{"sku":"ps5"}')).toContain('"sku":"ps5"');
});

/** Gets stock again and again, on one connection for as long as it is kept; gives the status and the header `connection`. */
function keepConnection(port: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  return async (): Promise<readonly [number | undefined, string | undefined]> => {
    const headers = { "content-type": "application/json" };
    const req = request({ port, path: GET_STOCK, agent, headers, method: "POST" }).end('{"sku":"ps5"}');
    const [res] = (await once(req, "response")) as [IncomingMessage];
    await text(res);
    return [res.statusCode, res.headers.connection];
  };
}

test("a door that is left is not ready, takes calls, and closes a connection with its answer", async () => {
  const { httpDoor, httpPort, httpUrl } = await openDoors({});
  const call = keepConnection(httpPort);
  expect(await call()).toEqual([200, "keep-alive"]);
  httpDoor.leave();
  const probed = await fetch(`${httpUrl}/readyz`);

  expect([probed.status, await probed.text()]).toEqual([503, "draining\n"]);
  expect(await call()).toEqual([200, "close"]);
  expect(await call()).toEqual([200, "close"]);
});

test("in a drain a connection that was to be kept takes one more call, and nobody is waited for who has none", async () => {
  const arrivals: (() => void)[] = [];
  const bothArrived = Promise.all([1, 2].map(() => new Promise<void>((resolve) => arrivals.push(resolve))));
  const { httpDoor, httpPort } = await openDoors({
    getStock: async (req, ctx) => {
      arrivals.pop()?.();
      await aborted(ctx.draining);
      return stockOf(req.sku);
    },
  });
  const [one, other] = [keepConnection(httpPort), keepConnection(httpPort)];
  const calls = [one(), other()];
  await bothArrived;
  const beganMs = Date.now();
  const drained = httpDoor.drain(10_000);

  expect(await Promise.all(calls)).toEqual([
    [200, "keep-alive"],
    [200, "keep-alive"],
  ]);
  expect(await one()).toEqual([200, "close"]);
  await drained;
  expect(Date.now() - beganMs).toBeLessThan(5000);
});

test("a door that has drained has nothing left that keeps a process up", async () => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
  const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
  const { httpDoor, httpPort } = await openDoors({
    getStock: async (req, ctx) => {
      arrive();
      await aborted(ctx.draining);
      return stockOf(req.sku);
    },
  });
  const body = '{"sku":"ps5"}';
  const fields = `host: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
  const before = timers();
  const socket = connect(httpPort, "127.0.0.1");
  socket.write(`POST ${GET_STOCK} HTTP/1.1\r\n${fields}\r\n\r\n${body}`);
  await arrived;
  const drained = httpDoor.drain(10_000);
  const [answer] = await once(socket, "data");
  socket.end();
  await drained;

  // It was told that its connection is kept, and closed it first.
  expect(String(answer)).toMatch(/^HTTP\/1\.1 200 .*connection: keep-alive/is);
  expect(timers()).toBeLessThanOrEqual(before);
});

test("a port in use is one line that says what to do", async () => {
  const { httpPort } = await openDoors({});

  await expect(openDoors({}, { httpPort })).rejects.toThrow(
    `The HTTP door cannot listen on 127.0.0.1:${httpPort}: the port is in use. Stop what uses it, or set HOLDFAST_HTTP_ADDR`,
  );
});
