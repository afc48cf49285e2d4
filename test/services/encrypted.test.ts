import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { AdjustReason, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { startEmbeddedPostgres } from "../../src/dev/embedded-postgres.ts";
import { type Certificate, createAuthority } from "../helpers/authority.ts";
import { chooseFreePort } from "../helpers/free-port.ts";
import { type HoldfastProcess, runHoldfast, spawnHoldfast } from "../helpers/holdfast.ts";
import { audience, issuer, signWithSecret } from "../helpers/issuer.ts";
import { createTemporaryFolder, startRedis } from "../helpers/servers.ts";

const authority = createAuthority();
const server = authority.issue("server", "DNS:localhost,IP:127.0.0.1");
const front = authority.issue(
  "front",
  "DNS:front.example,URI:shop:default,URI:scope:holdfast.read,URI:scope:holdfast.write",
);

const secret = "a secret of more than thirty-two bytes";

type Stores = Awaited<ReturnType<typeof startStores>>;
let stores: Stores;
let holdfast: HoldfastProcess;

beforeAll(async () => {
  stores = await startStores();
  holdfast = await spawnHoldfast({
    ...stores.urls,
    settings: {
      NODE_EXTRA_CA_CERTS: authority.caFile,
      HOLDFAST_TLS_CERT: server.certFile,
      HOLDFAST_TLS_KEY: server.keyFile,
      HOLDFAST_TLS_CLIENT_CA: authority.caFile,
      HOLDFAST_GRPC_ADDR: "0.0.0.0:0",
      HOLDFAST_JWT_SECRET: secret,
      HOLDFAST_JWT_ISSUER: issuer,
      HOLDFAST_JWT_AUDIENCE: audience,
    },
  });
});

afterAll(async () => {
  await holdfast?.kill();
  await stores?.stop();
  authority.remove();
});

/** A Redis that speaks nothing but TLS, and a PostgreSQL that speaks it when asked, with the certificate of the test's CA. */
async function startStores() {
  const dataDir = await createTemporaryFolder();
  const [redis, postgres] = await Promise.all([startRedis(), startEmbeddedPostgres({ dataDir })]);
  const tlsPort = await chooseFreePort();
  await encryptRedis(redis.url, tlsPort);
  const client = new Client({ connectionString: postgres.url });
  await client.connect();
  await encryptPostgres(client, server);
  const redisUrl = new URL(redis.url.replace("redis:", "rediss:"));
  redisUrl.hostname = "localhost";
  redisUrl.port = String(tlsPort);
  const databaseUrl = new URL(postgres.url);
  databaseUrl.hostname = "localhost";
  databaseUrl.searchParams.set("sslmode", "require");
  return {
    urls: { redisUrl: redisUrl.href, databaseUrl: databaseUrl.href },
    plainRedisPort: redis.port,
    client,
    stop: async () => {
      await client.end();
      await Promise.all([redis.stop(), postgres.stop()]);
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function encryptRedis(url: string, tlsPort: number): Promise<void> {
  const redis = new Redis(url);
  await redis.config("SET", "tls-cert-file", server.certFile, "tls-key-file", server.keyFile);
  await redis.config("SET", "tls-ca-cert-file", authority.caFile, "tls-auth-clients", "no");
  await redis.config("SET", "tls-port", String(tlsPort));
  await redis.config("SET", "port", "0");
  redis.disconnect();
}

/** The server writes its key itself: it may run as a user who can read nothing of ours, and refuses a key that others can read. */
async function encryptPostgres(client: Client, { cert, key }: Certificate): Promise<void> {
  for (const [name, pem] of Object.entries({ "tls.pem": cert, "tls.key": key })) {
    const lines = pem
      .toString()
      .trimEnd()
      .split("\n")
      .map((line) => `('${line}')`);
    const target = join((await client.query("show data_directory")).rows[0].data_directory, name);
    await client.query(`copy (values ${lines.join(",")}) to program 'umask 077; cat > ''${target}'''`);
  }
  await client.query("alter system set ssl_cert_file = 'tls.pem'");
  await client.query("alter system set ssl_key_file = 'tls.key'");
  await client.query("alter system set ssl = on");
  await client.query("select pg_reload_conf()");
}

const nodeOptions = { ca: authority.ca, cert: front.cert, key: front.key };

test("sells over TLS only: rediss, sslmode=require and client certificates on both doors", async () => {
  const grpc = createGrpcTransport({ baseUrl: `https://localhost:${holdfast.grpcAddress.split(":")[1]}`, nodeOptions });
  const http = createConnectTransport({
    baseUrl: holdfast.httpUrl.replace("127.0.0.1", "localhost"),
    httpVersion: "1.1",
    nodeOptions,
  });
  const inventory = createClient(InventoryService, grpc);
  await inventory.putProduct({ sku: "ps5", title: "Console", priceMinor: 100n });
  await inventory.adjustStock({ sku: "ps5", deltaCount: 3n, reason: AdjustReason.INITIAL });
  const order = { lines: [{ sku: "ps5", quantity: 1 }], paymentMethod: PaymentMethod.NONE };
  const { commit } = await createClient(OrderService, http).placeOrder(order);

  expect(commit?.durable).toBe(true);
  expect((await inventory.getStock({ sku: "ps5" })).stock).toMatchObject({ availableCount: 2n, soldCount: 1n });
  await expect(createClient(AdminService, grpc).listShops({})).rejects.toThrow(/holdfast.admin/);
  await expect(fetch(`${holdfast.httpUrl.replace("https", "http")}/livez`)).rejects.toThrow();
  await expect(once(connect(stores.plainRedisPort, "127.0.0.1"), "connect")).rejects.toThrow("ECONNREFUSED");
  const { rows } = await stores.client.query(
    `select principal, ssl from (select call::jsonb ->> 'principal' as principal from commits where shop_id = 'default' order by position desc limit 1) c,
       (select bool_and(ssl) as ssl from pg_stat_activity join pg_stat_ssl using (pid) where application_name like 'holdfast%') s`,
  );
  expect(rows).toEqual([{ principal: "front.example", ssl: true }]);
});

test("verify calls a server over TLS, with a token", async () => {
  const verify = (settings: Record<string, string>) => {
    const target = `localhost:${holdfast.grpcAddress.split(":")[1]}`;
    const all = { NODE_EXTRA_CA_CERTS: authority.caFile, ...settings };
    return runHoldfast(["verify", "--tls", "--target", target], { ...stores.urls, settings: all });
  };
  const [known, unknown] = await Promise.all([
    verify({ HOLDFAST_TOKEN: await signWithSecret(secret) }),
    verify({ HOLDFAST_TOKEN: "none" }),
  ]);

  expect(known).toMatchObject({ code: 0, stderr: expect.stringContaining("0 discrepancies") });
  expect(unknown).toMatchObject({ code: 2, stderr: expect.stringContaining("the token is not valid") });
});

test.each([
  [
    "without --tls",
    [],
    { NODE_EXTRA_CA_CERTS: authority.caFile },
    /broke the call off: one that speaks TLS is called with --tls/,
  ],
  [
    "that does not know its CA",
    ["--tls"],
    {},
    /is not trusted: .+ \(name the file of its CA with NODE_EXTRA_CA_CERTS\)/,
  ],
] as const)("verify %s is told what to do", async (_name, flags, settings, says) => {
  const target = `localhost:${holdfast.grpcAddress.split(":")[1]}`;
  const { code, stderr } = await runHoldfast(["verify", ...flags, "--target", target], { ...stores.urls, settings });

  expect(stderr).toMatch(says);
  expect(stderr).toMatch(/^holdfast: [^\n]+\n$/);
  expect(code).toBe(2);
});

const unknownCa = (store: string) =>
  new RegExp(`^holdfast: ${store}: .+ \\(name the file of its CA with NODE_EXTRA_CA_CERTS\\)[^\\n]+\\n$`);

test("does not start on stores whose certificates it cannot check", async () => {
  const { urls } = stores;
  const plain = { ...urls, databaseUrl: urls.databaseUrl.replace("require", "disable") };
  const nodes = { ...plain, redisUrl: `${urls.redisUrl},${urls.redisUrl}` };
  const serve = (urls: typeof plain) => runHoldfast(["serve"], urls);
  const [postgres, redis, cluster] = await Promise.all([serve(urls), serve(plain), serve(nodes)]);

  expect([postgres.code, redis.code, cluster.code]).toEqual([1, 1, 1]);
  expect(postgres.stderr).toMatch(unknownCa("PostgreSQL cannot be used"));
  expect(redis.stderr).toMatch(unknownCa("Redis cannot be reached"));
  expect(cluster.stderr).toMatch(unknownCa("Redis Cluster cannot be reached"));
});
