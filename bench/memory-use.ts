import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Memory of this process, after everything that nobody needs was let go. */
export interface MemoryUse {
  /** Objects and buffers of JavaScript. */
  readonly usedBytes: number;
  /** Everything, in main memory. */
  readonly residentBytes: number;
}

/** Collects garbage and measures; takes up to a second. */
export function readMemoryUse(): MemoryUse {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { usedBytes: heapUsed + external, residentBytes: rss };
}
