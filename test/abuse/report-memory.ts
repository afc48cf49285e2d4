// Loaded before the server that is attacked: it tells what the server takes up for every line on its standard input, and why it
// ended.
import { writeSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { givePagesBack, readMemoryUse } from "../../bench/memory-use.ts";

/** What a server takes up, as a line of JSON. */
export interface Usage {
  readonly residentBytes: number;
  readonly usedBytes: number;
  /** The longest time that nothing else could be done, since the line before, in milliseconds. */
  readonly longestBlockMs: number;
  /** Connections, those to the stores included. */
  readonly socketCount: number;
}

// Only why it ended: it ends as it would without being watched.
process.on("uncaughtExceptionMonitor", (error) => {
  writeSync(1, `${JSON.stringify({ level: 60, msg: error.stack })}\n`);
});
const delays = monitorEventLoopDelay({ resolution: 10 });
delays.enable();
createInterface({ input: process.stdin }).on("line", () => {
  const socketCount = process.getActiveResourcesInfo().filter((each) => each === "TCPSocketWrap").length;
  const longestBlockMs = Math.round(delays.max / 1e6);
  givePagesBack();
  const usage: Usage = { ...readMemoryUse(), socketCount, longestBlockMs };
  // Collecting all garbage is such a time too.
  setTimeout(() => delays.reset(), 100);
  process.stdout.write(`${JSON.stringify({ usage })}\n`);
});
