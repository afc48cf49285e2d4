import { parseArgs } from "node:util";
import { startStores } from "../../bench/stores.ts";
import type { AbuseOptions, Findings } from "./run.ts";
import { runAbuse } from "./run.ts";

const usage = `usage: npm run abuse [-- --tls] [--seed S] [--share 1]

Attacks both doors of a server of its own while somebody buys: rapid resets, slow connections, readers that never read, random
and mutated requests. --tls: over TLS, where the other door speaks HTTP/2 too. --share makes all of it smaller or larger.
`;

/** Undefined for `--help`, and for options that do not exist. */
function parseOptions() {
  const options = {
    tls: { type: "boolean", default: false },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    share: { type: "string", default: "1" },
    help: { type: "boolean" },
  } as const;
  try {
    const { tls, seed, share, help } = parseArgs({ options }).values;
    const wanted = { isTls: tls, seed: Number(seed), share: Number(share) };
    return help === true || !Number.isSafeInteger(wanted.seed) || !(wanted.share > 0) ? undefined : wanted;
  } catch {
    return undefined;
  }
}

function say(text: string): void {
  process.stderr.write(`abuse: ${text}\n`);
}

const mostMegabytes = 100;
const mostTimesQuiet = 2;

interface Row {
  readonly what: string;
  readonly wanted: string;
  readonly reached: string;
  readonly isMet: boolean;
}

/** What was wanted, and what was reached. */
function judge({ quietP99Ms, phases, before, after, exitCode, faults }: Findings): Row[] {
  const grownMegabytes = (after.residentBytes - before.residentBytes) / 1e6;
  const wrongs = phases.flatMap(({ wrong, failures }) => [...wrong, ...failures]);
  for (const text of [...faults, ...new Set(wrongs)].slice(0, 40)) say(text);
  const most = quietP99Ms * mostTimesQuiet;
  return [
    row("the server's end", "none", exitCode === undefined ? "none" : `exit code ${exitCode}`, exitCode === undefined),
    row("errors in its log", "0", String(faults.length), faults.length === 0),
    row("wrong answers, failures of the good caller", "0", String(wrongs.length), wrongs.length === 0),
    row("memory, MB more", `<= ${mostMegabytes}`, grownMegabytes.toFixed(0), grownMegabytes <= mostMegabytes),
    row(
      "connections left",
      `<= ${before.socketCount}`,
      String(after.socketCount),
      after.socketCount <= before.socketCount,
    ),
    ...phases.map(({ name, p99Ms }) =>
      row(`good caller's p99, ms: ${name}`, `<= ${most.toFixed(1)}`, p99Ms.toFixed(1), p99Ms <= most),
    ),
  ];
}

function row(what: string, wanted: string, reached: string, isMet: boolean): Row {
  return { what, wanted, reached, isMet };
}

function table(rows: readonly Row[]): string {
  const line = ({ what, wanted, reached, isMet }: Row): string =>
    `${what.padEnd(46)}${wanted.padStart(12)}${reached.padStart(12)}${isMet ? "" : "  MISSED"}`;
  return rows.map(line).join("\n");
}

/** Per second so much that a machine with two cores still has some left for its stores and the good caller. */
function volumesOf(share: number): AbuseOptions["volumes"] {
  return {
    resetRapidly: { count: Math.round(5000 * share), perSecond: 500 },
    connectSlowly: { count: Math.round(1000 * share), perSecond: 50 },
    neverRead: { count: Math.round(1000 * share), perSecond: 50 },
    sendMutated: { count: Math.round(100_000 * share), perSecond: 500 },
  };
}

async function main(): Promise<number> {
  const options = parseOptions();
  if (options === undefined) {
    process.stdout.write(usage);
    return process.argv.includes("--help") ? 0 : 1;
  }
  const { seed, isTls, share } = options;
  const cleanUp = new AsyncDisposableStack();
  say(`seed ${seed}${isTls ? ", over TLS" : ""}`);
  try {
    const urls = await startStores(cleanUp);
    const volumes = volumesOf(share);
    const findings = await runAbuse({ urls, seed, isTls, volumes, quietMs: 20_000, commitCount: 5000, say });
    const rows = judge(findings);
    process.stdout.write(`${table(rows)}\n`);
    return rows.every(({ isMet }) => isMet) ? 0 : 1;
  } finally {
    await cleanUp.disposeAsync();
  }
}

process.exitCode = await main();
