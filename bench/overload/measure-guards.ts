import { setTimeout as sleep } from "node:timers/promises";
import { inTurns, type Measured, type Rounds } from "../growth/in-turns.ts";
import { measureOrders, type OrderRates } from "../growth/measure-orders.ts";
import { openSmallShop } from "../growth/shops.ts";
import type { Testbed } from "../growth/testbed.ts";
import { hotSku } from "../sale.ts";
import { type Guarded, startGuarded } from "./start-guarded.ts";

/** What one of the two servers did in one round. */
export type GuardedRates = Measured<{ readonly isGuarded: boolean }, OrderRates>;

/** How often the metrics of the guarded server are read while it is under load, in milliseconds. */
const readMetricsMs = 1000;

/**
 * The same load, in turn on a server without guards and on one with all of them. Each has a shop of its own on the same
 * stores, which the other leaves alone as long as it is flushed.
 */
export async function measureGuards(
  plain: Testbed,
  rounds: Rounds,
  cleanUp: AsyncDisposableStack,
): Promise<GuardedRates[]> {
  const guarded = await startGuarded(plain, cleanUp);
  await openSmallShop(plain, "plain");
  await openSmallShop(guarded.bed, "guarded");
  const { durationMs, say } = rounds;
  const order = { skus: [hotSku], userIds: [], durationMs };
  const { authorization } = guarded;
  return inTurns([{ isGuarded: false }, { isGuarded: true }], rounds, async ({ isGuarded }) => {
    const rates = isGuarded
      ? await whileMetricsAreRead(guarded, () =>
          measureOrders(guarded.bed, { ...order, shopIds: ["guarded"], authorization }),
        )
      : await measureOrders(plain, { ...order, shopIds: ["plain"] });
    say(`${isGuarded ? "with" : "without"} guards: ${rates.perSecond.toFixed(0)}/s`);
    return rates;
  });
}

async function whileMetricsAreRead<Value>({ readMetrics }: Guarded, work: () => Promise<Value>): Promise<Value> {
  const ended = new AbortController();
  const { signal } = ended;
  const read = async (): Promise<void> => {
    while (!signal.aborted) {
      await readMetrics();
      await sleep(readMetricsMs, undefined, { signal }).catch(() => {}); // only the end wakes it
    }
  };
  const [value] = await Promise.all([work().finally(() => ended.abort()), read()]);
  return value;
}
