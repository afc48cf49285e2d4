import { isIP } from "node:net";
import { resolve } from "node:path";
import { findNearest } from "./nearest.ts";

/** A setting with a bad value; the message is one line that names it, its value and what is accepted. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** Where a door listens. Port 0 takes any free port. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `postgres`: acknowledge when PostgreSQL has committed. `redis`: right after the script; Redis can lose the newest. */
export type Durability = "postgres" | "redis";

/** Everything the environment can set. */
export interface Config {
  /** HOLDFAST_GRPC_ADDR. Default 127.0.0.1:50051. */
  readonly grpcAddress: ListenAddress;
  /** HOLDFAST_HTTP_ADDR. Default 127.0.0.1:8080. */
  readonly httpAddress: ListenAddress;
  /** REDIS_URL. Empty: a private Redis is started. More than one: nodes of a Redis Cluster; some of them suffice. */
  readonly redisUrls: readonly string[];
  /** DATABASE_URL. Undefined: an embedded PostgreSQL is started. */
  readonly databaseUrl: string | undefined;
  /** HOLDFAST_DATA_DIR, absolute: the data of the servers that Holdfast starts itself. Default `.holdfast`. */
  readonly dataDir: string;
  /** HOLDFAST_DURABILITY. Default `postgres`. */
  readonly durability: Durability;
  /** HOLDFAST_HOLD_SECONDS, in milliseconds: how long a hold lasts that names no duration. Default 600 s. */
  readonly holdMs: number;
  /** HOLDFAST_REQUEST_RETENTION_SECONDS, in milliseconds: how long a request id is known. Default 24 h. */
  readonly requestRetentionMs: number;
  /** HOLDFAST_REQUEST_MEMORY_COUNT: request ids of a shop that Redis keeps. Default 1,000,000. */
  readonly requestMemoryCount: number;
  /** HOLDFAST_REQUIRE_REQUEST_ID: refuse every mutation without a request id. Default false. */
  readonly isRequestIdRequired: boolean;
  /** HOLDFAST_SEED_FILE, absolute. Undefined: nothing is seeded. */
  readonly seedFile: string | undefined;
  /** HOLDFAST_MIGRATE_ON_START. Default true. */
  readonly migratesOnStart: boolean;
  /** HOLDFAST_PROCESSES, or `--processes`: how many serve side by side behind the same doors. Default 1. */
  readonly processCount: number;
  /** HOLDFAST_PG_POOL_SIZE: connections for reads, shared out among the processes; each flushes over its own. Default 20. */
  readonly postgresPoolCount: number;
  /**
   * HOLDFAST_DRAIN_DELAY_SECONDS, in milliseconds: how long a server that stops says that it is not ready and still takes
   * calls, so that load balancers notice. Default 0 when the gRPC door listens on loopback, else 5 s.
   */
  readonly drainDelayMs: number;
  /** HOLDFAST_REFLECTION. Default true when the gRPC door listens on loopback. */
  readonly hasReflection: boolean;
  /** HOLDFAST_CORS_ORIGINS: origins like `https://shop.example`, or `*`. Default none. */
  readonly corsOrigins: readonly string[];
  /** HOLDFAST_JWT_*: which tokens callers come with. Undefined: nobody is asked for one. */
  readonly jwt: JwtConfig | undefined;
  /** HOLDFAST_TLS_*: what both doors listen with. Undefined: without TLS. */
  readonly tls: TlsConfig | undefined;
  /** HOLDFAST_TOKEN: what the commands that call a server (`verify`, `rebuild`, `watch`) say who they are with. */
  readonly token: string | undefined;
  /** Calls per second in all processes together: of a caller, in all its shops; of a shop. Undefined: as many as come. */
  readonly callsPerSecond: {
    /** HOLDFAST_PRINCIPAL_CALLS_PER_SECOND. Default undefined. */
    readonly principal: number | undefined;
    /** HOLDFAST_SHOP_CALLS_PER_SECOND. Default undefined. */
    readonly shop: number | undefined;
  };
  /** How many calls and commits may wait, in each process. */
  readonly limits: {
    /** HOLDFAST_MAX_CALLS_IN_FLIGHT: calls between Redis and PostgreSQL at a time, at most. Default 1,000. */
    readonly maxInFlight: number;
    /** HOLDFAST_MAX_CALLS_WAITING: calls of a shop that wait for their turn. Default 1,000. */
    readonly maxWaiting: number;
    /** HOLDFAST_MAX_BACKLOG_COMMITS: commits of a shop that PostgreSQL does not have yet. Default 8,000. */
    readonly maxBacklogCommits: number;
  };
  /** HOLDFAST_METRICS_ADDR: where `/metrics` is, and the probes too. Undefined: on the HTTP door. */
  readonly metricsAddress: ListenAddress | undefined;
  /** HOLDFAST_VERIFY_SECONDS, in milliseconds: how often every shop is verified on the side; 0 = never. Default 900 s. */
  readonly verifyMs: number;
  /** HOLDFAST_VERIFY_MAX_COMMITS: shops with more are not verified on the side. Default 100,000. */
  readonly verifyMaxCommits: number;
  /** OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or OTEL_EXPORTER_OTLP_ENDPOINT with `/v1/traces`. Undefined: nothing is traced. */
  readonly tracesUrl: string | undefined;
  /** OTEL_SERVICE_NAME: what spans say they are of. Default `holdfast`. */
  readonly serviceName: string;
  /** OTEL_TRACES_SAMPLER_ARG: the share of traces that begin here and are kept, 0 to 1; callers decide for theirs. Default 1. */
  readonly traceShare: number;
  /** Who charges GATEWAY orders, and how patiently. */
  readonly payments: PaymentConfig;
  /** What one caller, and one connection, may take up of the doors. */
  readonly doorLimits: DoorLimits;
}

/** The limits of both doors; each process keeps them for itself. */
export interface DoorLimits {
  /** HOLDFAST_MAX_REQUEST_BYTES: the largest request. Default 65,536; 100 lines with 64-character SKUs are below 10,000. */
  readonly requestBytes: number;
  /** HOLDFAST_MAX_RESPONSE_BYTES: the largest response or stream message. Default 4,194,304, what gRPC clients accept. */
  readonly responseBytes: number;
  /** HOLDFAST_MAX_HEADER_BYTES: all headers of a call together. Default 16,384. */
  readonly headerBytes: number;
  /** HOLDFAST_MAX_UNREAD_BYTES: what a gRPC stream holds ready for its reader; then it waits. Default 65,536. */
  readonly unreadBytes: number;
  /** HOLDFAST_MAX_UNREAD_SECONDS, in milliseconds: a call of which its reader takes nothing for so long is cut. Default 60 s. */
  readonly unreadMs: number;
  /** HOLDFAST_MAX_CONNECTIONS: open connections of each door. Default 10,000. */
  readonly connectionCount: number;
  /** HOLDFAST_MAX_CALLS_PER_CONNECTION: calls at a time on a connection of HTTP/2, which gRPC is. Default 250. */
  readonly callsPerConnection: number;
  /** HOLDFAST_MAX_WATCHES_PER_CALLER: WatchEvents at a time of one principal; who is not asked counts as one. Default 2,000. */
  readonly watchesPerCaller: number;
  /**
   * HOLDFAST_MAX_RESETS_PER_SECOND: calls that the caller of a connection may break off, ten times as many at once; then the
   * connection is closed. Default 100.
   */
  readonly resetsPerSecond: number;
  /** HOLDFAST_MAX_HANDSHAKE_SECONDS, in milliseconds: for TLS, the beginning of HTTP/2, the headers of HTTP/1.1. Default 10 s. */
  readonly handshakeMs: number;
  /**
   * HOLDFAST_MAX_ARRIVAL_SECONDS, in milliseconds: how long a request may take to arrive. Until it has, nobody was asked who
   * calls: without the limit anybody could hold calls open for ever. Default 30 s.
   */
  readonly arrivalMs: number;
  /** HOLDFAST_DEFAULT_DEADLINE_MS: the deadline of a unary call whose caller sets none. Default 5,000. */
  readonly defaultDeadlineMs: number;
  /** HOLDFAST_MAX_DEADLINE_MS: the longest deadline of a unary call; a longer one is shortened to it. Default 30,000. */
  readonly maxDeadlineMs: number;
  /** HOLDFAST_PING_SECONDS, in milliseconds: how often a peer is asked whether it is still there. Default 30 s. */
  readonly pingMs: number;
  /** HOLDFAST_PING_TIMEOUT_SECONDS, in milliseconds: a peer that does not answer in so long is gone. Default 10 s. */
  readonly pingTimeoutMs: number;
  /** HOLDFAST_MAX_IDLE_SECONDS, in milliseconds: how long a connection without calls is kept open. Default 60 s. */
  readonly idleMs: number;
  /**
   * HOLDFAST_MAX_CONNECTION_AGE_SECONDS, in milliseconds, 10 % more or less: then callers are to connect anew, which spreads
   * them over all servers, and streams end after the message they are at. Default 3,600 s.
   */
  readonly ageMs: number;
  /**
   * HOLDFAST_CONNECTION_AGE_GRACE_SECONDS, in milliseconds: how long calls on such a connection may go on. Never less than
   * `maxDeadlineMs`. Default 60 s, or that where it is more.
   */
  readonly ageGraceMs: number;
}

/** Which tokens (JWT) callers come with. Exactly one of the three keys is set. */
export interface JwtConfig {
  readonly key:
    | { /** HOLDFAST_JWT_JWKS_URL: where the issuer publishes its keys. */ readonly jwksUrl: string }
    | { /** HOLDFAST_JWT_PUBLIC_KEY: in PEM, or the path of a file with it. */ readonly publicKey: string }
    | { /** HOLDFAST_JWT_SECRET: 32 characters or more. */ readonly secret: string };
  /** HOLDFAST_JWT_ISSUER: what the claim `iss` must be. Required. */
  readonly issuer: string;
  /** HOLDFAST_JWT_AUDIENCE: what the claim `aud` must be or contain. Required. */
  readonly audience: string;
  /** HOLDFAST_JWT_ALGORITHMS. Default HS256 with a secret, else RS256, ES256 and EdDSA. */
  readonly algorithms: readonly string[];
}

/** The files that both doors listen with, absolute, in PEM; they are read again when they change. */
export interface TlsConfig {
  /** HOLDFAST_TLS_CERT: the certificate, followed by those between it and its CA. */
  readonly certFile: string;
  /** HOLDFAST_TLS_KEY: its private key. */
  readonly keyFile: string;
  /** HOLDFAST_TLS_CLIENT_CA: the CA of client certificates. Undefined: callers are not asked for one. */
  readonly clientCaFile: string | undefined;
  /** HOLDFAST_TLS_CLIENTS: JSON, what clients may do by the names of their certificates. Undefined: the certificates say it. */
  readonly clientsFile: string | undefined;
}

/** How GATEWAY orders are paid; times in milliseconds. */
export interface PaymentConfig {
  /** HOLDFAST_PAYMENT_GATEWAY. Default `simulated`, which moves no money. */
  readonly gateway: { readonly kind: "simulated" } | ({ readonly kind: "stripe" } & StripeConfig);
  /** HOLDFAST_PAYMENT_ATTEMPT_TIMEOUT_MS: how long one request to the gateway may take. Default 3,000. */
  readonly attemptTimeoutMs: number;
  /** HOLDFAST_PAYMENT_RETRY_MS: the wait after the first attempt without an outcome; it doubles with each. Default 1,000. */
  readonly retryMs: number;
  /** HOLDFAST_PAYMENT_BREAK_MS: how long a gateway that keeps failing is left alone. Default 60,000. */
  readonly breakMs: number;
  readonly simulated: {
    /** HOLDFAST_SIMULATED_LATENCY_MS. Default 20. */
    readonly latencyMs: number;
    /** HOLDFAST_SIMULATED_DECLINE_RATE: the share of orders that are declined, 0 to 1. Default 0. */
    readonly declineRate: number;
    /** HOLDFAST_SIMULATED_TIMEOUT_RATE: the share of attempts that are not answered, 0 to 1. Default 0. */
    readonly timeoutRate: number;
  };
}

/** How Stripe is reached; read only when it is the gateway. */
export interface StripeConfig {
  /** STRIPE_API_KEY. Required. */
  readonly apiKey: string;
  /** STRIPE_API_BASE, an origin. Default `https://api.stripe.com`. */
  readonly apiBase: string;
  /** STRIPE_PAYMENT_METHOD: what is charged. Default `pm_card_visa`, the card of Stripe's test mode. */
  readonly paymentMethod: string;
}

const names = [
  "HOLDFAST_GRPC_ADDR",
  "HOLDFAST_HTTP_ADDR",
  "HOLDFAST_DATA_DIR",
  "HOLDFAST_DURABILITY",
  "HOLDFAST_HOLD_SECONDS",
  "HOLDFAST_REQUEST_RETENTION_SECONDS",
  "HOLDFAST_REQUEST_MEMORY_COUNT",
  "HOLDFAST_REQUIRE_REQUEST_ID",
  "HOLDFAST_SEED_FILE",
  "HOLDFAST_MIGRATE_ON_START",
  "HOLDFAST_PROCESSES",
  "HOLDFAST_PG_POOL_SIZE",
  "HOLDFAST_DRAIN_DELAY_SECONDS",
  "HOLDFAST_REFLECTION",
  "HOLDFAST_CORS_ORIGINS",
  "HOLDFAST_JWT_JWKS_URL",
  "HOLDFAST_JWT_PUBLIC_KEY",
  "HOLDFAST_JWT_SECRET",
  "HOLDFAST_JWT_ISSUER",
  "HOLDFAST_JWT_AUDIENCE",
  "HOLDFAST_JWT_ALGORITHMS",
  "HOLDFAST_TLS_CERT",
  "HOLDFAST_TLS_KEY",
  "HOLDFAST_TLS_CLIENT_CA",
  "HOLDFAST_TLS_CLIENTS",
  "HOLDFAST_TOKEN",
  "HOLDFAST_INSECURE",
  "HOLDFAST_PRINCIPAL_CALLS_PER_SECOND",
  "HOLDFAST_SHOP_CALLS_PER_SECOND",
  "HOLDFAST_MAX_CALLS_IN_FLIGHT",
  "HOLDFAST_MAX_CALLS_WAITING",
  "HOLDFAST_MAX_BACKLOG_COMMITS",
  "HOLDFAST_METRICS_ADDR",
  "HOLDFAST_VERIFY_SECONDS",
  "HOLDFAST_VERIFY_MAX_COMMITS",
  "HOLDFAST_PAYMENT_GATEWAY",
  "HOLDFAST_PAYMENT_ATTEMPT_TIMEOUT_MS",
  "HOLDFAST_PAYMENT_RETRY_MS",
  "HOLDFAST_PAYMENT_BREAK_MS",
  "HOLDFAST_SIMULATED_LATENCY_MS",
  "HOLDFAST_SIMULATED_DECLINE_RATE",
  "HOLDFAST_SIMULATED_TIMEOUT_RATE",
  "HOLDFAST_MAX_REQUEST_BYTES",
  "HOLDFAST_MAX_RESPONSE_BYTES",
  "HOLDFAST_MAX_HEADER_BYTES",
  "HOLDFAST_MAX_UNREAD_BYTES",
  "HOLDFAST_MAX_UNREAD_SECONDS",
  "HOLDFAST_MAX_CONNECTIONS",
  "HOLDFAST_MAX_CALLS_PER_CONNECTION",
  "HOLDFAST_MAX_WATCHES_PER_CALLER",
  "HOLDFAST_MAX_RESETS_PER_SECOND",
  "HOLDFAST_MAX_HANDSHAKE_SECONDS",
  "HOLDFAST_MAX_ARRIVAL_SECONDS",
  "HOLDFAST_DEFAULT_DEADLINE_MS",
  "HOLDFAST_MAX_DEADLINE_MS",
  "HOLDFAST_PING_SECONDS",
  "HOLDFAST_PING_TIMEOUT_SECONDS",
  "HOLDFAST_MAX_IDLE_SECONDS",
  "HOLDFAST_MAX_CONNECTION_AGE_SECONDS",
  "HOLDFAST_CONNECTION_AGE_GRACE_SECONDS",
] as const;

/** More cores than most machines have; a larger number is a slip. */
const maxProcessCount = 64;

type Environment = Readonly<Record<string, string | undefined>>;
type Name =
  | (typeof names)[number]
  | "REDIS_URL"
  | "DATABASE_URL"
  | "OTEL_EXPORTER_OTLP_ENDPOINT"
  | "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
  | "OTEL_TRACES_SAMPLER_ARG"
  | "STRIPE_API_BASE"
  | "STRIPE_API_KEY"
  | "STRIPE_PAYMENT_METHOD";

/**
 * Reads the settings. An empty variable counts as unset. Throws a ConfigError for a bad value, and for a HOLDFAST_ variable
 * that does not exist.
 */
export function loadConfig(env: Environment = process.env): Config {
  refuseUnknown(env);
  const jwt = readJwt(env);
  const tls = readTls(env);
  const asksCallers = jwt !== undefined || tls?.clientCaFile !== undefined;
  // The flag first: a bad value is refused also where callers are asked.
  const mayBeReached = (readFlag(env, "HOLDFAST_INSECURE") ?? false) || asksCallers;
  const grpcAddress = readAddress(env, "HOLDFAST_GRPC_ADDR", mayBeReached) ?? { host: "127.0.0.1", port: 50051 };
  const httpAddress = readAddress(env, "HOLDFAST_HTTP_ADDR", mayBeReached) ?? { host: "127.0.0.1", port: 8080 };
  refuseSamePort(env, grpcAddress, httpAddress);
  const tracesUrl = readTracesUrl(env);
  return {
    grpcAddress,
    httpAddress,
    redisUrls: readRedisUrls(env) ?? [],
    databaseUrl: readDatabaseUrl(env),
    dataDir: resolve(env.HOLDFAST_DATA_DIR || ".holdfast"),
    durability: readDurability(env) ?? "postgres",
    holdMs: (readCount(env, "HOLDFAST_HOLD_SECONDS", 1, 86_400) ?? 600) * 1000,
    requestRetentionMs: (readCount(env, "HOLDFAST_REQUEST_RETENTION_SECONDS", 600, 31_536_000) ?? 86_400) * 1000,
    requestMemoryCount: readCount(env, "HOLDFAST_REQUEST_MEMORY_COUNT", 1, 1_000_000_000) ?? 1_000_000,
    isRequestIdRequired: readFlag(env, "HOLDFAST_REQUIRE_REQUEST_ID") ?? false,
    seedFile: env.HOLDFAST_SEED_FILE ? resolve(env.HOLDFAST_SEED_FILE) : undefined,
    migratesOnStart: readFlag(env, "HOLDFAST_MIGRATE_ON_START") ?? true,
    processCount: readCount(env, "HOLDFAST_PROCESSES", 1, maxProcessCount) ?? 1,
    postgresPoolCount: readCount(env, "HOLDFAST_PG_POOL_SIZE", 1, 1_000) ?? 20,
    drainDelayMs:
      (readCount(env, "HOLDFAST_DRAIN_DELAY_SECONDS", 0, 300) ?? (isLoopback(grpcAddress.host) ? 0 : 5)) * 1000,
    hasReflection: readFlag(env, "HOLDFAST_REFLECTION") ?? isLoopback(grpcAddress.host),
    corsOrigins: readOrigins(env) ?? [],
    jwt,
    tls,
    token: env.HOLDFAST_TOKEN || undefined,
    callsPerSecond: readCallRates(env, asksCallers),
    limits: {
      maxInFlight: readCount(env, "HOLDFAST_MAX_CALLS_IN_FLIGHT", 1, 100_000) ?? 1000,
      maxWaiting: readCount(env, "HOLDFAST_MAX_CALLS_WAITING", 1, 100_000) ?? 1000,
      // Less than what stays in the log of what PostgreSQL has: a PostgreSQL that lost its tail is healed from it.
      maxBacklogCommits: readCount(env, "HOLDFAST_MAX_BACKLOG_COMMITS", 1, 9000) ?? 8000,
    },
    metricsAddress: readAddress(env, "HOLDFAST_METRICS_ADDR", mayBeReached),
    verifyMs: (readCount(env, "HOLDFAST_VERIFY_SECONDS", 0, 86_400) ?? 900) * 1000,
    verifyMaxCommits: readCount(env, "HOLDFAST_VERIFY_MAX_COMMITS", 1, 1_000_000_000) ?? 100_000,
    tracesUrl,
    serviceName: env.OTEL_SERVICE_NAME || "holdfast",
    // Where nothing is traced it is another program's: of the samplers of OpenTelemetry some take no number.
    traceShare: (tracesUrl === undefined ? undefined : readShare(env, "OTEL_TRACES_SAMPLER_ARG")) ?? 1,
    payments: readPayments(env),
    doorLimits: readDoorLimits(env),
  };
}

/** The settings with what `--processes` says, which wins over HOLDFAST_PROCESSES; undefined: as they are. */
export function withProcesses(config: Config, text: string | undefined): Config {
  if (text === undefined) return config;
  const processCount = parseCount(text, 1, maxProcessCount);
  if (processCount === undefined) {
    throw new ConfigError(`--processes is ${quote(text)}, accepted is a whole number from 1 to ${maxProcessCount}`);
  }
  return { ...config, processCount };
}

/** True for the hosts that only this machine can reach. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

function refuseUnknown(env: Environment): void {
  for (const name of Object.keys(env)) {
    if (!name.startsWith("HOLDFAST_") || !env[name] || (names as readonly string[]).includes(name)) continue;
    throw new ConfigError(`${name} is not a setting of Holdfast: did you mean ${findNearest(name, names)}?`);
  }
}

/** Undefined when the variable is unset; `parse` answers undefined for what it does not accept. */
function read<T>(
  env: Environment,
  name: Name,
  accepted: string,
  parse: (text: string) => T | undefined,
): T | undefined {
  const text = env[name];
  if (!text) return undefined;
  const value = parse(text);
  if (value === undefined) throw new ConfigError(`${name} is ${quote(text)}, accepted is ${accepted}`);
  return value;
}

/** One line, with the password of a URL left out. */
function quote(text: string): string {
  return JSON.stringify(text.replaceAll(/:\/\/([^:/@,]*):[^,]*@/g, "://$1:***@"));
}

function readFlag(env: Environment, name: Name): boolean | undefined {
  return read(env, name, "0 or 1", (text) => (text === "1" ? true : text === "0" ? false : undefined));
}

function readCount(env: Environment, name: Name, min: number, max: number): number | undefined {
  return read(env, name, `a whole number from ${min} to ${max}`, (text) => parseCount(text, min, max));
}

function parseCount(text: string, min: number, max: number): number | undefined {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? value : undefined;
}

function readCallRates(env: Environment, asksCallers: boolean): Config["callsPerSecond"] {
  const rate = (name: Name) => readCount(env, name, 1, 1_000_000);
  const principal = rate("HOLDFAST_PRINCIPAL_CALLS_PER_SECOND");
  if (principal !== undefined && !asksCallers) {
    throw new ConfigError(
      "HOLDFAST_PRINCIPAL_CALLS_PER_SECOND is set, but callers are asked for nothing: set HOLDFAST_JWT_* or HOLDFAST_TLS_CLIENT_CA",
    );
  }
  return { principal, shop: rate("HOLDFAST_SHOP_CALLS_PER_SECOND") };
}

function readDurability(env: Environment): Durability | undefined {
  return read(env, "HOLDFAST_DURABILITY", "postgres or redis", (text) =>
    text === "postgres" || text === "redis" ? text : undefined,
  );
}

function readShare(env: Environment, name: Name): number | undefined {
  return read(env, name, "a number from 0 to 1, such as 0.05", (text) => {
    const value = /^\d(\.\d{1,6})?$/.test(text) ? Number(text) : Number.NaN;
    return value <= 1 ? value : undefined;
  });
}

/** The names are those that every program with OpenTelemetry has; OTEL_EXPORTER_OTLP_HEADERS is read by the exporter itself. */
function readTracesUrl(env: Environment): string | undefined {
  if (env.OTEL_SDK_DISABLED === "true" || env.OTEL_TRACES_EXPORTER === "none") return undefined;
  const accepted = "http://host:4318 or https://host:4318, of a collector that takes OTLP over HTTP";
  const parse = (text: string) => (hasProtocol(text, ["http:", "https:"]) ? text : undefined);
  const base = read(env, "OTEL_EXPORTER_OTLP_ENDPOINT", accepted, parse);
  const own = read(env, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", accepted, parse);
  return own ?? (base === undefined ? undefined : `${base.replace(/\/$/, "")}/v1/traces`);
}

function readPayments(env: Environment): PaymentConfig {
  const kind = read(env, "HOLDFAST_PAYMENT_GATEWAY", "simulated or stripe", (text) =>
    text === "simulated" || text === "stripe" ? text : undefined,
  );
  return {
    gateway: kind === "stripe" ? { kind, ...readStripe(env) } : { kind: "simulated" },
    attemptTimeoutMs: readCount(env, "HOLDFAST_PAYMENT_ATTEMPT_TIMEOUT_MS", 10, 30_000) ?? 3000,
    retryMs: readCount(env, "HOLDFAST_PAYMENT_RETRY_MS", 1, 60_000) ?? 1000,
    breakMs: readCount(env, "HOLDFAST_PAYMENT_BREAK_MS", 1, 3_600_000) ?? 60_000,
    simulated: {
      latencyMs: readCount(env, "HOLDFAST_SIMULATED_LATENCY_MS", 0, 60_000) ?? 20,
      declineRate: readShare(env, "HOLDFAST_SIMULATED_DECLINE_RATE") ?? 0,
      timeoutRate: readShare(env, "HOLDFAST_SIMULATED_TIMEOUT_RATE") ?? 0,
    },
  };
}

function readDoorLimits(env: Environment): DoorLimits {
  const maxDeadlineMs = readCount(env, "HOLDFAST_MAX_DEADLINE_MS", 1, 300_000) ?? 30_000;
  return {
    requestBytes: readCount(env, "HOLDFAST_MAX_REQUEST_BYTES", 16_384, 4_194_304) ?? 65_536,
    responseBytes: readCount(env, "HOLDFAST_MAX_RESPONSE_BYTES", 65_536, 67_108_864) ?? 4_194_304,
    headerBytes: readCount(env, "HOLDFAST_MAX_HEADER_BYTES", 4096, 65_536) ?? 16_384,
    unreadBytes: readCount(env, "HOLDFAST_MAX_UNREAD_BYTES", 1, 67_108_864) ?? 65_536,
    unreadMs: readMs(env, "HOLDFAST_MAX_UNREAD_SECONDS", 86_400) ?? 60_000,
    connectionCount: readCount(env, "HOLDFAST_MAX_CONNECTIONS", 1, 1_000_000) ?? 10_000,
    callsPerConnection: readCount(env, "HOLDFAST_MAX_CALLS_PER_CONNECTION", 1, 100_000) ?? 250,
    watchesPerCaller: readCount(env, "HOLDFAST_MAX_WATCHES_PER_CALLER", 1, 1_000_000) ?? 2000,
    resetsPerSecond: readCount(env, "HOLDFAST_MAX_RESETS_PER_SECOND", 1, 100_000) ?? 100,
    handshakeMs: readMs(env, "HOLDFAST_MAX_HANDSHAKE_SECONDS", 600) ?? 10_000,
    arrivalMs: readMs(env, "HOLDFAST_MAX_ARRIVAL_SECONDS", 600) ?? 30_000,
    defaultDeadlineMs: readCount(env, "HOLDFAST_DEFAULT_DEADLINE_MS", 1, 300_000) ?? 5000,
    maxDeadlineMs,
    pingMs: readMs(env, "HOLDFAST_PING_SECONDS", 3600) ?? 30_000,
    pingTimeoutMs: readMs(env, "HOLDFAST_PING_TIMEOUT_SECONDS", 600) ?? 10_000,
    idleMs: readMs(env, "HOLDFAST_MAX_IDLE_SECONDS", 86_400) ?? 60_000,
    ageMs: readMs(env, "HOLDFAST_MAX_CONNECTION_AGE_SECONDS", 604_800) ?? 3_600_000,
    ageGraceMs: readAgeGrace(env, maxDeadlineMs),
  };
}

function readAgeGrace(env: Environment, maxDeadlineMs: number): number {
  const name = "HOLDFAST_CONNECTION_AGE_GRACE_SECONDS";
  const ageGraceMs = readMs(env, name, 86_400) ?? Math.max(60_000, maxDeadlineMs);
  if (ageGraceMs >= maxDeadlineMs) return ageGraceMs;
  throw new ConfigError(
    `${name} is ${ageGraceMs / 1000}, accepted is ${Math.ceil(maxDeadlineMs / 1000)} or more with the ${maxDeadlineMs} of ` +
      "HOLDFAST_MAX_DEADLINE_MS: the age of a connection would cut calls that are within their deadline",
  );
}

/** A time that is set in seconds, 1 to `maxSeconds`, in milliseconds. */
function readMs(env: Environment, name: Name, maxSeconds: number): number | undefined {
  const seconds = readCount(env, name, 1, maxSeconds);
  return seconds === undefined ? undefined : seconds * 1000;
}

function readStripe(env: Environment): StripeConfig {
  const apiKey = env.STRIPE_API_KEY;
  if (!apiKey || !/^[\x21-\x7e]+$/.test(apiKey)) {
    throw new ConfigError("STRIPE_API_KEY is unset or not a key: HOLDFAST_PAYMENT_GATEWAY=stripe needs one");
  }
  const parseOrigin = (text: string) => (text !== "*" && isOrigin(text) ? text : undefined);
  const parseId = (text: string) => (/^[A-Za-z0-9_]{1,255}$/.test(text) ? text : undefined);
  return {
    apiKey,
    apiBase:
      read(env, "STRIPE_API_BASE", "an origin like https://api.stripe.com", parseOrigin) ?? "https://api.stripe.com",
    paymentMethod: read(env, "STRIPE_PAYMENT_METHOD", "an id like pm_card_visa", parseId) ?? "pm_card_visa",
  };
}

const asymmetric = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
const symmetric = ["HS256", "HS384", "HS512"];

function readJwt(env: Environment): JwtConfig | undefined {
  const keys = [readJwksUrl(env), readPublicKey(env), readSecret(env)].filter((key) => key !== undefined);
  const [key] = keys;
  if (key === undefined) {
    const alone = names.find((name) => name.startsWith("HOLDFAST_JWT_") && env[name]);
    if (alone === undefined) return undefined;
    throw new ConfigError(`${alone} is set without a key: set HOLDFAST_JWT_JWKS_URL, _PUBLIC_KEY or _SECRET too`);
  }
  if (keys.length > 1) {
    throw new ConfigError(
      "only one of HOLDFAST_JWT_JWKS_URL, HOLDFAST_JWT_PUBLIC_KEY and HOLDFAST_JWT_SECRET may be set",
    );
  }
  const accepted = "secret" in key ? symmetric : asymmetric;
  return {
    key,
    issuer: readRequired(env, "HOLDFAST_JWT_ISSUER", "tokens of any issuer would be accepted"),
    audience: readRequired(env, "HOLDFAST_JWT_AUDIENCE", "tokens made for other services would be accepted"),
    algorithms: readAlgorithms(env, accepted) ?? ("secret" in key ? ["HS256"] : ["RS256", "ES256", "EdDSA"]),
  };
}

function readJwksUrl(env: Environment) {
  const accepted = "https://host/path, or http:// on loopback, without user and password (fetch takes none)";
  return read(env, "HOLDFAST_JWT_JWKS_URL", accepted, (text) => {
    const url = URL.parse(text);
    const isTrusted = url?.protocol === "https:" || (url?.protocol === "http:" && isLoopback(url.hostname));
    return isTrusted && url.username === "" && url.password === "" ? { jwksUrl: text } : undefined;
  });
}

function readPublicKey(env: Environment) {
  return env.HOLDFAST_JWT_PUBLIC_KEY ? { publicKey: env.HOLDFAST_JWT_PUBLIC_KEY } : undefined;
}

/** The value is never quoted: it is as good as a password. */
function readSecret(env: Environment) {
  const secret = env.HOLDFAST_JWT_SECRET;
  if (!secret) return undefined;
  if (Buffer.byteLength(secret) >= 32) return { secret };
  throw new ConfigError("HOLDFAST_JWT_SECRET is too short, accepted is 32 bytes or more: a short one can be guessed");
}

function readRequired(env: Environment, name: Name, why: string): string {
  const value = env[name];
  if (value) return value;
  throw new ConfigError(`${name} is unset: without it ${why}`);
}

function readAlgorithms(env: Environment, accepted: readonly string[]): readonly string[] | undefined {
  return read(env, "HOLDFAST_JWT_ALGORITHMS", `${accepted.join(", ")}, separated by commas`, (text) => {
    const algorithms = text.split(",").map((algorithm) => algorithm.trim());
    return algorithms.every((algorithm) => accepted.includes(algorithm)) ? algorithms : undefined;
  });
}

function readTls(env: Environment): TlsConfig | undefined {
  const file = (name: Name): string | undefined => (env[name] ? resolve(env[name]) : undefined);
  const [certFile, keyFile] = [file("HOLDFAST_TLS_CERT"), file("HOLDFAST_TLS_KEY")];
  const [clientCaFile, clientsFile] = [file("HOLDFAST_TLS_CLIENT_CA"), file("HOLDFAST_TLS_CLIENTS")];
  if (clientsFile !== undefined && clientCaFile === undefined) {
    throw new ConfigError(
      "HOLDFAST_TLS_CLIENTS is set, but not HOLDFAST_TLS_CLIENT_CA: callers are asked for no certificate",
    );
  }
  if (certFile === undefined && keyFile === undefined && clientCaFile === undefined) return undefined;
  if (certFile !== undefined && keyFile !== undefined) return { certFile, keyFile, clientCaFile, clientsFile };
  throw new ConfigError(
    "HOLDFAST_TLS_CERT and HOLDFAST_TLS_KEY belong together: set both, or neither of HOLDFAST_TLS_*",
  );
}

function readAddress(env: Environment, name: Name, mayBeReached: boolean): ListenAddress | undefined {
  const address = read(env, name, "host:port, such as 127.0.0.1:50051 or [::1]:50051", parseAddress);
  if (address === undefined || mayBeReached || isLoopback(address.host)) return address;
  throw new ConfigError(
    `${name} is ${quote(env[name] ?? "")}, which other machines can reach, and there is no authentication: ` +
      "accepted is a loopback address, or set HOLDFAST_JWT_* or HOLDFAST_TLS_CLIENT_CA to ask who calls, or HOLDFAST_INSECURE=1",
  );
}

function parseAddress(text: string): ListenAddress | undefined {
  const [, ipv6, plain, digits] = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = ipv6 ?? plain;
  const port = Number(digits);
  if (host === undefined || port > 65_535 || (ipv6 !== undefined && isIP(ipv6) !== 6)) return undefined;
  return { host, port };
}

function refuseSamePort(env: Environment, grpcAddress: ListenAddress, httpAddress: ListenAddress): void {
  if (grpcAddress.port === 0 || grpcAddress.port !== httpAddress.port || grpcAddress.host !== httpAddress.host) return;
  const name = env.HOLDFAST_HTTP_ADDR ? "HOLDFAST_HTTP_ADDR" : "HOLDFAST_GRPC_ADDR";
  throw new ConfigError(
    `${name} is ${quote(env[name] ?? "")}, the address of the other door: accepted is a port of its own`,
  );
}

const acceptedRedis =
  "redis://host:port or rediss://host:port, or several nodes of a Redis Cluster separated by commas (Sentinel is not supported)";

function readRedisUrls(env: Environment): readonly string[] | undefined {
  return read(env, "REDIS_URL", acceptedRedis, (text) => {
    const urls = text.split(",").map((url) => url.trim());
    return urls.every((url) => hasProtocol(url, ["redis:", "rediss:"])) ? urls : undefined;
  });
}

function readDatabaseUrl(env: Environment): string | undefined {
  return read(env, "DATABASE_URL", "postgres://user:password@host:port/database", (text) =>
    hasProtocol(text, ["postgres:", "postgresql:"]) ? text : undefined,
  );
}

function readOrigins(env: Environment): readonly string[] | undefined {
  return read(env, "HOLDFAST_CORS_ORIGINS", "origins like https://shop.example separated by commas, or *", (text) => {
    const origins = text.split(",").map((origin) => origin.trim());
    return origins.every(isOrigin) ? origins : undefined;
  });
}

function isOrigin(text: string): boolean {
  return text === "*" || (hasProtocol(text, ["http:", "https:"]) && new URL(text).origin === text);
}

function hasProtocol(text: string, protocols: readonly string[]): boolean {
  return protocols.includes(URL.parse(text)?.protocol ?? "");
}
