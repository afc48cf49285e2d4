import { describeMachine } from "../describe-machine.ts";
import type { Rounds } from "./in-turns.ts";
import type { GrowthPlan } from "./options.ts";
import type { GrowthReport, PartName } from "./report.ts";
import { growShops } from "./shops.ts";
import type { Testbed } from "./testbed.ts";

/** Each part with the testbed that it is given; what it makes there is its own. */
const parts: { [Name in PartName]: (...given: PartArguments) => Promise<GrowthReport[Name]> } = {
  shops: growShops,
};

type PartArguments = [testbed: Testbed, sizes: readonly number[], rounds: Rounds];

/** Measures the parts of a plan one after the other. */
export async function runGrowth(
  testbed: Testbed,
  plan: GrowthPlan,
  progress: Pick<Rounds, "signal" | "say">,
): Promise<GrowthReport> {
  const { roundCount, durationMs } = plan;
  const time = new Date().toISOString();
  const found: Partial<Record<PartName, unknown>> = {};
  for (const name of plan.parts) {
    found[name] = await parts[name](testbed, plan.sizes[name], { ...progress, roundCount, durationMs });
  }
  const machine = await describeMachine(testbed.database, testbed.redisUrl);
  return { time, machine, roundCount, durationMs, ...(found as Partial<GrowthReport>) };
}
