import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startStores } from "../../bench/stores.ts";
import { crashFirstStart } from "./first-start.ts";
import { plansOf } from "./plans.ts";
import { openStage, type Stage } from "./stage.ts";
import { type Crew, crash, type Plan, replaceDead } from "./sweep.ts";

const usage = `usage: npm run crash [-- --points "flush: append,rebuild"] [--seed S]

Ends a server at every crash point of src/crash-point.ts, one after the other, while callers call it and another one, and
checks what is left. --points takes only the plans whose name contains one of these.
`;

/** Undefined for `--help`, and for options that do not exist. */
function parseOptions() {
  const options = {
    points: { type: "string", default: "" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    help: { type: "boolean" },
  } as const;
  try {
    const { points, seed, help } = parseArgs({ options }).values;
    const wanted = { points: points.split(",").map((each) => each.trim()), seed: Number(seed) };
    return help === true || !Number.isSafeInteger(wanted.seed) ? undefined : wanted;
  } catch {
    return undefined;
  }
}

function say(text: string): void {
  process.stderr.write(`crash: ${text}\n`);
}

async function crashOne(stage: Stage, crew: Crew, plan: Plan): Promise<void> {
  await replaceDead(stage, crew, plan.traps.length);
  await crash(stage, crew, plan);
}

async function main(): Promise<number> {
  const options = parseOptions();
  if (options === undefined) {
    process.stdout.write(usage);
    return process.argv.includes("--help") ? 0 : 1;
  }
  const { seed, points } = options;
  const plans = plansOf(seed).filter(({ name }) => points.some((each) => name.includes(each)));
  const cleanUp = new AsyncDisposableStack();
  const startedMs = performance.now();
  const failed: string[] = [];
  try {
    const folder = await mkdtemp(join(tmpdir(), "holdfast-crash-"));
    cleanUp.defer(() => rm(folder, { recursive: true, force: true }));
    const urls = await startStores(cleanUp);
    const stage = await openStage(urls);
    cleanUp.defer(() => stage.close());
    const crew: Crew = { rescuer: await stage.spawn(), victims: [] };
    say(`seed ${seed}, ${plans.length} plans`);
    for (const { name, plan, trap } of plans) {
      const beganMs = performance.now();
      const attempt = plan === undefined ? crashFirstStart(stage, folder, trap) : crashOne(stage, crew, plan);
      const error = await attempt.catch((reason: unknown) => reason);
      const seconds = ((performance.now() - beganMs) / 1000).toFixed(1);
      say(`${error === undefined ? "ok  " : "FAIL"} ${name} (${seconds} s)`);
      if (error !== undefined) {
        failed.push(name);
        // A trap that was not reached is still set, and would be during the next plan.
        for (const victim of crew.victims) victim.signal("SIGKILL");
        say(error instanceof Error ? (error.stack ?? error.message) : String(error));
      }
    }
  } finally {
    await cleanUp.disposeAsync();
  }
  const seconds = Math.round((performance.now() - startedMs) / 1000);
  process.stdout.write(`${plans.length} crashes with seed ${seed} in ${seconds} s, ${failed.length} failed\n`);
  return failed.length === 0 && plans.length > 0 ? 0 : 1;
}

process.exitCode = await main();
