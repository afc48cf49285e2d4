import { execFile } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { summariseLatencies } from "../src/demo/latencies.ts";
import { lengthPrefixed } from "./frames.ts";
import type { Load, LoadResult } from "./load.ts";
import { workloads } from "./workloads.ts";

const run = promisify(execFile);

/** The version of h2load; undefined when it is not installed. */
export async function findH2load(): Promise<string | undefined> {
  const found = await run("h2load", ["--version"]).catch(() => undefined);
  return found?.stdout.trim();
}

/** Makes load with h2load, which sends the same bytes every time: for a workload of one call and one request. */
export async function loadWithH2load(load: Load): Promise<LoadResult> {
  const [[request, ...others] = [], ...laterSteps] = workloads[load.workload].steps();
  if (request === undefined || others.length + laterSteps.length > 0 || request.ids.length > 0) {
    throw new Error(`h2load cannot make the calls of the workload ${load.workload}`);
  }
  const { folder, connectionCount, perSecond } = load;
  const bodyFile = join(folder, "h2load.body");
  const logFile = join(folder, "h2load.log");
  await writeFile(bodyFile, lengthPrefixed(request.message));
  await rm(logFile, { force: true });
  await run("h2load", [
    `--clients=${connectionCount}`,
    `--max-concurrent-streams=${load.inFlightCount}`,
    `--duration=${load.durationMs}ms`,
    // Counts for each connection.
    ...(perSecond === undefined ? [] : [`--rps=${(perSecond / connectionCount).toFixed(3)}`]),
    `--data=${bodyFile}`,
    "--header=content-type: application/grpc",
    "--header=te: trailers",
    `--log-file=${logFile}`,
    `http://127.0.0.1:${load.port}${request.path}`,
  ]);
  return summarise(await readFile(logFile, "latin1"), load.durationMs);
}

/** Each line of the log: start in microseconds since the epoch, HTTP status, microseconds until the end of the answer. */
function summarise(log: string, durationMs: number): LoadResult {
  const calls = log
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("\t").map(Number) as [number, number, number]);
  const answered = calls.filter(([, status]) => status === 200);
  const startUs = answered.reduce((least, [start]) => Math.min(least, start), Number.POSITIVE_INFINITY);
  const endUs = answered.reduce((most, [start, , tookUs]) => Math.max(most, start + tookUs), 0);
  const { p50Ms, p99Ms, p999Ms } = summariseLatencies(answered.map(([, , tookUs]) => tookUs / 1000));
  return {
    doneCount: answered.length,
    refusedCount: 0,
    busyCount: 0,
    failedCount: calls.length - answered.length,
    elapsedMs: answered.length === 0 ? durationMs : (endUs - startUs) / 1000,
    p50Ms,
    p99Ms,
    p999Ms,
  };
}
