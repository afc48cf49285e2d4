import { setTimeout as pause } from "node:timers/promises";

/** Asks until it is so; fails, saying what was waited for, when it takes longer than `timeoutMs`. */
export async function until(what: string, isSo: () => Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  const endsAt = performance.now() + timeoutMs;
  while (!(await isSo().catch(() => false))) {
    if (performance.now() > endsAt) throw new Error(`after ${timeoutMs} ms still not so: ${what}`);
    await pause(20);
  }
}
