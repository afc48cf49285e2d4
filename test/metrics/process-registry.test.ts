import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { baseEnvironment } from "../helpers/base-environment.ts";

/** Says how many observers there are with the modules loaded, and after each of two servers' metrics are made. */
const program = `
  import { PerformanceObserver } from "node:perf_hooks";
  const { observe } = PerformanceObserver.prototype;
  let count = 0;
  PerformanceObserver.prototype.observe = function (...args) {
    count += 1;
    return observe.apply(this, args);
  };
  const { createMetrics } = await import("./src/metrics/metrics.ts");
  const counts = [count];
  for (let server = 1; server <= 2; server += 1) {
    const page = await createMetrics().render();
    counts.push(count, page.includes("nodejs_gc_duration_seconds"));
  }
  process.stdout.write(JSON.stringify(counts));
`;

test("a process is watched from its first server on, once for all of them", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    env: baseEnvironment,
  });
  expect(JSON.parse(stdout)).toEqual([0, 1, true, 1, true]);
});
