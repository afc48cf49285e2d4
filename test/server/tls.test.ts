import { once } from "node:events";
import { copyFile, writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { Agent } from "node:https";
import { Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, type SecureContextOptions, TLSSocket } from "node:tls";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { pino } from "pino";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { createCertificateReader } from "../../src/auth/client-certificates.ts";
import { createTokenVerifier } from "../../src/auth/tokens.ts";
import { createAuthenticator } from "../../src/server/authenticator.ts";
import type { CallContext } from "../../src/server/call-context.ts";
import { openTlsFiles, peerCertificateOf, type TlsFiles } from "../../src/server/tls-files.ts";
import { type Certificate, createAuthority } from "../helpers/authority.ts";
import { audience, createSigningKey, issuer, sign } from "../helpers/issuer.ts";
import { aborted, bookmark, openDoors, stockOf } from "./open-doors.ts";

const authority = createAuthority();
const otherAuthority = createAuthority("other");
afterAll(() => [authority, otherAuthority].map((each) => each.remove()));

const host = "DNS:localhost,IP:127.0.0.1";
const server = authority.issue("server", host);
const berlin = authority.issue("berlin", "DNS:front.example,URI:shop:berlin");
const reader = authority.issue("reader", "URI:shop:berlin,URI:scope:holdfast.events");
const stranger = otherAuthority.issue("stranger", "URI:shop:berlin");
const key = createSigningKey();

const doors = ["gRPC", "HTTP/1.1", "HTTP/2"] as const;
type Door = (typeof doors)[number];
type Opened = Awaited<ReturnType<typeof openDoors>>;

/** Makes a connection for every call, and resumes TLS sessions: of what was open before, nothing but that can help a caller. */
const agent = new Agent({ keepAlive: false });
const logger = pino({ level: "silent" });

/** Opens both doors with the server's certificate; callers come with a certificate of the CA, or a token. */
async function openGuardedDoors() {
  const tls = await openTlsFiles({ ...server, clientCaFile: authority.caFile, clientsFile: undefined }, logger);
  const principals: string[] = [];
  const authenticate = createAuthenticator({
    readCertificate: createCertificateReader(),
    verifyToken: createTokenVerifier({ key: key.publicKey, algorithms: ["ES256"], issuer, audience }),
  });
  const opened = await openDoors(
    {
      getStock: async (_req, ctx) => {
        principals.push(ctx.principal);
        throw new ConnectError("reached");
      },
    },
    { tls, authenticate },
  );
  return { ...opened, principals };
}

function createHttpTransport(
  door: "HTTP/1.1" | "HTTP/2",
  baseUrl: string,
  nodeOptions: SecureContextOptions,
): Transport {
  return door === "HTTP/2"
    ? createConnectTransport({ baseUrl, httpVersion: "2", nodeOptions })
    : createConnectTransport({ baseUrl, httpVersion: "1.1", nodeOptions: { ...nodeOptions, agent } });
}

function createTransport(door: Door, { grpcUrl, httpUrl }: Opened, client?: Certificate): Transport {
  const nodeOptions = { ca: authority.ca, ...(client === undefined ? {} : { cert: client.cert, key: client.key }) };
  return door === "gRPC"
    ? createGrpcTransport({ baseUrl: grpcUrl, nodeOptions })
    : createHttpTransport(door, httpUrl, nodeOptions);
}

/** How GetStock ends: `reached` is the handler. */
async function ask(transport: Transport, shopId = "berlin", headers: Record<string, string> = {}): Promise<string> {
  const { getStock } = createClient(InventoryService, transport);
  return getStock({ shopId, sku: "ps5" }, { headers }).then(
    () => "answered",
    (error: unknown) =>
      ConnectError.from(error).code === Code.Internal ? "reached" : Code[ConnectError.from(error).code],
  ) as Promise<string>;
}

describe.each(doors)("by %s", (door) => {
  test("a caller that trusts the CA is served, others are not, and nobody without TLS", async () => {
    const tls = await openTlsFiles({ ...server, clientCaFile: undefined, clientsFile: undefined }, logger);
    const opened = await openDoors({}, { tls });
    const distrusting = { ca: otherAuthority.ca };
    const plain = {
      ...opened,
      grpcUrl: opened.grpcUrl.replace("https", "http"),
      httpUrl: opened.httpUrl.replace("https", "http"),
    };

    expect(await ask(createTransport(door, opened))).toBe("answered");
    expect(
      await ask(
        door === "gRPC"
          ? createGrpcTransport({ baseUrl: opened.grpcUrl, nodeOptions: distrusting })
          : createHttpTransport(door, opened.httpUrl, distrusting),
      ),
    ).not.toBe("answered");
    expect(await ask(createTransport(door, plain))).not.toBe("answered");
  });

  test("a client certificate gives the shops in its URIs, and no others", async () => {
    const opened = await openGuardedDoors();
    const transport = createTransport(door, opened, berlin);

    expect(await ask(transport, "berlin")).toBe("reached");
    expect(await ask(transport, "rome")).toBe("PermissionDenied");
    expect(await ask(transport, "")).toBe("PermissionDenied");
    expect(await ask(createTransport(door, opened, reader), "berlin")).toBe("PermissionDenied");
    expect(opened.principals).toEqual(["front.example"]);
  });

  test("no certificate, and one of another CA, are UNAUTHENTICATED", async () => {
    const opened = await openGuardedDoors();

    expect(await ask(createTransport(door, opened))).toBe("Unauthenticated");
    expect(await ask(createTransport(door, opened, stranger))).toBe("Unauthenticated");
    expect(opened.principals).toEqual([]);
  });

  test("a token says who calls, also where there is a certificate", async () => {
    const opened = await openGuardedDoors();
    const transport = createTransport(door, opened, berlin);
    const withToken = async (shops: string[]) =>
      ask(transport, "rome", { authorization: `Bearer ${await sign(key, { shops })}` });

    expect(await withToken(["rome"])).toBe("reached");
    expect(await withToken(["berlin"])).toBe("PermissionDenied");
    expect(await ask(transport, "berlin", { authorization: "Bearer x" })).toBe("Unauthenticated");
    expect(await ask(createTransport(door, opened), "rome", { authorization: `Bearer ${await sign(key)}` })).toBe(
      "reached",
    );
    expect(opened.principals).toEqual(["alice", "alice"]);
  });

  test("new certificates are taken without a restart, and those that cannot be used are not", async () => {
    const file = (name: string) => join(authority.folder, `${door.replace("/", "")}-${name}`);
    const files = { certFile: file("cert"), keyFile: file("key"), clientCaFile: file("ca"), clientsFile: undefined };
    const put = async ({ certFile, keyFile }: Pick<Certificate, "certFile" | "keyFile">, caFile: string) => {
      await Promise.all([
        copyFile(certFile, files.certFile),
        copyFile(keyFile, files.keyFile),
        copyFile(caFile, files.clientCaFile),
      ]);
    };
    await put(server, authority.caFile);
    const tls = await openTlsFiles(files, logger);
    onTestFinished(() => tls.close());
    const authenticate = createAuthenticator({ readCertificate: createCertificateReader() });
    const opened = await openDoors({}, { tls, authenticate });
    const url = new URL(door === "gRPC" ? opened.grpcUrl : opened.httpUrl);
    const shown = () => subjectOf(Number(url.port));
    const askAs = (client: Certificate) => ask(createTransport(door, opened, client));
    expect([await shown(), await askAs(berlin), await askAs(stranger)]).toEqual([
      "server",
      "answered",
      "Unauthenticated",
    ]);

    await put(authority.issue("renewed", host), otherAuthority.caFile);
    expect(await shown()).toBe("server");
    await tls.reload();
    expect([await shown(), await askAs(berlin), await askAs(stranger)]).toEqual([
      "renewed",
      "Unauthenticated",
      "answered",
    ]);

    await writeFile(files.keyFile, server.key);
    await tls.reload();
    expect([await shown(), await askAs(stranger)]).toEqual(["renewed", "answered"]);
  });
});

test("what the map says of a client holds without a restart, and a map that is none changes nothing", async () => {
  const clientsFile = join(authority.folder, "clients.json");
  const allow = (shops: string) => writeFile(clientsFile, `{ "front.example": { "shops": ${shops} } }`);
  await allow('["rome"]');
  const tls = await openTlsFiles({ ...server, clientCaFile: authority.caFile, clientsFile }, logger);
  onTestFinished(() => tls.close());
  const authenticate = createAuthenticator({ readCertificate: createCertificateReader(() => tls.current.clients) });
  const opened = await openDoors({}, { tls, authenticate });
  const askAsBerlin = () => ask(createTransport("gRPC", opened, berlin));
  const answers = [await askAsBerlin()];
  for (const next of ['["berlin"]', "[", '["rome"]']) {
    await allow(next);
    await tls.reload();
    answers.push(await askAsBerlin());
  }
  expect(answers).toEqual(["PermissionDenied", "answered", "answered", "PermissionDenied"]);
});

/** The common name of the certificate that a port shows. */
async function subjectOf(port: number): Promise<string | string[] | undefined> {
  const socket = connectTls({ port, host: "127.0.0.1", ca: authority.ca, ALPNProtocols: ["h2", "http/1.1"] });
  await once(socket, "secureConnect");
  const { CN } = socket.getPeerCertificate().subject;
  socket.destroy();
  return CN;
}

test.each(["HTTP/1.1", "HTTP/2"] as const)(
  "over TLS a drain of %s ends streams, lets calls finish and waits for nobody",
  async (door) => {
    const tls = await openTlsFiles({ ...server, clientCaFile: undefined, clientsFile: undefined }, logger);
    const opened = await openDoors(
      {
        async *watchEvents(_req, ctx) {
          yield bookmark(1);
          await aborted(ctx.draining);
          yield bookmark(2);
        },
      },
      { tls },
    );
    const { watchEvents } = createClient(EventService, createTransport(door, opened));
    const positions: unknown[] = [];
    let drained: Promise<void> | undefined;
    const beganMs = Date.now();
    for await (const { message } of watchEvents({})) {
      positions.push(message.case === "bookmark" ? message.value.position : undefined);
      drained ??= opened.httpDoor.drain(10_000);
    }
    await drained;

    expect(positions).toEqual([1n, 2n]);
    expect(Date.now() - beganMs).toBeLessThan(5000);
  },
);

test("over TLS a drain cuts what is still open when its time is over", async () => {
  const tls = await openTlsFiles({ ...server, clientCaFile: undefined, clientsFile: undefined }, logger);
  const { promise: started, resolve: start } = Promise.withResolvers<void>();
  const hang = async (_req: unknown, ctx: CallContext) => {
    start();
    await aborted(ctx.signal);
    return stockOf("late");
  };
  const opened = await openDoors({ getStock: hang }, { tls });
  const call = ask(createTransport("HTTP/2", opened));
  await started;
  const beganMs = Date.now();
  await opened.httpDoor.drain(100);

  expect(await call).not.toBe("answered");
  // The call's own deadline is five seconds.
  expect(Date.now() - beganMs).toBeLessThan(3000);
});

test("over HTTP/2 a request that does not arrive in time is ended, and one that has arrived is not", async () => {
  const tls = await openTlsFiles({ ...server, clientCaFile: undefined, clientsFile: undefined }, logger);
  const { promise: stalledEnd, resolve: end } = Promise.withResolvers<void>();
  const opened = await openDoors(
    {
      async *watchEvents() {
        await stalledEnd;
        yield bookmark(1);
      },
    },
    { tls, limits: { arrivalMs: 200 } },
  );
  const session = connectHttp2(opened.httpUrl, { ca: authority.ca });
  onTestFinished(() => session.destroy());
  const ask = (bytes: number) => {
    const headers = { ":method": "POST", ":path": "/holdfast.v1.EventService/WatchEvents" };
    const request = session.request({ ...headers, "content-type": "application/connect+proto" });
    request.on("error", () => undefined).write(Buffer.alloc(bytes));
    return request;
  };
  const arrived = ask(5).end();
  const stalled = ask(3);
  await once(stalled, "close");
  end();

  expect(stalled.rstCode).toBe(8);
  const [first] = (await once(arrived, "data")) as [Buffer];
  expect(first[0]).toBe(0);
  expect(opened.logged).toEqual([]);
});

test("over HTTP/2 a request that is too large holds no stream once it is answered", async () => {
  const tls = await openTlsFiles({ ...server, clientCaFile: undefined, clientsFile: undefined }, logger);
  const { httpUrl } = await openDoors({}, { tls, limits: { arrivalMs: 2000 } });
  const session = connectHttp2(httpUrl, { ca: authority.ca });
  onTestFinished(() => session.destroy());
  const headers = { ":method": "POST", ":path": "/holdfast.v1.InventoryService/GetStock" };
  const request = session.request({ ...headers, "content-type": "application/json" });
  request.resume().end(Buffer.alloc(2 ** 20));
  const [answer] = (await once(request, "response")) as [Record<string, unknown>];
  await once(request, "close");

  // It was sent to its end, not broken off when it took too long.
  expect([answer[":status"], request.rstCode]).toEqual([429, 0]);
});

test("over HTTP/2 a request that nobody reads holds no stream once it is answered", async () => {
  const tls = await openTlsFiles({ ...server, clientCaFile: undefined, clientsFile: undefined }, logger);
  const { httpUrl } = await openDoors({}, { tls, limits: { arrivalMs: 2000 } });
  const session = connectHttp2(httpUrl, { ca: authority.ca });
  onTestFinished(() => session.destroy());
  const request = session.request({ ":method": "POST", ":path": "/nothing" });
  request.resume().write("not sent to its end");
  const [answer] = (await once(request, "response")) as [Record<string, unknown>];
  await once(request, "close");

  // 8 is what it is ended with when it does not arrive in time.
  expect([answer[":status"], request.rstCode]).toEqual([404, 0]);
});

test.each(["/livez", "/readyz"])("the probe %s needs no certificate", async (path) => {
  const { httpPort } = await openGuardedDoors();
  const socket = connectTls({ port: httpPort, host: "127.0.0.1", ca: authority.ca });
  socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`);

  expect((await socket.toArray()).join("")).toMatch(/^HTTP\/1.1 200 /);
});

test("files that cannot be used do not let the server start", async () => {
  const open = (certFile: string, keyFile: string): Promise<TlsFiles> =>
    openTlsFiles({ certFile, keyFile, clientCaFile: undefined, clientsFile: undefined }, logger);
  const openWithAuthority = (clientCaFile: string) =>
    openTlsFiles({ ...server, clientCaFile, clientsFile: undefined }, logger);
  const broken = join(authority.folder, "broken-ca.pem");
  await writeFile(broken, `${authority.ca}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`);

  const says = (setting: string, what: string) =>
    expect.objectContaining({
      name: "StartError",
      message: expect.stringMatching(new RegExp(`^${setting} cannot be used: ${what}$`)),
    });
  await expect(openWithAuthority(server.keyFile)).rejects.toEqual(
    says("HOLDFAST_TLS_CLIENT_CA", "/.+ holds no certificate in PEM"),
  );
  await expect(openWithAuthority(broken)).rejects.toEqual(
    says("HOLDFAST_TLS_CLIENT_CA", "certificate 2 in /.+ is none"),
  );
  await expect(open(server.certFile, berlin.keyFile)).rejects.toEqual(
    says("HOLDFAST_TLS_KEY", `${berlin.keyFile} is not the key of the certificate in ${server.certFile}`),
  );
  await expect(open(server.keyFile, server.certFile)).rejects.toEqual(
    says("HOLDFAST_TLS_CERT", `${server.keyFile} holds no certificate in PEM`),
  );
  await expect(open(server.certFile, server.certFile)).rejects.toEqual(
    says("HOLDFAST_TLS_KEY", `${server.certFile} holds no private key in PEM, or one with a passphrase`),
  );
  await expect(open("nowhere.pem", server.keyFile)).rejects.toEqual(
    says("HOLDFAST_TLS_CERT", "ENOENT.+nowhere\\.pem.+"),
  );
  await expect(open(server.certFile, "nowhere.key")).rejects.toEqual(
    says("HOLDFAST_TLS_KEY", "ENOENT.+nowhere\\.key.+"),
  );
});

test("what a door does not take is tried again, and two looks at the files are one", async () => {
  const files = { certFile: join(authority.folder, "again-cert"), keyFile: join(authority.folder, "again-key") };
  await Promise.all([copyFile(server.certFile, files.certFile), copyFile(server.keyFile, files.keyFile)]);
  const tls = await openTlsFiles({ ...files, clientCaFile: undefined, clientsFile: undefined }, logger);
  onTestFinished(() => tls.close());
  let count = 0;
  tls.onChange(() => {
    count += 1;
    if (count === 1) throw new Error("not now");
  });
  const renewed = authority.issue("again", host);
  await Promise.all([copyFile(renewed.certFile, files.certFile), copyFile(renewed.keyFile, files.keyFile)]);
  await tls.reload();
  expect([count, tls.current.cert.equals(server.cert)]).toEqual([1, true]);
  await Promise.all([tls.reload(), tls.reload()]);

  expect([count, tls.current.cert.equals(renewed.cert)]).toEqual([2, true]);
});

test.each([
  ["has no certificate any more", () => null],
  [
    "cannot be asked any more",
    () => {
      throw new Error("gone");
    },
  ],
])("a connection that %s has none", (_name, getPeerCertificate) => {
  const socket = Object.assign(new TLSSocket(new Socket()), { authorized: true, getPeerCertificate });

  expect(peerCertificateOf(socket)).toBeUndefined();
});
