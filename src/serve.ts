import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { AdminService } from "../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../gen/holdfast/v1/order_service_pb.js";
import { SubscriptionService } from "../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../gen/holdfast/v1/user_service_pb.js";
import { createCertificateReader } from "./auth/client-certificates.ts";
import { openTokenVerifier } from "./auth/open-token-verifier.ts";
import { type Config, isLoopback, type PaymentConfig } from "./config.ts";
import { around } from "./crash-point.ts";
import { createMetrics, type Metrics } from "./metrics/metrics.ts";
import type { PaymentObserver } from "./metrics/payment-metrics.ts";
import { createPostgresGauges } from "./metrics/postgres-gauges.ts";
import type { PaymentGateway } from "./payments/gateway.ts";
import { defaultGatewayTimes, withRetries } from "./payments/retry-policy.ts";
import { createSimulatedGateway } from "./payments/simulated-gateway.ts";
import { openFlushConnection } from "./postgres/connection.ts";
import { createPageTokens } from "./postgres/page-token.ts";
import { checkConnectionCount } from "./postgres/preflight.ts";
import { createQuoteTokens } from "./postgres/quote-token.ts";
import { type SeedFile, seed } from "./seed.ts";
import { type Authenticate, createAuthenticator } from "./server/authenticator.ts";
import { createCallLog } from "./server/call-log.ts";
import { bindService, createDispatcher } from "./server/dispatcher.ts";
import type { Door } from "./server/door.ts";
import { createGrpcDoor } from "./server/grpc-door.ts";
import { createHttpDoor } from "./server/http-door.ts";
import { createInterceptors } from "./server/interceptors.ts";
import { formatAddress } from "./server/listen-error.ts";
import { createMetricsDoor } from "./server/metrics-door.ts";
import { createMetricsPage } from "./server/metrics-page.ts";
import type { Readiness } from "./server/probes.ts";
import { openRateLimits, type RateLimits } from "./server/rate-limits.ts";
import { openTlsFiles, type TlsFiles } from "./server/tls-files.ts";
import { createAdminService } from "./services/admin-service.ts";
import { createEventService } from "./services/event-service.ts";
import { createInventoryService } from "./services/inventory-service.ts";
import { createOrderService } from "./services/order-service.ts";
import { createPages } from "./services/page.ts";
import { createSubscriptionService } from "./services/subscription-service.ts";
import { createUserService } from "./services/user-service.ts";
import { ensureDefaultShop } from "./shop/default-shop.ts";
import { explainOutage } from "./shop/outage.ts";
import { openStore, ownConnectionCount, type Store } from "./store.ts";
import { openTracing } from "./tracing/open-tracing.ts";
import { traceStores } from "./tracing/trace-stores.ts";
import type { Tracing } from "./tracing/tracing.ts";
import { type PaymentWorker, startPaymentWorker } from "./workers/payment-worker.ts";
import { startVerifier } from "./workers/verifier.ts";

/** A Holdfast that serves. */
export interface Server {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly store: Store;
  /** Where `/metrics` is when it has an address of its own. */
  readonly metricsPort: number | undefined;
  /** The metrics of this server in Prometheus' text format. */
  metrics(): Promise<string>;
  /** Not ready, wait until load balancers have noticed, finish what is in flight, end watches after their last position, close. */
  stop(): Promise<void>;
}

/** What a server needs besides its settings. */
export interface ServerOptions {
  readonly config: Config;
  readonly redisUrl: string;
  readonly databaseUrl: string;
  /** What HOLDFAST_SEED_FILE holds. */
  readonly seedFile?: SeedFile | undefined;
  /** The clock of scripts, in milliseconds; Redis' own when absent. Tests replace it. */
  readonly clock?: () => number;
  /** Which one this is of several processes behind the same doors. Undefined: there is only this one. */
  readonly process?: ProcessPlace | undefined;
  readonly logger: Logger;
}

/** One of several processes. */
export interface ProcessPlace {
  /** Counted from 1; all its metrics carry it. */
  readonly number: number;
  /** The metrics of all processes, for whoever asks this one. */
  readonly gatherMetrics: () => Promise<string>;
}

/** How long calls in flight may take to finish when the server stops, in milliseconds. */
const drainMs = 10_000;

/** Opens the stores and both doors; ready when it returns. */
export async function startServer(options: ServerOptions): Promise<Server> {
  warnOfOpenDoors(options);
  const metrics = createMetrics(options.process?.number);
  const tracing = await openTracing(options.config, options.logger);
  const store = await openStore({
    ...options.config,
    ...options,
    observer: traceStores(metrics.store, tracing),
  }).catch(async (error: unknown) => {
    await tracing?.close();
    throw error;
  });
  let rates: RateLimits | undefined;
  try {
    await fill(store, options);
    metrics.showShops(store.shops);
    rates = await openRateLimits({ ...options, rates: options.config.callsPerSecond });
    const gateway = await openGateway(options.config.payments, metrics.payments);
    const doors = await openDoors(options, store, { metrics, rates, tracing });
    const payments = startPayments(options, store, { gateway, metrics, tracing });
    const watch = startWatching(options, store, metrics);
    return {
      ...doors,
      store,
      metrics: metrics.render,
      stop: async () => {
        await doors.drain();
        rates?.close();
        await Promise.all([payments.stop(), watch.stop()]);
        await store.close();
        await tracing?.close();
      },
    };
  } catch (error) {
    rates?.close();
    await store.close();
    await tracing?.close();
    throw error;
  }
}

/** Says once what other machines can do that reach the doors. Something in front may keep them off, so it starts all the same. */
function warnOfOpenDoors({ config, process, logger }: Pick<ServerOptions, "config" | "process" | "logger">): void {
  const { jwt, tls } = config;
  const addresses = [config.grpcAddress, config.httpAddress].filter(({ host }) => !isLoopback(host)).map(formatAddress);
  if (addresses.length === 0 || (process?.number ?? 1) > 1) return;
  if (jwt === undefined && tls?.clientCaFile === undefined) {
    logger.warn(
      { addresses },
      "HOLDFAST_INSECURE=1: whoever reaches these addresses may do everything in every shop; to ask who calls, set HOLDFAST_JWT_* or HOLDFAST_TLS_CLIENT_CA",
    );
  } else if (jwt !== undefined && tls === undefined) {
    logger.warn(
      { addresses },
      "tokens come in unencrypted on addresses that other machines reach: set HOLDFAST_TLS_CERT",
    );
  }
}

/** PostgreSQL connections that a server with these settings takes at most: its store's, and the payment worker's. */
export function countConnections({ postgresPoolCount }: Pick<Config, "postgresPoolCount">): number {
  return postgresPoolCount + ownConnectionCount + 1;
}

/**
 * Does once what servers that start together would all do: checks the stores, brings the schema up to date, makes the default
 * shop and seeds. Throws a StartError when PostgreSQL does not take `connectionCount` connections.
 */
export async function prepareStores(options: Omit<ServerOptions, "clock">, connectionCount: number): Promise<void> {
  const store = await openStore({ ...options.config, ...options });
  try {
    await checkConnectionCount(store.db, connectionCount);
    await fill(store, options);
  } finally {
    await store.close();
  }
}

async function fill({ db, shops }: Store, { seedFile, logger }: Pick<ServerOptions, "seedFile" | "logger">) {
  await around("start: make default shop", () => ensureDefaultShop(db));
  if (seedFile !== undefined) {
    await around("start: seed", () => seed(shops, seedFile, logger));
  }
}

/** What looks after the shops while nobody calls. */
function startWatching({ config, logger }: ServerOptions, { shops, db }: Store, { registry, verify }: Metrics) {
  const endLooks = createPostgresGauges({ registry, db, logger });
  const { verifyMs: periodMs, verifyMaxCommits: maxCommits } = config;
  const verifier = startVerifier({ shops, periodMs, maxCommits, observer: verify, logger });
  return {
    stop: (): Promise<void> => {
      endLooks();
      return verifier.stop();
    },
  };
}

function startPayments(
  { config, databaseUrl, clock, logger }: ServerOptions,
  { shops }: Store,
  {
    gateway,
    metrics: { payments },
    tracing,
  }: Readonly<{
    gateway: PaymentGateway;
    metrics: Metrics;
    tracing: Tracing | undefined;
  }>,
): PaymentWorker {
  const onError = (error: Error): void => logger.debug({ err: error }, "the payment worker's connection failed");
  const { retryMs } = config.payments;
  return startPaymentWorker({
    gateway,
    onAsked: (...asked) => {
      payments.asked(...asked);
      tracing?.asked(...asked);
    },
    isTraced: tracing !== undefined,
    shops,
    connection: openFlushConnection({ url: databaseUrl, onError }),
    logger,
    retryMs,
    ...(clock === undefined ? {} : { now: clock }),
  });
}

/** Stripe's package is loaded where Stripe is asked, and only there: it is a fifth of what a server loads. */
async function openGateway(
  { gateway, simulated, ...times }: PaymentConfig,
  { breakerChanged }: PaymentObserver,
): Promise<PaymentGateway> {
  const { attemptTimeoutMs } = times;
  const createAsked = async (): Promise<PaymentGateway> => {
    if (gateway.kind === "simulated") return createSimulatedGateway(simulated);
    const { createStripeGateway } = await import("./payments/stripe-gateway.ts");
    return createStripeGateway({ ...gateway, attemptTimeoutMs });
  };
  const asked = await createAsked();
  return withRetries(asked, { ...defaultGatewayTimes, ...times }, breakerChanged);
}

/** Undefined: the settings ask callers for nothing. */
async function openAuthenticator(
  { jwt }: Config,
  tls: TlsFiles | undefined,
  logger: Logger,
): Promise<Authenticate | undefined> {
  if (jwt === undefined && tls?.asksClients !== true) {
    return undefined;
  }
  return createAuthenticator({
    verifyToken: jwt === undefined ? undefined : await openTokenVerifier(jwt, logger),
    readCertificate: tls?.asksClients === true ? createCertificateReader(() => tls.current.clients) : undefined,
  });
}

async function openDoors(
  { config, process, logger }: ServerOptions,
  { shops, db }: Store,
  {
    metrics,
    rates,
    tracing,
  }: Readonly<{ metrics: Metrics; rates: RateLimits | undefined; tracing: Tracing | undefined }>,
) {
  const answerBytes = config.doorLimits.responseBytes;
  const deps = {
    shops,
    pages: createPages(await createPageTokens(db), answerBytes),
    watchesPerCaller: config.doorLimits.watchesPerCaller,
    quoteTokens: await createQuoteTokens(db),
    holdMs: config.holdMs,
    answerBytes,
  };
  const tls = config.tls === undefined ? undefined : await openTlsFiles(config.tls, logger);
  const authenticate = await openAuthenticator(config, tls, logger);
  const dispatcher = createDispatcher({
    authenticate,
    services: [
      bindService(InventoryService, createInventoryService(deps)),
      bindService(OrderService, createOrderService(deps)),
      bindService(UserService, createUserService(deps)),
      bindService(SubscriptionService, createSubscriptionService(deps)),
      bindService(EventService, createEventService(deps)),
      bindService(AdminService, createAdminService(deps)),
    ],
    interceptors: createInterceptors({
      permission: authenticate === undefined ? undefined : { holdMs: config.holdMs },
      requireRequestId: config.isRequestIdRequired,
      rates,
    }),
    explain: explainOutage,
    limits: config.doorLimits,
    within: tracing?.within,
    observe: [
      // First: what comes after it finds the trace of the call.
      ...(tracing === undefined ? [] : [() => tracing.calls]),
      metrics.observeCalls,
      () => createCallLog(logger),
    ],
    logger,
  });
  let isServing = false;
  const readiness = (): Readiness => {
    const away = shops.awayStore();
    return isServing && (away === undefined || `${away} is away`);
  };
  const grpc = createGrpcDoor({
    address: config.grpcAddress,
    dispatcher,
    tls,
    reflection: config.hasReflection,
    limits: config.doorLimits,
    logger,
  });
  const answerMetrics = createMetricsPage({ render: process?.gatherMetrics ?? metrics.render, logger });
  const { metricsAddress } = config;
  const metricsDoor =
    metricsAddress === undefined
      ? undefined
      : createMetricsDoor({ address: metricsAddress, answerMetrics, isReady: readiness });
  const http = createHttpDoor({
    address: config.httpAddress,
    dispatcher,
    tls,
    corsOrigins: config.corsOrigins,
    isReady: readiness,
    limits: config.doorLimits,
    answerMetrics: metricsDoor === undefined ? answerMetrics : undefined,
    logger,
  });
  const doors = [grpc, http, ...(metricsDoor === undefined ? [] : [metricsDoor])];
  const [grpcPort, httpPort, metricsPort] = (await listenAll(doors)) as [number, number, number?];
  isServing = true;
  const tellHealth = (): void => grpc.setServing(readiness() === true);
  shops.onStoreChange(tellHealth);
  tellHealth();
  return {
    grpcPort,
    httpPort,
    metricsPort,
    drain: async () => {
      isServing = false;
      grpc.setServing(false);
      http.leave();
      await sleep(config.drainDelayMs);
      dispatcher.beginDrain();
      tls?.close();
      await Promise.all(doors.map((door) => door.drain(drainMs)));
    },
  };
}

/** Opens all or none; gives their ports. */
async function listenAll(doors: readonly Door[]): Promise<number[]> {
  const ports: number[] = [];
  for (const [index, door] of doors.entries()) {
    ports.push(
      await door.listen().catch(async (error: unknown) => {
        await Promise.all(doors.slice(0, index).map((open) => open.drain(0)));
        throw error;
      }),
    );
  }
  return ports;
}
