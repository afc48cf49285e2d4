import { parseArgs } from "node:util";
import { startStores } from "../../bench/stores.ts";
import { drawMutants } from "./draw.ts";
import { createJudge, type Judge, type Verdict } from "./judge.ts";
import { type MutantPatch, readPatches } from "./patches.ts";
import { copyTree } from "./tree.ts";

const usage = `usage: npm run mutants [-- --only NAME] [--random 5] [--seed S]

Breaks copies of the tree on purpose: with every patch of test/mutants/patches/, and at places drawn at random from lua/ and
src/shop/. A test has to fail on each. Fails when a mutant survives, a patch does not apply, or its tree does not start.
--only, which may be repeated, runs these patches and none at random; "random" names those drawn. A seed draws the same mutants from the same tree.
`;

/** Mutants that are judged at the same time. */
const parallelCount = 2;

/** Undefined for `--help`, and for options that do not exist. */
function parseOptions() {
  const options = {
    only: { type: "string", multiple: true },
    random: { type: "string" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    help: { type: "boolean" },
  } as const;
  try {
    const { only, random, seed, help } = parseArgs({ options }).values;
    const drawnCount = Number(random ?? (only === undefined || only.includes("random") ? 5 : 0));
    const patches = readPatches().filter(({ name }) => only === undefined || only.includes(name));
    const isRight = Number.isSafeInteger(drawnCount) && Number.isSafeInteger(Number(seed));
    const isKnown = (only ?? []).every((name) => name === "random" || patches.some((patch) => patch.name === name));
    return help === true || !isRight || !isKnown ? undefined : { patches, drawnCount, seed: Number(seed) };
  } catch {
    return undefined;
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Does something with all values, few at a time, in their order. */
async function forEachOf<Value>(values: Iterable<Value>, act: (value: Value) => Promise<void>): Promise<void> {
  const iterator = values[Symbol.iterator]();
  const work = async (): Promise<void> => {
    for (let next = iterator.next(); next.done !== true; next = iterator.next()) await act(next.value);
  };
  await Promise.all(Array.from({ length: parallelCount }, work));
}

/** Tells every verdict, and counts. */
class Tally {
  readonly #counts = new Map<Verdict["kind"], number>();

  async add(title: string, judging: () => Promise<Verdict>): Promise<Verdict> {
    const startedMs = performance.now();
    const verdict = await judging().catch((error: Error): Verdict => ({ kind: "invalid", text: error.message }));
    const seconds = Math.round((performance.now() - startedMs) / 1000);
    const line =
      verdict.kind === "killed" ? `killed by ${verdict.text}` : `${verdict.kind.toUpperCase()}: ${verdict.text}`;
    say(`${title}: ${line} in ${seconds} s`);
    this.#counts.set(verdict.kind, this.count(verdict.kind) + 1);
    return verdict;
  }

  count(kind: Verdict["kind"]): number {
    return this.#counts.get(kind) ?? 0;
  }
}

/** Looks first whether the tests of all patches pass without them, so that a failure means something. */
async function judgePatches(judge: Judge, patches: readonly MutantPatch[], tally: Tally): Promise<void> {
  const fit: MutantPatch[] = [];
  await forEachOf(patches, async (patch) => {
    const why = await judge.whyUnfit(patch).catch((error: Error) => error.message);
    if (why === undefined) fit.push(patch);
    else await tally.add(patch.name, async () => ({ kind: "invalid", text: why }));
  });
  await forEachOf(fit, async (patch) => {
    await tally.add(patch.name, () => judge.judgePatch(patch));
  });
}

/** Judges so many mutants that start; one that does not is replaced by the next. */
async function judgeDrawn(judge: Judge, seed: number, count: number, tally: Tally): Promise<void> {
  const drawn = drawMutants(seed);
  await forEachOf(Array.from({ length: count }), async () => {
    let kind: Verdict["kind"] = "dead";
    while (kind === "dead") {
      const mutant = drawn.next().value;
      const title = `${mutant.file}:${mutant.line} (${mutant.operator})`;
      ({ kind } = await tally.add(title, () => judge.judgeDrawn(mutant)));
      if (kind !== "killed") say(mutant.diff.replace(/^/gm, "  "));
    }
  });
}

async function main(): Promise<number> {
  const options = parseOptions();
  if (options === undefined) {
    process.stdout.write(usage);
    return process.argv.includes("--help") ? 0 : 1;
  }
  const { patches, drawnCount, seed } = options;
  const startedMs = performance.now();
  await using cleanUp = new AsyncDisposableStack();
  const { databaseUrl } = await startStores(cleanUp);
  const judge = createJudge(databaseUrl, cleanUp.use(copyTree()));
  const tally = new Tally();
  say(`${patches.length} patches, ${drawnCount} drawn with seed ${seed}`);
  await judgePatches(judge, patches, tally);
  await judgeDrawn(judge, seed, drawnCount, tally);
  const minutes = ((performance.now() - startedMs) / 60_000).toFixed(1);
  const [survivedCount, invalidCount] = [tally.count("survived"), tally.count("invalid")];
  say(
    `${tally.count("killed")} killed, ${tally.count("equivalent")} equivalent, ${survivedCount} survived, ${invalidCount} invalid in ${minutes} min`,
  );
  return survivedCount + invalidCount === 0 ? 0 : 1;
}

// What is left to remove is removed at the exit.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
process.exitCode = await main();
