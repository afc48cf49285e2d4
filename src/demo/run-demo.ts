import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createGrpcTransport, createHoldfastClient, type HoldfastClient } from "../client/index.ts";
import type { Config } from "../config.ts";
import { StartError } from "../start-error.ts";
import { onStopSignal } from "../stop-signal.ts";
import { agrees, auditApi, auditStores, type Check, type Witnesses } from "./audit.ts";
import { connectionCount, runSale, type SaleProgress, setUpSale } from "./flash-sale.ts";
import { startOwnServer } from "./own-server.ts";
import { type DemoValues, parsePlan, type SalePlan } from "./plan.ts";
import { type Output, showProgress } from "./progress-line.ts";
import { readApi } from "./read-api.ts";
import { readStores } from "./read-stores.ts";
import * as report from "./report.ts";
import { watchSale } from "./sale-watcher.ts";

/** The stores of a command. */
export interface DemoStores {
  readonly redisUrl: string;
  readonly databaseUrl: string;
  stop(): Promise<void>;
}

/** What the demo needs. */
export interface DemoOptions {
  readonly config: Config;
  readonly values: DemoValues;
  /** Opens the stores of the settings, or private ones in a data folder; not called when a target is given. */
  readonly openStores: (dataDir: string) => Promise<DemoStores>;
  /** Where the report goes. Default: standard output. */
  readonly output?: Output;
}

/** The demo was interrupted by a signal. */
const interruptedExitCode = 130;
const reachMs = 3000;
const watcherMs = 10_000;

/** Runs the flash sale; returns the exit code: 0, or 1 when anything disagrees, or 130 when interrupted. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const plan = parsePlan(options.values);
  const output = options.output ?? process.stdout;
  const interrupt = new AbortController();
  const leaveSignals = onStopSignal(() => interrupt.abort());
  const cleanUp = new AsyncDisposableStack();
  try {
    const place = await openPlace(options, plan, cleanUp);
    interrupt.signal.throwIfAborted();
    const checks = await holdSale({ plan, place, output, signal: interrupt.signal, cleanUp });
    return checks.every(agrees) ? 0 : 1;
  } catch (error) {
    if (interrupt.signal.aborted) {
      output.write("\ninterrupted\n");
      return interruptedExitCode;
    }
    throw error;
  } finally {
    await cleanUp.disposeAsync();
    leaveSignals();
  }
}

/** Where the sale takes place: a Holdfast, and its stores when they are ours to read. */
interface Place {
  readonly target: string;
  readonly stores: DemoStores | undefined;
}

async function openPlace(
  { config, openStores }: DemoOptions,
  plan: SalePlan,
  cleanUp: AsyncDisposableStack,
): Promise<Place> {
  if (plan.target !== undefined) {
    return { target: plan.target, stores: undefined };
  }
  const stores = await openStores(await makeDataFolder(cleanUp));
  cleanUp.defer(() => stores.stop());
  const { redisUrl, databaseUrl } = stores;
  const server = await startOwnServer({ config, redisUrl, databaseUrl });
  cleanUp.defer(() => server.stop());
  return { target: server.target, stores };
}

/** A demo leaves nothing behind, and does not ask whether a Holdfast is running. */
async function makeDataFolder(cleanUp: AsyncDisposableStack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-demo-"));
  // PostgreSQL does not run as root and has to reach its own, closed folder in here.
  await chmod(folder, 0o711);
  const removeAtExit = (): void => rmSync(folder, { recursive: true, force: true });
  process.once("exit", removeAtExit);
  cleanUp.defer(async () => {
    await rm(folder, { recursive: true, force: true });
    process.off("exit", removeAtExit);
  });
  return folder;
}

interface Sale {
  readonly plan: SalePlan;
  readonly place: Place;
  readonly output: Output;
  readonly signal: AbortSignal;
  readonly cleanUp: AsyncDisposableStack;
}

async function holdSale({ plan, place, output, signal, cleanUp }: Sale): Promise<Check[]> {
  const shopId = `demo-${randomBytes(6).toString("hex")}`;
  const progress = { readyCount: 0, answeredCount: 0, soldCount: 0, repeatedCount: 0 };
  const client = await connect(place.target, progress, signal, cleanUp);
  const sale = { plan, shopId, client, progress, signal };
  const startedMs = performance.now();
  output.write(report.heading(plan));

  const setUpLine = showProgress(output, () => report.setUpProgress(progress, plan));
  const afterPosition = await setUpSale(sale).finally(() => setUpLine.stop());
  output.write(report.setUpResult(plan, performance.now() - startedMs, `${shopId} on ${place.target}`));

  const watcher = watchSale({ client, shopId, afterPosition });
  cleanUp.defer(() => watcher.stop());
  const saleLine = showProgress(output, () => report.saleProgress(progress, plan, watcher.unitCount));
  const result = await runSale(sale).finally(() => saleLine.stop());
  output.write(report.line("sale", report.seconds(result.durationMs)));
  const lastPosition = result.orders.reduce((last, { position }) => Math.max(last, position), afterPosition);
  await watcher.hasSeen(lastPosition, watcherMs);

  const witnesses: Witnesses = { plan, result, watcher };
  output.write(report.results(witnesses));
  const { checks, source } = await audit(witnesses, place, client, shopId);
  output.write(report.audit(checks, source));
  output.write(report.verdict(checks));
  return checks;
}

/** A lost server is waited for until a call's 30 s are over, however often that makes it try. */
const maxAttempts = 1000;

async function connect(
  target: string,
  progress: SaleProgress,
  signal: AbortSignal,
  cleanUp: AsyncDisposableStack,
): Promise<HoldfastClient> {
  const transport = createGrpcTransport({ target, connectionCount, signal });
  cleanUp.defer(() => transport.close());
  await transport.waitForReady(reachMs).catch(() => {
    throw new StartError(`no Holdfast answers gRPC on ${target}: start one with npm start, or leave --target out`);
  });
  const onRepeat = (): void => {
    progress.repeatedCount += 1;
  };
  return createHoldfastClient({ transport, maxAttempts, onRepeat, signal });
}

async function audit(witnesses: Witnesses, { stores }: Place, client: HoldfastClient, shopId: string) {
  if (stores === undefined) {
    const checks = auditApi(witnesses, await readApi({ client, shopId }));
    return { checks, source: "through the API (GetStock, GetShop, ListEvents): the stores are not ours to read" };
  }
  const checks = auditStores(witnesses, await readStores({ ...stores, shopId }));
  return { checks, source: "read from PostgreSQL with SQL and from Redis with HMGET, HGET and HSCAN" };
}
