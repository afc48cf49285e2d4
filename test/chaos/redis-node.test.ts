import { rm } from "node:fs/promises";
import { expect, test } from "vitest";
import { createTemporaryFolder } from "../helpers/servers.ts";
import { createRedisNode } from "./redis-node.ts";

test("a node that was killed leaves nothing to be done when this process ends", async () => {
  const folder = await createTemporaryFolder();
  const before = process.listenerCount("exit");
  const node = await createRedisNode(folder, "redis");
  await node.start("empty");
  expect(process.listenerCount("exit")).toBe(before + 1);
  await node.kill();
  expect(process.listenerCount("exit")).toBe(before);
  await rm(folder, { recursive: true });
});
