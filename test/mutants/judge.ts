import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { candidatesOf } from "./candidates.ts";
import type { Mutant } from "./draw.ts";
import { equivalents } from "./equivalents.ts";
import type { MutantPatch } from "./patches.ts";
import { type FailedTest, runTests, type TestResults, type TestSelection } from "./run-tests.ts";
import { whyDeadTree } from "./start.ts";
import { applyPatch, copyTree, type Tree } from "./tree.ts";

/** What became of a mutant. `invalid`: it says nothing, and that is a fault of the patch, the test or the machine. */
export interface Verdict {
  readonly kind: "killed" | "survived" | "equivalent" | "invalid" | "dead";
  /** Which test killed it, or what is wrong. */
  readonly text: string;
}

/** Judges mutants against one work tree. */
export interface Judge {
  /** What the tests of a patch do without the patch; undefined when they pass. */
  whyUnfit(patch: MutantPatch): Promise<string | undefined>;
  judgePatch(patch: MutantPatch): Promise<Verdict>;
  /** `dead`: the tree does not even start, draw another one. */
  judgeDrawn(mutant: Mutant): Promise<Verdict>;
}

/** Creates a judge; `postgresUrl` is a server on which it may create databases, `sound` an unchanged copy of the tree. */
export function createJudge(postgresUrl: string, sound: Tree): Judge {
  const soundRuns = new Map<string, Promise<TestResults>>();
  /** Runs tests without a mutant, each selection once. */
  const runSound = (selection: TestSelection): Promise<TestResults> => {
    const key = JSON.stringify(selection);
    const run = soundRuns.get(key) ?? runTests(sound.folder, selection);
    soundRuns.set(key, run);
    return run;
  };
  const passesSound = async ({ file, name }: FailedTest): Promise<boolean> =>
    (await runSound({ files: [file] })).passed.has(`${file} > ${name}`);

  return {
    whyUnfit: async (patch) => {
      const { failed, broken, passed } = await runSound(selectionOf(patch));
      const [first] = failed;
      if (first !== undefined) return `fails without the patch: ${first.name}: ${first.why}`;
      return broken[0] ?? (passed.size === 0 ? `${patch.testFile} has no test "${patch.testName ?? ""}"` : undefined);
    },
    judgePatch: async (patch) => {
      using tree = copyTree();
      const refusal = applyPatch(tree.folder, patch.path);
      if (refusal !== undefined) return { kind: "invalid", text: `does not apply: ${refusal}` };
      const dead = await whyDeadTree(tree.folder, postgresUrl, true);
      if (dead !== undefined) return { kind: "invalid", text: `does not start: ${dead}` };
      const { failed, broken } = await runTests(tree.folder, selectionOf(patch));
      const killer = failed.find((each) => !each.isTimeout);
      if (killer !== undefined) return killed(killer);
      return { kind: "survived", text: failed[0]?.why ?? broken[0] ?? patch.testFile };
    },
    judgeDrawn: async (mutant) => {
      using tree = copyTree();
      writeFileSync(join(tree.folder, mutant.file), mutant.code);
      const dead = await whyDeadTree(tree.folder, postgresUrl, false);
      if (dead !== undefined) return { kind: "dead", text: dead };
      const known = equivalents.find(({ file, diff }) => file === mutant.file && diff === mutant.diff);
      if (known !== undefined) return { kind: "equivalent", text: known.why };
      for (const files of candidatesOf(mutant.file)) {
        const killer = await firstKiller(tree, files);
        if (killer !== undefined) return killed(killer);
      }
      return { kind: "survived", text: "no test fails" };
    },
  };

  async function firstKiller(tree: Tree, files: readonly string[]): Promise<FailedTest | undefined> {
    const { failed } = await runTests(tree.folder, { files });
    for (const each of failed) {
      if (await passesSound(each)) return each;
    }
    return undefined;
  }
}

function selectionOf({ testFile, testName }: MutantPatch): TestSelection {
  return { files: [testFile], name: testName };
}

function killed({ file, name }: FailedTest): Verdict {
  return { kind: "killed", text: `${file} > ${name}` };
}
