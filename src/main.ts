import { parseArgs } from "node:util";
import { ConnectError, type Transport } from "@connectrpc/connect";
import { type Config, ConfigError, loadConfig, withProcesses } from "./config.ts";
import { startEmbeddedPostgres } from "./dev/embedded-postgres.ts";
import { DataFolderInUse } from "./dev/lock-data-folder.ts";
import { startPrivateRedis } from "./dev/private-redis.ts";
import { createLogger } from "./logger.ts";
import { explainMissingRight } from "./missing-right.ts";
import { runRebuild } from "./rebuild-command.ts";
import { StartError } from "./start-error.ts";
import { onStopSignal } from "./stop-signal.ts";
import { checkToken, explainTarget, openTarget, targetOf } from "./target.ts";
import { runVerify } from "./verify-command.ts";
import { runWatch } from "./watch-command.ts";

const usage = `usage: holdfast <command>

  serve         serve until SIGTERM or SIGINT (npm start): [--processes 1], which share the two ports
  migrate       bring the database's schema up to date
  seed FILE     put and stock the products of a JSON file that do not exist yet
  demo          run a flash sale: [--buyers 500] [--stock 100] [--target host:port]
  verify        compare both stores with what a shop's event log says: [--target host:port] [--shop default]; exit code 1 when
                they differ, 2 when they were not compared
  rebuild       load a shop's live state anew: [--target host:port] [--shop default]; a fenced shop gets back to work with
                --discard-unrecorded or --accept-loss (docs/fences.md)
  watch         print the events of a shop as they become durable: [--target host:port] [--shop default] [--after 0]

verify, rebuild and watch call over TLS with --tls, and say who they are with HOLDFAST_TOKEN (docs/security.md).

Settings are environment variables; README.md lists them.`;

const logger = createLogger();

/** Told while servers of our own start. */
function onProgress(message: string): void {
  process.stderr.write(`holdfast: ${message}\n`);
}

/** The stores of a command: those of the settings, or private ones that live as long as the command. */
async function openStores(config: Config) {
  const started: { stop(): Promise<void> }[] = [];
  const options = { dataDir: config.dataDir, onProgress, onExit: (message: string) => fail(new StartError(message)) };
  const keep = async <Server extends { stop(): Promise<void> }>(starting: Promise<Server>): Promise<Server> => {
    const server = await starting;
    started.push(server);
    return server;
  };
  const [redis, postgres] = await Promise.allSettled([
    config.redisUrls.length === 0 ? keep(startPrivateRedis(options)) : { url: config.redisUrls.join(",") },
    config.databaseUrl === undefined ? keep(startEmbeddedPostgres(options)) : { url: config.databaseUrl },
  ]);
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((server) => server.stop()));
  };
  for (const result of [redis, postgres]) {
    if (result.status === "rejected") {
      await stop();
      throw result.reason;
    }
  }
  return {
    redisUrl: (redis as PromiseFulfilledResult<{ url: string }>).value.url,
    databaseUrl: (postgres as PromiseFulfilledResult<{ url: string }>).value.url,
    stop,
  };
}

async function serve(config: Config): Promise<void> {
  const seedFile =
    config.seedFile === undefined ? undefined : await (await import("./seed.ts")).readSeedFile(config.seedFile);
  const stores = await openStores(config);
  const options = { config, seedFile, ...stores, logger };
  const start = async () => {
    if (config.processCount === 1) return (await import("./serve.ts")).startServer(options);
    return (await import("./processes/start-processes.ts")).startProcesses({ ...options, onGone: fail });
  };
  const server = await start().catch(async (error) => {
    await stores.stop();
    throw error;
  });
  const grpc = `${config.grpcAddress.host}:${server.grpcPort}`;
  const http = `${config.tls === undefined ? "http" : "https"}://${config.httpAddress.host}:${server.httpPort}`;
  const processes = config.processCount;
  const stopping = new Promise<string>(onStopSignal); // before anybody can read that it serves
  logger.info({ grpc, http, processes }, `holdfast serves gRPC on ${grpc}, and Connect, gRPC-Web and JSON on ${http}`);
  logger.info({ signal: await stopping }, "holdfast stops");
  await server.stop();
  await stores.stop();
}

/** As `openStores`, for a command that is meant for the stores of the server that has them now: others would be of no use. */
async function openStoresOf(config: Config, way: string) {
  return openStores(config).catch((error: unknown) => {
    throw error instanceof DataFolderInUse ? new StartError(`${error.what}, whose stores are meant: ${way}`) : error;
  });
}

async function migrateOnce(config: Config): Promise<void> {
  const stores = await openStoresOf({ ...config, redisUrls: ["unused"] }, "stop it, and let its next start migrate");
  const { openDatabase } = await import("./postgres/connection.ts");
  const { migrate } = await import("./postgres/migrate.ts");
  const db = openDatabase({ url: stores.databaseUrl, size: 1, onError: () => {} });
  try {
    await migrate(db);
    logger.info("the schema is up to date");
  } finally {
    await db.destroy();
    await stores.stop();
  }
}

async function seedOnce(config: Config, files: readonly string[]): Promise<void> {
  const [file] = files;
  if (file === undefined || files.length > 1) {
    throw new StartError("seed needs one file: holdfast seed FILE");
  }
  const { readSeedFile, seed } = await import("./seed.ts");
  const seedFile = await readSeedFile(file);
  const way = `start it anew with HOLDFAST_SEED_FILE=${file}, or stop it for as long as this takes`;
  const stores = await openStoresOf(config, way);
  try {
    const { openStore } = await import("./store.ts");
    const { ensureDefaultShop } = await import("./shop/default-shop.ts");
    const store = await openStore({ ...config, ...stores, logger });
    await ensureDefaultShop(store.db);
    await seed(store.shops, seedFile, logger).finally(() => store.close());
  } finally {
    await stores.stop();
  }
}

/** What every command takes that calls a server. */
const targetArguments = { target: { type: "string" }, tls: { type: "boolean" }, shop: { type: "string" } } as const;

/** Calls the server at `--target`, or that of these settings, which say too whether it speaks TLS. */
async function callServer<T>(
  config: Config,
  values: { readonly target?: string | undefined; readonly tls?: boolean | undefined },
  call: (transport: Transport) => Promise<T>,
): Promise<T> {
  const target = targetOf(values.target, config);
  const tls = values.tls ?? (values.target === undefined && config.tls !== undefined);
  const options = { tls, token: config.token };
  if (values.target !== undefined) checkToken(target, options);
  try {
    return await call(openTarget(target, options));
  } catch (error) {
    throw explainTarget(error, target, tls);
  }
}

/** Each loads what it needs when it runs: a server's modules take as long as all that `verify` does. */
const commands: Readonly<Record<string, (config: Config, rest: string[]) => Promise<void>>> = {
  serve: (config, args) => {
    const { values } = parseArgs({ args, options: { processes: { type: "string" } } });
    return serve(withProcesses(config, values.processes));
  },
  migrate: (config, args) => {
    parseArgs({ args });
    return migrateOnce(config);
  },
  seed: (config, args) => seedOnce(config, parseArgs({ args, allowPositionals: true }).positionals),
  demo: async (config, args) => {
    const { values } = parseArgs({
      args,
      options: { buyers: { type: "string" }, stock: { type: "string" }, target: { type: "string" } },
    });
    const { runDemo } = await import("./demo/run-demo.ts");
    process.exitCode = await runDemo({ config, values, openStores: (dataDir) => openStores({ ...config, dataDir }) });
  },
  verify: async (config, args) => {
    const { values } = parseArgs({ args, options: targetArguments });
    process.exitCode = await callServer(config, values, (transport) => runVerify({ ...values, transport }));
  },
  rebuild: async (config, args) => {
    const { values } = parseArgs({
      args,
      options: {
        ...targetArguments,
        "discard-unrecorded": { type: "boolean" },
        "accept-loss": { type: "boolean" },
      },
    });
    await callServer(config, values, (transport) => runRebuild({ ...values, transport }));
  },
  watch: async (config, args) => {
    const { values } = parseArgs({ args, options: { ...targetArguments, after: { type: "string" } } });
    await callServer(config, values, (transport) => runWatch({ ...values, transport }));
  },
};

/** The one place where the process ends on an error: one line for what the operator can mend, the stack for our faults. */
function fail(thrown: unknown): never {
  const error = explainMissingRight(thrown);
  const isExpected =
    [StartError, ConfigError, ConnectError].some((kind) => error instanceof kind) || isUsageError(error);
  const text =
    error instanceof Error ? (isExpected || error.stack === undefined ? error.message : error.stack) : String(error);
  process.stderr.write(`holdfast: ${text}\n`);
  process.exit(failureCode);
}

function isUsageError(error: unknown): boolean {
  return String((error as { code?: unknown } | null)?.code).startsWith("ERR_PARSE_ARGS");
}

const [command = "", ...rest] = process.argv.slice(2);
/** Who runs `verify` at night has to tell a shop that is wrong from whatever kept it from being looked at. */
const failureCode = command === "verify" ? 2 : 1;
// Whoever reads has had enough, as `head` has: no fault. Anything else, such as a full disk, is told.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(failureCode);
  fail(new StartError(`the output cannot be written: ${error.message}`));
});
const run = Object.hasOwn(commands, command) ? commands[command] : undefined;
const isAsked = ["", "help", "--help"].includes(command) || rest.includes("--help");
if (run === undefined || isAsked) {
  process.stderr.write(`${isAsked ? "" : `holdfast: unknown command ${JSON.stringify(command)}\n\n`}${usage}\n`);
  process.exit(isAsked ? 0 : 1);
} else {
  try {
    await run(loadConfig(), rest);
  } catch (error) {
    fail(error);
  }
}
