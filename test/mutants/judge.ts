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
  const soundRuns = new Map<string, Promise<TestResults | undefined>>();
  /** Runs tests without a mutant, each selection once. */
  const runSound = (selection: TestSelection): Promise<TestResults | undefined> => {
    const key = JSON.stringify(selection);
    const run = soundRuns.get(key) ?? runTests(sound.folder, selection);
    soundRuns.set(key, run);
    return run;
  };
  /** Runs them once more when they fail: on a busy machine a call may be refused that its test does not repeat. */
  const runFit = async (selection: TestSelection): Promise<TestResults | undefined> => {
    const results = await runSound(selection);
    return results === undefined || results.failed.length > 0 ? runTests(sound.folder, selection) : results;
  };
  const passesSound = async ({ file, name }: FailedTest): Promise<boolean> =>
    (await runSound({ files: [file] }))?.passed.has(`${file} > ${name}`) === true;

  return {
    whyUnfit: async (patch) => {
      const results = await runFit(selectionOf(patch));
      if (results === undefined) return "does not end without the patch";
      const { failed, broken, passed } = results;
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
      const results = await runTests(tree.folder, selectionOf(patch));
      if (results === undefined) return { kind: "survived", text: "the test does not end" };
      const { failed, broken } = results;
      const killer = failed.find((each) => !each.isTimeout);
      if (killer !== undefined) return { kind: "killed", text: titleOf(killer) };
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
        if (killer !== undefined) return { kind: "killed", text: killer };
      }
      return { kind: "survived", text: "no test fails" };
    },
  };

  /** Which of these tests fails, and does not without the mutant; or that they go on for ever, as they do not without it. */
  async function firstKiller(tree: Tree, files: readonly string[]): Promise<string | undefined> {
    const results = await runTests(tree.folder, { files });
    if (results === undefined) {
      return (await runSound({ files })) === undefined ? undefined : `${files.join(", ")}, which never end`;
    }
    for (const each of results.failed) {
      if (await passesSound(each)) return titleOf(each);
    }
    return undefined;
  }
}

function selectionOf({ testFile, testName }: MutantPatch): TestSelection {
  return { files: [testFile], name: testName };
}

function titleOf({ file, name }: FailedTest): string {
  return `${file} > ${name}`;
}
