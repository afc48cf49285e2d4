import { expect } from "vitest";
import { loadConfig } from "../../src/config.ts";

/** What deployments set that is no setting of Holdfast. */
const others = ["NODE_ENV", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS"];

/** Fails unless a server would start with these variables, and each is one it reads: one that it does not know it refuses. */
export function expectSettings(env: Readonly<Record<string, string>>): void {
  const settings = Object.keys(env).filter((name) => !others.includes(name));
  expect(settings.filter((name) => !/^(HOLDFAST_|STRIPE_)|^(REDIS|DATABASE)_URL$/.test(name))).toEqual([]);
  const config = loadConfig(env);
  expect(config.redisUrls.length, "a Redis is named").toBeGreaterThan(0);
  expect(config.databaseUrl, "a PostgreSQL is named").toBeDefined();
}
