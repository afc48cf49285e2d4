import { type CrashPoint, type CrashStep, crashSteps } from "../../src/crash-point.ts";
import { createDice } from "./dice.ts";
import { reaches, scenarios } from "./scenarios.ts";
import type { Trap } from "./set-trap.ts";
import type { Plan } from "./sweep.ts";

/** A plan with its name, which repeats it. */
export interface NamedPlan {
  readonly name: string;
  /** Undefined: the trap is one of a first start, on new stores. */
  readonly plan: Plan | undefined;
  readonly trap: Trap;
}

/** How Redis loses a shop, all of it or its tail: two crashes in a row say most in the opening that follows. */
const losses = ["emptied", "lostTail"] as const;

/** All plans of a sweep; the seed chooses at which pass of a point the trap is, and what callers do. */
export function plansOf(seed: number): readonly NamedPlan[] {
  const points = crashSteps.flatMap((step) => [`before ${step}`, `after ${step}`] as const);
  return [
    ...points.flatMap((point, index) => single(point, seed + index, "SIGKILL")),
    ...points.flatMap((point, index) => single(point, seed + index + 1000, "SIGSTOP")),
    ...doubles(seed),
  ];
}

function single(point: CrashPoint, seed: number, signal: Trap["signal"]): NamedPlan[] {
  const { scenario: usual, hits } = reaches[stepOf(point)];
  const dice = createDice(seed);
  const isLoad = point.endsWith("rebuild: load");
  // Every step of a rebuild loads something else.
  const chosen = isLoad && signal === "SIGKILL" ? range(hits) : [dice.between(1, hits)];
  const verb = signal === "SIGKILL" ? "kill" : "pause";
  return chosen.flatMap((hit): NamedPlan[] => {
    const trap = { point, hit, signal };
    // With the log, and without it.
    const scenario = isLoad && hit % 2 === 0 ? "forced" : usual;
    const name = `${verb} ${point} #${hit}`;
    if (scenario === "firstStart") return signal === "SIGKILL" ? [{ name, plan: undefined, trap }] : [];
    return [{ name, plan: { traps: [trap], scenario: scenarios[scenario], seed }, trap }];
  });
}

/** Two crashes in a row: each point of an opening after a loss is the first once and the second once, with partners by the seed. */
function doubles(seed: number): NamedPlan[] {
  return losses.flatMap((loss) => {
    const steps = crashSteps.filter((step) => /^(open|rebuild): /.test(step) && reaches[step].scenario === loss);
    const points = steps.flatMap((step) => [`before ${step}`, `after ${step}`] as const);
    const shift = createDice(seed).between(1, points.length - 1);
    return points.map((point, index) => {
      const second = points[(index + shift) % points.length] as CrashPoint;
      const trap = { point, hit: 1, signal: "SIGKILL" } as const;
      const traps = [trap, { ...trap, point: second }];
      const plan = { traps, scenario: scenarios[loss], seed: seed + index };
      return { name: `kill ${point} #1, then ${second} #1`, plan, trap };
    });
  });
}

function stepOf(point: CrashPoint): CrashStep {
  return point.replace(/^(before|after) /, "") as CrashStep;
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}
