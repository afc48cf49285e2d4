import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { baseEnvironment } from "./test/helpers/base-environment.ts";

/** Folders of tests that run whole programs, or servers in processes of their own, for long. */
const long = /\/test\/(chaos|abuse|crash|model|processes|bench|examples|workers)\//;

/** The large files come first, as Vitest has it, but not before those that take long whatever their size: none is left alone at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const bySize = await super.sort(files);
    return [true, false].flatMap((isLong) => bySize.filter(({ moduleId }) => long.test(moduleId) === isLong));
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/helpers/servers.ts"],
    pool: "forks",
    // Files share nothing but modules: each has its own stores. Loading those modules anew took a quarter of the time.
    isolate: false,
    // For what tests start with the environment that they have themselves.
    env: { NODE_COMPILE_CACHE: baseEnvironment.NODE_COMPILE_CACHE },
    // Every file drives its own Redis and shares one PostgreSQL. Three took as long on two cores (808 and 800 s for
    // everything), and their tests missed their times beside other work.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 15_000,
  },
});
