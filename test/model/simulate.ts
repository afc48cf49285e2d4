import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { type Step, stepArbitrary } from "./commands.ts";
import { type Coverage, uncovered } from "./coverage.ts";
import { Disagreement } from "./failure.ts";
import { Run } from "./run.ts";
import type { Subject } from "./session.ts";

/** The settings of a Holdfast that a model is run against: it lets go of request ids early, and declines some charges. */
export const subjectSettings: Readonly<Record<string, string>> = {
  HOLDFAST_REQUEST_MEMORY_COUNT: "40",
  HOLDFAST_SIMULATED_LATENCY_MS: "5",
  HOLDFAST_SIMULATED_DECLINE_RATE: "0.3",
};

/** How a simulation goes. */
export interface SimulationOptions {
  /** Fixes what every run does; callers that call at once still come in any order. */
  readonly seed: number;
  /** Calls to make, at least; up to twice as many, as long as they did not reach everything. 0: one run. */
  readonly commandCount: number;
  /** The first run; the others come after it. Default 0. */
  readonly firstRun?: number;
  readonly onRun?: (index: number, commandCount: number) => void;
}

/** Steps of one run. */
const stepCount = 60;

/** How long a failed run is made smaller, in milliseconds. */
const shrinkMs = 30_000;

/** The steps of a run. */
export function stepsOf(seed: number, index: number): readonly Step[] {
  const shape = { minLength: stepCount, maxLength: stepCount, size: "max" } as const;
  const [steps] = fc.sample(fc.noBias(fc.array(stepArbitrary, shape)), { seed: seed * 10_007 + index, numRuns: 1 });
  return steps as readonly Step[];
}

/** Every other run has prices at the boundaries. */
function hasExtremes(index: number): boolean {
  return index % 2 === 1;
}

/** Makes runs until enough calls were made; returns how many. Throws with what repeats it when the model is contradicted. */
export async function simulate(subject: Subject, coverage: Coverage, options: SimulationOptions): Promise<number> {
  const { seed, commandCount, firstRun = 0, onRun } = options;
  let madeCount = 0;
  const isEnough = (): boolean => madeCount >= commandCount * (uncovered(coverage).length === 0 ? 1 : 2);
  let index = firstRun;
  do {
    const steps = stepsOf(seed, index);
    const { error, callCount } = await attempt(subject, coverage, steps, hasExtremes(index));
    if (error !== undefined) throw new Error(await explain(subject, coverage, { seed, index, steps, error }));
    madeCount += callCount;
    onRun?.(index, madeCount);
    index += 1;
  } while (!isEnough());
  return madeCount;
}

/** Takes the steps on a shop of their own. */
async function attempt(
  subject: Subject,
  coverage: Coverage,
  steps: readonly Step[],
  hasExtremes: boolean,
): Promise<{ readonly error: Error | undefined; readonly callCount: number }> {
  const faultCount = subject.faults.length;
  const run = await Run.start(subject, coverage, `model-${randomBytes(6).toString("hex")}`, hasExtremes);
  try {
    for (const step of steps) await run.step(step);
    await run.finish();
    return { error: undefined, callCount: run.callCount };
  } catch (error) {
    const calls = error instanceof Disagreement ? run.describeLast(12) : "";
    const told = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const text = error instanceof Disagreement ? error.message : told;
    const faults = subject.faults.slice(faultCount).map((line) => `\nthe server logged ${line}`);
    return { error: new Error(`${text}${calls}${faults.join("")}`), callCount: run.callCount };
  } finally {
    await run.close();
  }
}

interface Failure {
  readonly seed: number;
  readonly index: number;
  readonly steps: readonly Step[];
  readonly error: Error;
}

/** What failed, with the fewest steps that fail too, and how to repeat it. */
async function explain(subject: Subject, coverage: Coverage, failure: Failure): Promise<string> {
  const { seed, index, steps, error } = failure;
  const smallest = await shrink(subject, coverage, failure);
  const again =
    smallest === undefined
      ? "fewer steps did not fail"
      : `${smallest.steps.length} of ${steps.length} steps fail too:\n${smallest.error.message}\n${smallest.steps.map((step) => JSON.stringify(step)).join("\n")}`;
  return `seed ${seed}, run ${index}: ${error.message}\n\n${again}\n\nrepeat with: npm run model -- --seed ${seed} --run ${index}`;
}

/** Leaves out steps, in ever smaller pieces, then calls of steps, as long as the rest fails. Undefined: nothing could go. */
async function shrink(subject: Subject, coverage: Coverage, { index, steps, error: failed }: Failure) {
  const endsAt = performance.now() + shrinkMs;
  let smallest: { readonly steps: readonly Step[]; readonly error: Error } | undefined;
  let current = steps;
  const tryLess = async (less: readonly Step[]): Promise<boolean> => {
    if (performance.now() > endsAt || less.length === 0) return false;
    const { error } = await attempt(subject, coverage, less, hasExtremes(index));
    if (error === undefined || kindOf(error) !== kindOf(failed)) return false;
    current = less;
    smallest = { steps: less, error };
    return true;
  };
  for (let size = Math.ceil(current.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = current.length - size; from > -size; from -= size) {
      await tryLess(current.filter((_, at) => at < from || at >= from + size));
    }
  }
  for (let at = current.length - 1; at >= 0; at -= 1) {
    for (let index = callsOf(current[at]).length - 1; index >= 0; index -= 1) {
      const calls = callsOf(current[at]).filter((_, each) => each !== index);
      await tryLess(current.with(at, { kind: "calls", calls }));
    }
  }
  return smallest;
}

function callsOf(step: Step | undefined) {
  return step?.kind === "calls" ? step.calls : [];
}

/** What tells one failure from another while steps are left out: the RPC it begins with. */
function kindOf({ message }: Error): string | undefined {
  return /^\w+/.exec(message)?.[0];
}
