import { defineConfig } from "vitest/config";
import { baseEnvironment } from "./test/helpers/base-environment.ts";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/helpers/servers.ts"],
    pool: "forks",
    // Files share nothing but modules: each has its own stores. Loading those modules anew took a quarter of the time.
    isolate: false,
    // For what tests start with the environment that they have themselves.
    env: { NODE_COMPILE_CACHE: baseEnvironment.NODE_COMPILE_CACHE },
    // Every file drives its own Redis and shares one PostgreSQL: more workers than cores only make timings worse.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 15_000,
  },
});
