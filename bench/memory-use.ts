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
  exposeCollector()({ type: "major" });
  const { heapUsed, external, rss } = process.memoryUsage();
  return { usedBytes: heapUsed + external, residentBytes: rss };
}

/**
 * Has V8 collect as it does when it runs out of memory, which takes several times as long. Otherwise it keeps the pages that have become
 * free, 400 MB after a thousand watchers, until little was allocated for 8 seconds.
 */
export function givePagesBack(): void {
  exposeCollector()({ type: "major", flavor: "last-resort" });
}

type Collect = (options: { readonly type: "major"; readonly flavor?: "last-resort" }) => void;

function exposeCollector(): Collect {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as Collect;
}
