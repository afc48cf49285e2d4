import { setTimeout as sleep } from "node:timers/promises";

/** Waits until a condition holds; throws what was waited for when it does not within `timeoutMs` (default 10 s). */
export async function until(
  what: string,
  condition: () => Promise<boolean> | boolean,
  timeoutMs = 10_000,
): Promise<void> {
  const endsAt = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > endsAt) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await sleep(20);
  }
}
