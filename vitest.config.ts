import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/helpers/servers.ts"],
    pool: "forks",
    // Files share nothing but modules: each has its own stores. Loading those modules anew took a quarter of the time.
    isolate: false,
    // Every file drives its own Redis and shares one PostgreSQL: more workers than cores only make timings worse.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 15_000,
  },
});
