import { setTimeout as sleep } from "node:timers/promises";
import { startChild } from "../../bench/child.ts";
import { quantile } from "../../src/demo/latencies.ts";
import { createAuthority } from "../helpers/authority.ts";
import { type HoldfastProcess, spawnHoldfast } from "../helpers/holdfast.ts";
import type { AttackName, AttackRequest } from "./attacker.ts";
import { openGoodCaller } from "./good-caller.ts";
import type { Usage } from "./report-memory.ts";
import type { AttackResult, Target } from "./target.ts";

/** How much is done to the doors. */
export interface AbuseOptions {
  readonly urls: { readonly redisUrl: string; readonly databaseUrl: string };
  readonly seed: number;
  /** With TLS the other door speaks HTTP/2 too. */
  readonly isTls: boolean;
  /** Attacks that are left out are not made. */
  readonly volumes: Readonly<Partial<Record<AttackName, Volume>>>;
  /** How long the good caller is measured undisturbed, in milliseconds. */
  readonly quietMs: number;
  /** Commits that those who never read could read. */
  readonly commitCount: number;
  /** Told of every phase when it is over. */
  readonly say: (text: string) => void;
}

interface Volume {
  readonly count: number;
  readonly perSecond: number;
}

/** What the good caller saw during one attack, and what came of it. */
export interface Phase extends AttackResult {
  readonly name: AttackName;
  readonly seconds: number;
  readonly p99Ms: number;
  readonly callCount: number;
  readonly failures: readonly string[];
}

/** What the doors did under all attacks. */
export interface Findings {
  readonly quietP99Ms: number;
  readonly phases: readonly Phase[];
  readonly before: Usage;
  readonly after: Usage;
  /** Set when the server ended by itself. */
  readonly exitCode: number | undefined;
  /** Lines of its log of level error and above. */
  readonly faults: readonly string[];
}

/** Shorter than usual, so that a run sees each limit hold. Their sizes and counts are the defaults. */
const settings = {
  HOLDFAST_MAX_HANDSHAKE_SECONDS: "4",
  HOLDFAST_MAX_ARRIVAL_SECONDS: "8",
  HOLDFAST_MAX_UNREAD_SECONDS: "4",
  HOLDFAST_MAX_IDLE_SECONDS: "8",
  HOLDFAST_PING_SECONDS: "5",
  HOLDFAST_PING_TIMEOUT_SECONDS: "10",
};
const preload = new URL("report-memory.ts", import.meta.url).pathname;
const errorLevel = 50;
const goodPerSecond = 80;
/** Within which what a connection took up is let go, in milliseconds: its time limits above, and then some. */
const calmMs = 20_000;
const lookMs = 500;
const usagePatienceMs = 20_000;
const keptFaultCount = 20;

/** Attacks a server of its own in every way, one after the other, while somebody buys. */
export async function runAbuse(options: AbuseOptions): Promise<Findings> {
  const cleanUp = new AsyncDisposableStack();
  try {
    return await attackAll(options, cleanUp);
  } finally {
    await cleanUp.disposeAsync();
  }
}

async function attackAll(options: AbuseOptions, cleanUp: AsyncDisposableStack): Promise<Findings> {
  const { seed, volumes, say } = options;
  const { server, target, faults, readUsage } = await startServer(options, cleanUp);
  let exitCode: number | undefined;
  const ended = server.ended.then((code) => {
    exitCode = code ?? -1;
  });
  const good = await openGoodCaller(target);
  await good.fill(options.commitCount);
  // What a server has compiled and cached after its first calls is no leak.
  await await measure(good.call(goodPerSecond), sleep(options.quietMs / 2));
  const quiet = await measure(good.call(goodPerSecond), sleep(options.quietMs));
  const quietP99Ms = p99(quiet.latenciesMs);
  say(`quiet: p99 ${quietP99Ms.toFixed(1)} ms of ${quiet.latenciesMs.length} calls`);
  const before = await readUsage();
  const attacker = startChild("../test/abuse/attacker.ts", cleanUp);
  const phases: Phase[] = [];
  for (const [name, { count, perSecond }] of Object.entries(volumes) as [AttackName, Volume][]) {
    const beganMs = performance.now();
    const stop = good.call(goodPerSecond);
    const request: AttackRequest = { name, target, count, perSecond, seed: seed + phases.length };
    const result = await Promise.race([attacker.ask<AttackResult>(request), ended]);
    const { latenciesMs, failures } = await stop();
    const seconds = (performance.now() - beganMs) / 1000;
    const { longestBlockMs } = exitCode === undefined ? await readUsage() : { longestBlockMs: 0 };
    const callCount = latenciesMs.length + failures.length;
    phases.push({ counts: {}, wrong: [], ...result, name, seconds, p99Ms: p99(latenciesMs), callCount, failures });
    const times = `in ${seconds.toFixed(1)} s, p99 ${p99(latenciesMs).toFixed(1)} ms, longest block ${longestBlockMs} ms`;
    say(`${name}: ${count} ${times}, ${JSON.stringify(result?.counts)}`);
    if (exitCode !== undefined) break;
  }
  const untilMs = performance.now() + calmMs;
  let after = before;
  while (exitCode === undefined) {
    after = await readUsage();
    if (after.socketCount <= before.socketCount || performance.now() > untilMs) break;
    await sleep(lookMs);
  }
  return { quietP99Ms, phases, before, after, exitCode, faults: faults.slice(0, keptFaultCount) };
}

async function measure<T>(stop: () => Promise<T>, time: Promise<void>): Promise<T> {
  await time;
  return stop();
}

function p99(latenciesMs: readonly number[]): number {
  return quantile(Float64Array.from(latenciesMs).sort(), 0.99);
}

async function startServer({ urls, isTls }: AbuseOptions, cleanUp: AsyncDisposableStack) {
  const faults: string[] = [];
  let takeUsage: (usage: Usage) => void = () => undefined;
  const onLine = (text: string): void => {
    const line = JSON.parse(text) as { readonly level?: number; readonly usage?: Usage };
    if (line.usage !== undefined) takeUsage(line.usage);
    if ((line.level ?? 0) >= errorLevel) faults.push(text);
  };
  const { tls, ca } = isTls ? issueCertificate(cleanUp) : { tls: {}, ca: undefined };
  const server: HoldfastProcess = await spawnHoldfast({
    ...urls,
    settings: { ...settings, ...tls },
    onLine,
    preloads: [preload],
  });
  cleanUp.defer(() => server.kill());
  const target: Target = { grpcPort: portOf(server.grpcAddress), httpPort: portOf(server.httpUrl), ca };
  const readUsage = async (): Promise<Usage> => {
    const { promise, resolve, reject } = Promise.withResolvers<Usage>();
    takeUsage = resolve;
    const timer = setTimeout(() => reject(new Error("the server does not answer")), usagePatienceMs);
    server.tell("usage");
    return promise.finally(() => clearTimeout(timer));
  };
  return { server, target, faults, readUsage };
}

function issueCertificate(cleanUp: AsyncDisposableStack) {
  const authority = createAuthority();
  cleanUp.defer(() => authority.remove());
  const { certFile, keyFile } = authority.issue("server", "DNS:localhost,IP:127.0.0.1");
  return { tls: { HOLDFAST_TLS_CERT: certFile, HOLDFAST_TLS_KEY: keyFile }, ca: authority.ca.toString() };
}

function portOf(address: string): number {
  return Number(/:(\d+)$/.exec(address)?.[1]);
}
