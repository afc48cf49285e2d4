import { chmod, rm } from "node:fs/promises";
import { expect, test } from "vitest";
import { createTemporaryFolder } from "../helpers/servers.ts";
import { runChaos } from "./run.ts";
import { singleFaults } from "./single-faults.ts";
import { startSingleWorld } from "./single-world.ts";

/** Draws sixteen different faults in its first eight rounds. */
const seed = 10_488;

test("eight rounds of broken servers, stores and networks lose, sell and charge nothing twice", async () => {
  const folder = await createTemporaryFolder();
  await chmod(folder, 0o711);
  const world = await startSingleWorld(folder, 2, {});
  const rounds: string[] = [];
  const say = (text: string): void => void rounds.push(text);
  try {
    await runChaos({ world, faults: singleFaults, seed, roundCount: 8, firstRound: 0, callerCount: 16, folder, say });
  } finally {
    await world.close();
    await rm(folder, { recursive: true, force: true });
  }
  expect(rounds).toHaveLength(8);
}, 180_000);
