import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Memory of this process, after everything that nobody needs was let go. */
export interface MemoryUse {
  /** Objects and buffers of JavaScript. */
  readonly usedBytes: number;
  /** Everything, in main memory. */
  readonly residentBytes: number;
}

/**
 * Collects garbage and measures; takes up to a second. By the collection that V8 makes when it runs out of memory: others keep the pages
 * that have become free, 400 MB after a thousand watchers, until little was allocated for 8 seconds.
 */
export function readMemoryUse(): MemoryUse {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as (options: {
    readonly type: "major";
    readonly flavor: "last-resort";
  }) => void;
  collect({ type: "major", flavor: "last-resort" });
  const { heapUsed, external, rss } = process.memoryUsage();
  return { usedBytes: heapUsed + external, residentBytes: rss };
}
