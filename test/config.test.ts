import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { ConfigError, loadConfig, withProcesses } from "../src/config.ts";
import { targetOf } from "../src/target.ts";

describe("loadConfig", () => {
  test("gives every default in an empty environment", () => {
    expect(loadConfig({})).toEqual({
      grpcAddress: { host: "127.0.0.1", port: 50051 },
      httpAddress: { host: "127.0.0.1", port: 8080 },
      redisUrls: [],
      databaseUrl: undefined,
      dataDir: resolve(".holdfast"),
      durability: "postgres",
      holdMs: 600_000,
      requestRetentionMs: 86_400_000,
      requestMemoryCount: 1_000_000,
      isRequestIdRequired: false,
      seedFile: undefined,
      migratesOnStart: true,
      processCount: 1,
      postgresPoolCount: 20,
      drainDelayMs: 0,
      hasReflection: true,
      corsOrigins: [],
      metricsAddress: undefined,
      verifyMs: 900_000,
      verifyMaxCommits: 100_000,
      tracesUrl: undefined,
      serviceName: "holdfast",
      traceShare: 1,
      callsPerSecond: {},
      limits: { maxInFlight: 1000, maxWaiting: 1000, maxBacklogCommits: 8000 },
      payments: {
        gateway: { kind: "simulated" },
        attemptTimeoutMs: 3000,
        retryMs: 1000,
        breakMs: 60_000,
        simulated: { latencyMs: 20, declineRate: 0, timeoutRate: 0 },
      },
      doorLimits: {
        requestBytes: 65_536,
        responseBytes: 4_194_304,
        headerBytes: 16_384,
        unreadBytes: 65_536,
        unreadMs: 60_000,
        connectionCount: 10_000,
        callsPerConnection: 250,
        watchesPerCaller: 2000,
        resetsPerSecond: 100,
        handshakeMs: 10_000,
        arrivalMs: 30_000,
        defaultDeadlineMs: 5000,
        maxDeadlineMs: 30_000,
        pingMs: 30_000,
        pingTimeoutMs: 10_000,
        idleMs: 60_000,
        ageMs: 3_600_000,
        ageGraceMs: 60_000,
      },
    });
  });

  test("reads every variable", () => {
    const config = loadConfig({
      HOLDFAST_GRPC_ADDR: "[::1]:0",
      HOLDFAST_HTTP_ADDR: "localhost:9090",
      REDIS_URL: "redis://a:6379, rediss://:secret@b:6380/0",
      DATABASE_URL: "postgresql://u:p@db:5432/shop?sslmode=require",
      HOLDFAST_DATA_DIR: "/var/lib/holdfast",
      HOLDFAST_DURABILITY: "redis",
      HOLDFAST_HOLD_SECONDS: "60",
      HOLDFAST_REQUEST_RETENTION_SECONDS: "3600",
      HOLDFAST_REQUEST_MEMORY_COUNT: "1000",
      HOLDFAST_REQUIRE_REQUEST_ID: "1",
      HOLDFAST_SEED_FILE: "/etc/holdfast/seed.json",
      HOLDFAST_MIGRATE_ON_START: "0",
      HOLDFAST_PROCESSES: "4",
      HOLDFAST_PG_POOL_SIZE: "5",
      HOLDFAST_DRAIN_DELAY_SECONDS: "7",
      HOLDFAST_REFLECTION: "0",
      HOLDFAST_CORS_ORIGINS: "https://shop.example, http://localhost:3000",
      HOLDFAST_INSECURE: "1",
      HOLDFAST_METRICS_ADDR: "[::]:9090",
      HOLDFAST_VERIFY_SECONDS: "60",
      HOLDFAST_VERIFY_MAX_COMMITS: "5000",
      OTEL_EXPORTER_OTLP_ENDPOINT: "https://collector:4318/",
      OTEL_SERVICE_NAME: "shop",
      OTEL_TRACES_SAMPLER_ARG: "0.01",
      HOLDFAST_SHOP_CALLS_PER_SECOND: "2000",
      HOLDFAST_MAX_CALLS_IN_FLIGHT: "200",
      HOLDFAST_MAX_CALLS_WAITING: "300",
      HOLDFAST_MAX_BACKLOG_COMMITS: "400",
      HOLDFAST_PAYMENT_GATEWAY: "stripe",
      HOLDFAST_PAYMENT_ATTEMPT_TIMEOUT_MS: "500",
      HOLDFAST_PAYMENT_RETRY_MS: "50",
      HOLDFAST_PAYMENT_BREAK_MS: "5000",
      HOLDFAST_SIMULATED_LATENCY_MS: "0",
      HOLDFAST_SIMULATED_DECLINE_RATE: "0.25",
      HOLDFAST_SIMULATED_TIMEOUT_RATE: "1",
      STRIPE_API_KEY: "sk_test_1",
      STRIPE_API_BASE: "http://127.0.0.1:12111",
      STRIPE_PAYMENT_METHOD: "pm_card_mastercard",
      HOLDFAST_MAX_REQUEST_BYTES: "16384",
      HOLDFAST_MAX_RESPONSE_BYTES: "65536",
      HOLDFAST_MAX_HEADER_BYTES: "4096",
      HOLDFAST_MAX_UNREAD_BYTES: "1",
      HOLDFAST_MAX_UNREAD_SECONDS: "2",
      HOLDFAST_MAX_CONNECTIONS: "3",
      HOLDFAST_MAX_CALLS_PER_CONNECTION: "4",
      HOLDFAST_MAX_WATCHES_PER_CALLER: "15",
      HOLDFAST_MAX_RESETS_PER_SECOND: "5",
      HOLDFAST_MAX_HANDSHAKE_SECONDS: "6",
      HOLDFAST_MAX_ARRIVAL_SECONDS: "7",
      HOLDFAST_DEFAULT_DEADLINE_MS: "8",
      HOLDFAST_MAX_DEADLINE_MS: "9",
      HOLDFAST_PING_SECONDS: "10",
      HOLDFAST_PING_TIMEOUT_SECONDS: "11",
      HOLDFAST_MAX_IDLE_SECONDS: "12",
      HOLDFAST_MAX_CONNECTION_AGE_SECONDS: "13",
      HOLDFAST_CONNECTION_AGE_GRACE_SECONDS: "14",
    });
    expect(config).toEqual({
      grpcAddress: { host: "::1", port: 0 },
      httpAddress: { host: "localhost", port: 9090 },
      redisUrls: ["redis://a:6379", "rediss://:secret@b:6380/0"],
      databaseUrl: "postgresql://u:p@db:5432/shop?sslmode=require",
      dataDir: "/var/lib/holdfast",
      durability: "redis",
      holdMs: 60_000,
      requestRetentionMs: 3_600_000,
      requestMemoryCount: 1000,
      isRequestIdRequired: true,
      seedFile: "/etc/holdfast/seed.json",
      migratesOnStart: false,
      processCount: 4,
      postgresPoolCount: 5,
      drainDelayMs: 7000,
      hasReflection: false,
      corsOrigins: ["https://shop.example", "http://localhost:3000"],
      metricsAddress: { host: "::", port: 9090 },
      verifyMs: 60_000,
      verifyMaxCommits: 5000,
      tracesUrl: "https://collector:4318/v1/traces",
      serviceName: "shop",
      traceShare: 0.01,
      callsPerSecond: { shop: 2000 },
      limits: { maxInFlight: 200, maxWaiting: 300, maxBacklogCommits: 400 },
      payments: {
        gateway: {
          kind: "stripe",
          apiKey: "sk_test_1",
          apiBase: "http://127.0.0.1:12111",
          paymentMethod: "pm_card_mastercard",
        },
        attemptTimeoutMs: 500,
        retryMs: 50,
        breakMs: 5000,
        simulated: { latencyMs: 0, declineRate: 0.25, timeoutRate: 1 },
      },
      doorLimits: {
        requestBytes: 16_384,
        responseBytes: 65_536,
        headerBytes: 4096,
        unreadBytes: 1,
        unreadMs: 2000,
        connectionCount: 3,
        callsPerConnection: 4,
        watchesPerCaller: 15,
        resetsPerSecond: 5,
        handshakeMs: 6000,
        arrivalMs: 7000,
        defaultDeadlineMs: 8,
        maxDeadlineMs: 9,
        pingMs: 10_000,
        pingTimeoutMs: 11_000,
        idleMs: 12_000,
        ageMs: 13_000,
        ageGraceMs: 14_000,
      },
    });
  });

  test("takes an empty variable for an unset one and leaves other programs' variables alone", () => {
    const env = { HOLDFAST_PG_POOL_SIZE: "", HOLDFAST_TLS_CERT: "", REDIS_URL: "", PATH: "/bin", SMTP_URL: "smtp://x" };
    expect(loadConfig(env)).toEqual(loadConfig({}));
  });

  test("turns reflection off and the wait before a drain on by default where other machines can reach the gRPC door", () => {
    const config = loadConfig({ HOLDFAST_GRPC_ADDR: "0.0.0.0:50051", HOLDFAST_INSECURE: "1" });
    expect(config).toMatchObject({ hasReflection: false, drainDelayMs: 5000 });
  });

  test.each(["127.0.0.1:1", "127.8.9.10:1", "localhost:1", "[::1]:1"])("opens a door on loopback: %s", (address) => {
    expect(loadConfig({ HOLDFAST_GRPC_ADDR: address, HOLDFAST_HTTP_ADDR: address.replace(/1$/, "2") })).toBeDefined();
  });

  test.each(["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "shop.example:1", "127.evil.example:1"])(
    "opens no door to other machines without HOLDFAST_INSECURE=1: %s",
    (address) => {
      for (const name of ["HOLDFAST_GRPC_ADDR", "HOLDFAST_HTTP_ADDR"]) {
        expect(messageOf({ [name]: address })).toContain("HOLDFAST_INSECURE=1");
        expect(loadConfig({ [name]: address, HOLDFAST_INSECURE: "1" })).toBeDefined();
      }
    },
  );

  test.each([
    ["HOLDFAST_GRPC_ADDR", "50051", "host:port"],
    ["HOLDFAST_GRPC_ADDR", ":50051", "host:port"],
    ["HOLDFAST_GRPC_ADDR", "127.0.0.1:65536", "host:port"],
    ["HOLDFAST_GRPC_ADDR", "[::g]:1", "host:port"],
    ["HOLDFAST_HTTP_ADDR", "127.0.0.1:-1", "host:port"],
    ["HOLDFAST_HTTP_ADDR", "127.0.0.1:50051", "a port of its own"],
    ["REDIS_URL", "localhost:6379", "accepted is redis://host:port"],
    ["REDIS_URL", "redis://a,,redis://b", "redis://host:port"],
    ["REDIS_URL", "http://a", "redis://host:port"],
    ["DATABASE_URL", "mysql://a/b", "postgres://"],
    ["DATABASE_URL", "nonsense", "postgres://"],
    ["HOLDFAST_DURABILITY", "Redis", "postgres or redis"],
    ["HOLDFAST_HOLD_SECONDS", "0", "from 1 to 86400"],
    ["HOLDFAST_HOLD_SECONDS", "86401", "from 1 to 86400"],
    ["HOLDFAST_HOLD_SECONDS", "1.5", "a whole number"],
    ["HOLDFAST_HOLD_SECONDS", "1e3", "a whole number"],
    ["HOLDFAST_REQUEST_RETENTION_SECONDS", "599", "from 600"],
    ["HOLDFAST_REQUEST_MEMORY_COUNT", "-1", "a whole number"],
    ["HOLDFAST_PROCESSES", "0", "from 1 to 64"],
    ["HOLDFAST_PROCESSES", "-1", "a whole number"],
    ["HOLDFAST_PROCESSES", "65", "from 1 to 64"],
    ["HOLDFAST_PROCESSES", "two", "a whole number"],
    ["HOLDFAST_PG_POOL_SIZE", "999999999999999999999", "a whole number"],
    ["HOLDFAST_DRAIN_DELAY_SECONDS", "301", "from 0 to 300"],
    ["HOLDFAST_REQUIRE_REQUEST_ID", "true", "0 or 1"],
    ["HOLDFAST_MIGRATE_ON_START", "2", "0 or 1"],
    ["HOLDFAST_REFLECTION", "yes", "0 or 1"],
    ["HOLDFAST_INSECURE", " 1", "0 or 1"],
    ["HOLDFAST_SHOP_CALLS_PER_SECOND", "0", "from 1 to 1000000"],
    ["HOLDFAST_PRINCIPAL_CALLS_PER_SECOND", "1.5", "a whole number"],
    ["HOLDFAST_MAX_CALLS_IN_FLIGHT", "0", "from 1 to 100000"],
    ["HOLDFAST_MAX_CALLS_WAITING", "0", "from 1 to 100000"],
    ["HOLDFAST_MAX_BACKLOG_COMMITS", "9001", "from 1 to 9000"],
    ["HOLDFAST_CORS_ORIGINS", "https://shop.example/", "origins like"],
    ["HOLDFAST_CORS_ORIGINS", "shop.example", "origins like"],
    ["HOLDFAST_PAYMENT_GATEWAY", "paypal", "simulated or stripe"],
    ["HOLDFAST_MAX_REQUEST_BYTES", "1000", "from 16384"],
    ["HOLDFAST_MAX_DEADLINE_MS", "300001", "to 300000"],
    ["HOLDFAST_MAX_IDLE_SECONDS", "0", "from 1 to 86400"],
    ["HOLDFAST_PAYMENT_ATTEMPT_TIMEOUT_MS", "0", "from 10 to 30000"],
    ["HOLDFAST_PAYMENT_RETRY_MS", "60001", "from 1 to 60000"],
    ["HOLDFAST_PAYMENT_BREAK_MS", "-1", "a whole number"],
    ["HOLDFAST_SIMULATED_LATENCY_MS", "1.5", "a whole number"],
    ["HOLDFAST_SIMULATED_DECLINE_RATE", "1.1", "from 0 to 1"],
    ["HOLDFAST_SIMULATED_TIMEOUT_RATE", "5%", "from 0 to 1"],
  ])("refuses %s=%s and says what is accepted", (name, value, accepted) => {
    const message = messageOf({ [name]: value });
    expect(message).toContain(`${name} is ${JSON.stringify(value)}`);
    expect(message).toContain("accepted is");
    expect(message).toContain(accepted);
    expect(message).not.toContain("\n");
  });

  test.each([
    ["STRIPE_API_BASE", "api.stripe.com", "an origin like"],
    ["STRIPE_API_BASE", "https://api.stripe.com/v1", "an origin like"],
    ["STRIPE_PAYMENT_METHOD", "pm card", "an id like"],
  ])("refuses %s=%s where Stripe is the gateway, and leaves it alone elsewhere", (name, value, accepted) => {
    const stripe = { HOLDFAST_PAYMENT_GATEWAY: "stripe", STRIPE_API_KEY: "sk_test_1" };
    expect(messageOf({ ...stripe, [name]: value })).toContain(accepted);
    expect(loadConfig({ [name]: value })).toEqual(loadConfig({}));
  });

  test("limits the calls of a caller only where callers are asked who they are", () => {
    const limit = { HOLDFAST_PRINCIPAL_CALLS_PER_SECOND: "5" };
    expect(messageOf(limit)).toContain("callers are asked for nothing");
    const secret = { HOLDFAST_JWT_SECRET: "x".repeat(32), HOLDFAST_JWT_ISSUER: "a", HOLDFAST_JWT_AUDIENCE: "b" };
    expect(loadConfig({ ...limit, ...secret }).callsPerSecond).toEqual({ principal: 5 });
  });

  test.each([
    [{ HOLDFAST_CONNECTION_AGE_GRACE_SECONDS: "29" }, "is 29, accepted is 30 or more with the 30000"],
    [
      { HOLDFAST_CONNECTION_AGE_GRACE_SECONDS: "60", HOLDFAST_MAX_DEADLINE_MS: "60001" },
      "is 60, accepted is 61 or more with the 60001",
    ],
  ])("cuts no call within its deadline for the age of its connection: refuses %j", (env, accepted) => {
    const message = messageOf(env as Record<string, string>);
    expect(message).toContain(`HOLDFAST_CONNECTION_AGE_GRACE_SECONDS ${accepted} of HOLDFAST_MAX_DEADLINE_MS`);
    const unset = { HOLDFAST_MAX_DEADLINE_MS: "90000" };
    expect(loadConfig(unset).doorLimits).toMatchObject({ ageGraceMs: 90_000, maxDeadlineMs: 90_000 });
  });

  test.each([
    { OTEL_TRACES_SAMPLER_ARG: "endpoint=http://sampler:5778" },
    { OTEL_TRACES_SAMPLER_ARG: "5", OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318", OTEL_SDK_DISABLED: "true" },
  ])("leaves the share of traces alone where nothing is traced: %j", (env) => {
    expect(loadConfig(env)).toEqual(loadConfig({}));
    const traced = { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318", OTEL_SDK_DISABLED: "" };
    expect(messageOf(traced)).toContain("OTEL_TRACES_SAMPLER_ARG is");
  });

  test("asks for Stripe's key, and does not show it", () => {
    expect(messageOf({ HOLDFAST_PAYMENT_GATEWAY: "stripe" })).toContain("STRIPE_API_KEY is unset");
    expect(messageOf({ HOLDFAST_PAYMENT_GATEWAY: "stripe", STRIPE_API_KEY: "sk 1" })).not.toContain("sk 1");
  });

  test("keeps passwords out of the message", () => {
    const message = messageOf({ DATABASE_URL: "mysql://shop:hunter2@db/x" });
    expect(message).toContain("mysql://shop:***@db/x");
    expect(messageOf({ REDIS_URL: "redis://a,http://:hun@ter2@b" })).not.toContain("ter2");
  });

  test("stays on one line whatever the value", () => {
    expect(messageOf({ HOLDFAST_DURABILITY: "a\nb" })).toBe(
      'HOLDFAST_DURABILITY is "a\\nb", accepted is postgres or redis',
    );
  });

  test("refuses an unknown variable and names the nearest one", () => {
    expect(messageOf({ HOLDFAST_POOL_SIZE: "1" })).toContain("did you mean HOLDFAST_PG_POOL_SIZE?");
    expect(messageOf({ HOLDFAST_GRPC_ADDRESS: "1" })).toContain("did you mean HOLDFAST_GRPC_ADDR?");
  });

  test("lets the metrics be shown to other machines only where the doors may be", () => {
    const settings = { HOLDFAST_METRICS_ADDR: "0.0.0.0:9090" };
    expect(messageOf(settings)).toContain('HOLDFAST_METRICS_ADDR is "0.0.0.0:9090", which other machines can reach');
    expect(loadConfig({ ...settings, HOLDFAST_INSECURE: "1" }).metricsAddress).toEqual({ host: "0.0.0.0", port: 9090 });
    expect(loadConfig({}).metricsAddress).toBeUndefined();
  });
});

describe("--processes", () => {
  const config = loadConfig({ HOLDFAST_PROCESSES: "4" });

  test("wins over HOLDFAST_PROCESSES", () => {
    expect(withProcesses(config, "2")).toEqual({ ...config, processCount: 2 });
    expect(withProcesses(config, undefined)).toEqual(config);
  });

  test.each(["", "0", "-1", "65", "1.5", "two"])("is not %j", (text) => {
    expect(() => withProcesses(config, text)).toThrow(
      `--processes is ${JSON.stringify(text)}, accepted is a whole number from 1 to 64`,
    );
  });
});

describe("tokens", () => {
  const checks = { HOLDFAST_JWT_ISSUER: "https://issuer.example", HOLDFAST_JWT_AUDIENCE: "holdfast" };
  const secret = "x".repeat(32);

  test.each([
    [
      { HOLDFAST_JWT_JWKS_URL: "https://issuer.example/jwks" },
      { jwksUrl: "https://issuer.example/jwks" },
      ["RS256", "ES256", "EdDSA"],
    ],
    [{ HOLDFAST_JWT_JWKS_URL: "http://localhost:1/" }, { jwksUrl: "http://localhost:1/" }, ["RS256", "ES256", "EdDSA"]],
    [{ HOLDFAST_JWT_PUBLIC_KEY: "/etc/key.pem" }, { publicKey: "/etc/key.pem" }, ["RS256", "ES256", "EdDSA"]],
    [{ HOLDFAST_JWT_SECRET: secret }, { secret }, ["HS256"]],
    [
      { HOLDFAST_JWT_PUBLIC_KEY: "/etc/key.pem", HOLDFAST_JWT_ALGORITHMS: "ES384, PS256" },
      { publicKey: "/etc/key.pem" },
      ["ES384", "PS256"],
    ],
  ])("%j", (env, key, algorithms) => {
    const { jwt } = loadConfig({ ...checks, ...(env as Record<string, string>) });
    expect(jwt).toEqual({ key, algorithms, issuer: "https://issuer.example", audience: "holdfast" });
  });

  test.each([
    [{ HOLDFAST_JWT_ISSUER: "a" }, "HOLDFAST_JWT_ISSUER is set without a key"],
    [{ HOLDFAST_JWT_SECRET: secret }, "HOLDFAST_JWT_ISSUER is unset"],
    [{ HOLDFAST_JWT_SECRET: secret, HOLDFAST_JWT_ISSUER: "a" }, "HOLDFAST_JWT_AUDIENCE is unset"],
    [{ ...checks, HOLDFAST_JWT_SECRET: secret, HOLDFAST_JWT_PUBLIC_KEY: "k" }, "only one of HOLDFAST_JWT_JWKS_URL"],
    [{ ...checks, HOLDFAST_JWT_SECRET: "short secret" }, "HOLDFAST_JWT_SECRET is too short"],
    [{ ...checks, HOLDFAST_JWT_JWKS_URL: "http://issuer.example/" }, "accepted is https://host/path"],
    [{ ...checks, HOLDFAST_JWT_JWKS_URL: "https://ann:pw@issuer.example/" }, "without user and password"],
    [{ ...checks, HOLDFAST_JWT_JWKS_URL: "issuer" }, "accepted is https://host/path"],
    [{ ...checks, HOLDFAST_JWT_SECRET: secret, HOLDFAST_JWT_ALGORITHMS: "ES256" }, "accepted is HS256, HS384, HS512"],
    [{ ...checks, HOLDFAST_JWT_PUBLIC_KEY: "k", HOLDFAST_JWT_ALGORITHMS: "HS256" }, "accepted is RS256"],
    [{ ...checks, HOLDFAST_JWT_PUBLIC_KEY: "k", HOLDFAST_JWT_ALGORITHMS: "none" }, "accepted is RS256"],
  ])("refuses %j", (env, message) => {
    const text = messageOf(env as Record<string, string>);
    expect(text).toContain(message);
    expect(text).not.toContain(secret);
    expect(text).not.toContain("short secret");
  });

  test("let the doors listen where other machines can reach them", () => {
    const env = { ...checks, HOLDFAST_JWT_SECRET: secret, HOLDFAST_GRPC_ADDR: "0.0.0.0:50051" };
    expect(loadConfig(env)).toMatchObject({ grpcAddress: { host: "0.0.0.0" }, hasReflection: false });
    expect(messageOf({ HOLDFAST_GRPC_ADDR: "0.0.0.0:50051" })).toContain("there is no authentication");
  });
});

describe("TLS", () => {
  const pair = { HOLDFAST_TLS_CERT: "/etc/tls/cert.pem", HOLDFAST_TLS_KEY: "tls/key.pem" };
  const clients = { HOLDFAST_TLS_CLIENT_CA: "/etc/tls/ca.pem", HOLDFAST_TLS_CLIENTS: "/etc/tls/clients.json" };

  test("takes files", () => {
    const certFile = "/etc/tls/cert.pem";
    const keyFile = resolve("tls/key.pem");
    expect(loadConfig(pair).tls).toEqual({ certFile, keyFile });
    expect(loadConfig({ ...pair, ...clients }).tls).toEqual({
      certFile,
      keyFile,
      clientCaFile: "/etc/tls/ca.pem",
      clientsFile: "/etc/tls/clients.json",
    });
  });

  test.each([
    [{ HOLDFAST_TLS_CERT: "a" }, "belong together"],
    [{ HOLDFAST_TLS_KEY: "a" }, "belong together"],
    [{ HOLDFAST_TLS_CLIENT_CA: "a" }, "belong together"],
    [{ ...pair, HOLDFAST_TLS_CLIENTS: "a" }, "but not HOLDFAST_TLS_CLIENT_CA"],
    [{ ...pair, HOLDFAST_HTTP_ADDR: "0.0.0.0:1" }, "there is no authentication"],
  ])("refuses %j", (env, message) => {
    expect(messageOf(env as Record<string, string>)).toContain(message);
  });

  test("with a CA of clients lets the doors listen where other machines can reach them", () => {
    const env = { ...pair, ...clients, HOLDFAST_HTTP_ADDR: "0.0.0.0:8443" };
    expect(loadConfig(env).httpAddress.host).toBe("0.0.0.0");
  });
});

function messageOf(env: Record<string, string>): string {
  try {
    loadConfig(env);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message;
  }
  throw new Error(`accepted: ${JSON.stringify(env)}`);
}

describe("the server that a command calls", () => {
  test.each([
    [undefined, "", "127.0.0.1:50051"],
    [undefined, "127.0.0.1:6000", "127.0.0.1:6000"],
    [undefined, "[::1]:6000", "[::1]:6000"],
    [undefined, "0.0.0.0:6000", "127.0.0.1:6000"],
    [undefined, "[::]:6000", "[::1]:6000"],
    ["shop:7000", "127.0.0.1:6000", "shop:7000"],
    ["http://shop:7000", "", "shop:7000"],
    ["http://[::1]:7000/", "127.0.0.1:0", "[::1]:7000"],
  ])("with --target %j and HOLDFAST_GRPC_ADDR=%s is %s", (target, address, expected) => {
    expect(targetOf(target, loadConfig({ HOLDFAST_GRPC_ADDR: address, HOLDFAST_INSECURE: "1" }))).toBe(expected);
  });

  test.each(["shop", "https://shop:443", "http://shop:7000/path", "shop:70000", "http://u:p@shop:1"])(
    "is not %s",
    (target) => {
      expect(() => targetOf(target, loadConfig({}))).toThrow(/--target is ".+", accepted is host:port/);
    },
  );

  test("cannot be known when it takes any free port", () => {
    expect(() => targetOf(undefined, loadConfig({ HOLDFAST_GRPC_ADDR: "127.0.0.1:0" }))).toThrow(/--target/);
  });
});
