import { describeMachine } from "../describe-machine.ts";
import { growHistory } from "./history.ts";
import type { Rounds } from "./in-turns.ts";
import type { GrowthPlan } from "./options.ts";
import { growProcesses } from "./processes.ts";
import type { GrowthReport, PartName } from "./report.ts";
import { growShops } from "./shops.ts";
import { growSize } from "./size.ts";
import type { Testbed } from "./testbed.ts";
import { growWatchers } from "./watchers.ts";

/** What makes each thing larger. */
const parts: { [Name in PartName]: (...given: PartArguments) => Promise<GrowthReport[Name]> } = {
  shops: growShops,
  history: growHistory,
  size: growSize,
  watchers: growWatchers,
  processes: growProcesses,
};

type PartArguments = [testbed: Testbed, sizes: readonly number[], rounds: Rounds];

/** Measures the parts of a plan one after the other, each on a testbed that `open` gives it and ends by its `cleanUp`. */
export async function runGrowth(
  open: (cleanUp: AsyncDisposableStack) => Promise<Testbed>,
  plan: GrowthPlan,
  progress: Pick<Rounds, "signal" | "say">,
): Promise<GrowthReport> {
  const { roundCount, durationMs } = plan;
  const time = new Date().toISOString();
  let machine = "";
  const found: Partial<Record<PartName, unknown>> = {};
  for (const name of plan.parts) {
    progress.signal.throwIfAborted();
    progress.say(`${name}: starting the stores and the server`);
    await using cleanUp = new AsyncDisposableStack();
    const testbed = await open(cleanUp);
    machine = await describeMachine(testbed.database, testbed.redisUrl);
    found[name] = await parts[name](testbed, plan.sizes[name], { ...progress, roundCount, durationMs });
  }
  return { time, machine, roundCount, durationMs, ...(found as Partial<GrowthReport>) };
}
