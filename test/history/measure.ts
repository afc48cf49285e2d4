import { checkHistory } from "./check-history.ts";
import { randomHistory } from "./random-history.ts";

/** Prints how long the check of 25,000, 50,000 and 100,000 calls takes: it is to grow as they do. */
for (const callCount of [25_000, 50_000, 100_000]) {
  const history = randomHistory(1, callCount);
  const startedMs = performance.now();
  const violations = checkHistory(history);
  const tookMs = Math.round(performance.now() - startedMs);
  process.stdout.write(
    `${history.calls.length} calls, ${history.commits.length} commits: ${tookMs} ms, ${violations.length} violations\n`,
  );
  for (const { kind, text } of violations.slice(0, 3)) process.stdout.write(`  ${kind}: ${text}\n`);
}
