import { expect, test } from "vitest";
import { useStores } from "../helpers/use-holdfast.ts";
import { runAbuse } from "./run.ts";

const stores = useStores();

/** A smaller `npm run abuse`, without its times. */
const quick = {
  resetRapidly: { count: 1500, perSecond: 1500 },
  sendMutated: { count: 2000, perSecond: 1000 },
};
const slow = {
  connectSlowly: { count: 40, perSecond: 100 },
  neverRead: { count: 24, perSecond: 100 },
};

test.each([
  ["without TLS", { isTls: false, seed: 7, volumes: quick }],
  // The other door speaks HTTP/2 too then.
  ["over TLS", { isTls: true, seed: 8, volumes: { ...quick, ...slow } }],
])(
  "the doors outlive abuse %s, nobody is answered wrongly, and nothing of it stays",
  async (_, kind) => {
    const say = (): void => undefined;
    const options = { ...kind, urls: stores.urls, quietMs: 100, commitCount: 500, say };
    const { phases, before, after, exitCode, faults } = await runAbuse(options);

    expect([exitCode, faults]).toEqual([undefined, []]);
    expect(phases.map(({ name, wrong, failures }) => ({ name, wrong, failures }))).toEqual(
      Object.keys(kind.volumes).map((name) => ({ name, wrong: [], failures: [] })),
    );
    expect(after.socketCount).toBeLessThanOrEqual(before.socketCount);
    expect((after.usedBytes - before.usedBytes) / 1e6).toBeLessThan(100);
  },
  120_000,
);
